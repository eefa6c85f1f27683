"""The route ``/image``: the query of a link → the PNG itself, for ``<img src>``, ``curl`` and other programs.

It needs no session and no queue of Gradio, so that an answer costs little beside the image.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qs, quote

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stackgan.app import painting
from stackgan.app.dynamic_batching import AT_ONCE
from stackgan.app.endpoints import FAILED
from stackgan.app.image_request import ImageRequest, drawn_seed
from stackgan.app.pipelines import Pipelines
from stackgan.generation.image_settings import read_link

__all__ = ["PATH", "image_route"]

PATH = "/image"
WAITING = 500  # requests that may wait; further ones are refused in words
DAY = 86400  # s


def image_route(pipes: Pipelines) -> Route:
    """``GET /image?caption=…`` with the fields of a link (:func:`~stackgan.generation.image_settings.read_link`).

    The answer is the PNG of the first image, with its settings as text chunks: of the finest stage without ``size``,
    with the recommended truncation without ``truncation``, of a new seed without ``seed``. Wrong values have status
    400, a checkpoint that is not here 404, no login 401, too many waiting requests 503, each with a sentence as
    ``{"error": …}``. A request whose client has left while it waited is not computed.
    """
    free, waiting = asyncio.Semaphore(AT_ONCE), 0

    async def answer(request: Request) -> Response:
        nonlocal waiting
        if not _logged_in(request):
            return _error(401, "log in first: this page has users")
        if waiting >= WAITING:
            return _error(503, f"{waiting} requests are waiting: try again later", {"Retry-After": "2"})
        waiting += 1
        try:
            async with free:
                if await request.is_disconnected():
                    return Response(status_code=499)
                return await run_sync(partial(_image, pipes, request.url.query))
        finally:
            waiting -= 1

    return Route(PATH, answer, methods=["GET"], include_in_schema=False)


def _image(pipes: Pipelines, query: str) -> Response:
    try:
        settings, _ = read_link(query)
        name, made = pipes.name_of(settings)
        if made is not None:
            return _error(
                404, f"The image was made with {made}, which is not here: choose {' or '.join(pipes.names)}."
            )
        pipe = pipes[name]
        drawn = "seed" not in parse_qs(query)
        asked = replace(
            ImageRequest.of(settings, 1, pipe),
            size=pipe.sizes[-1] if settings.size is None else settings.size,
            seed=drawn_seed() if drawn else settings.seed,
        )
        result = painting.generate(pipe, asked)
    except ValueError as error:
        return _error(400, str(error))
    except Exception:
        logging.exception("%s failed", PATH)
        return _error(500, FAILED)
    image = result.images[0]
    named = bool(settings.fingerprint) and not drawn  # the image of this address never changes
    headers = {
        "Cache-Control": f"private, max-age={DAY}, immutable" if named else "no-store" if drawn else "no-cache",
        "Content-Disposition": f"inline; filename*=utf-8''{quote(image.name)}.png",
    }
    return Response(painting.png_bytes(image, 0, result.truncation, result.checkpoint), 200, headers, "image/png")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, {"Cache-Control": "no-store"} | (headers or {}))


def _logged_in(request: Request) -> bool:
    """Whether Gradio's cookie is that of a user; always if the page has none."""
    app = request.app
    if app.auth is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(name) in app.tokens for name in names)

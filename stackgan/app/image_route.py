"""The route ``/image``: the query of a link → the PNG itself, for ``<img src>``, ``curl`` and other programs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qs, quote

from starlette.responses import Response
from starlette.routing import Route

from stackgan.app import painting
from stackgan.app.direct_routes import DirectRoutes, error_response
from stackgan.app.endpoints import FAILED
from stackgan.app.image_request import ImageRequest, drawn_seed
from stackgan.app.pipelines import Pipelines
from stackgan.generation.image_settings import read_link

__all__ = ["PATH", "image_route"]

PATH = "/image"
DAY = 86400  # s


def image_route(pipes: Pipelines, routes: DirectRoutes) -> Route:
    """``GET /image?caption=…`` with the fields of a link (:func:`~stackgan.generation.image_settings.read_link`).

    The answer is the PNG of the first image, with its settings as text chunks: of the finest stage without ``size``,
    with the recommended truncation without ``truncation``, of a new seed without ``seed``. Wrong values have status
    400, a checkpoint that is not here 404, each with a sentence as ``{"error": …}``.
    """
    return routes.route("GET", PATH, partial(_image, pipes))


def _image(pipes: Pipelines, query: str, current: Callable[[], bool]) -> Response:
    try:
        settings, _ = read_link(query)
        name, made = pipes.name_of(settings)
        if made is not None:
            return error_response(
                404, f"The image was made with {made}, which is not here: choose {' or '.join(pipes.names)}."
            )
        pipe = pipes[name]
        drawn = "seed" not in parse_qs(query)
        asked = replace(
            ImageRequest.of(settings, 1, pipe),
            size=pipe.sizes[-1] if settings.size is None else settings.size,
            seed=drawn_seed() if drawn else settings.seed,
        )
        result = painting.generate(pipe, asked, current)
    except ValueError as error:
        return error_response(400, str(error))
    except painting.OutOfDate:
        return Response(status_code=499)
    except Exception:
        logging.exception("%s failed", PATH)
        return error_response(500, FAILED)
    image = result.images[0]
    named = bool(settings.fingerprint) and not drawn  # the image of this address never changes
    headers = {
        "Cache-Control": f"private, max-age={DAY}, immutable" if named else "no-store" if drawn else "no-cache",
        "Content-Disposition": f"inline; filename*=utf-8''{quote(image.name)}.png",
    }
    return Response(painting.png_bytes(image, 0, result.truncation, result.checkpoint), 200, headers, "image/png")

"""Routes that generate images outside Gradio's queue: they need no session, and cost little beside the images.

At most :data:`AT_ONCE` requests of all of them are answered at a time, so that their images form batches.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stackgan.app.dynamic_batching import AT_ONCE

__all__ = ["Answer", "DirectRoutes", "error_response"]

WAITING = 500  # requests that may wait; further ones are refused in words
MAX_BODY = 2**16  # bytes; a caption of 2,000 characters has up to 24,000, and the images shown another

# (query of a link, whether the client still waits) -> the answer; called in a thread.
Answer = Callable[[str, Callable[[], bool]], Response]


class DirectRoutes:
    """Routes with a limit in common.

    Requests without a login on a page with users have status 401, those beyond :data:`WAITING` 503, each with a
    sentence as ``{"error": …}``. A request whose client has left while it waited is not computed.
    """

    def __init__(self) -> None:
        self._free, self._waiting = asyncio.Semaphore(AT_ONCE), 0
        self._threads = ThreadPoolExecutor(AT_ONCE, "request")

    def route(self, method: str, path: str, answer: Answer) -> Route:
        """A route whose answer depends on the query of a GET, or on the body of a POST, a query of up to 64 KiB."""
        return Route(path, partial(self._respond, answer), methods=[method], include_in_schema=False)

    async def _respond(self, answer: Answer, request: Request) -> Response:
        if not _logged_in(request):
            return error_response(401, "log in first: this page has users")
        if self._waiting >= WAITING:
            message = f"{self._waiting} requests are waiting: try again later"
            return error_response(503, message, {"Retry-After": "2"})
        self._waiting += 1
        left = threading.Event()
        leaving = None
        try:
            query = await _body(request) if request.method == "POST" else request.url.query
            if query is None:
                return error_response(413, f"the request is longer than {MAX_BODY} bytes")
            leaving = asyncio.ensure_future(_notice(request, left))
            async with self._free:
                await asyncio.sleep(0)  # so that a client that has left by now is noticed
                if left.is_set():
                    return Response(status_code=499)
                return await self._compute(answer, query, lambda: not left.is_set())
        finally:
            self._waiting -= 1
            if leaving is not None:
                leaving.cancel()

    async def _compute(self, answer: Answer, query: str, current: Callable[[], bool]) -> Response:
        return await asyncio.get_running_loop().run_in_executor(self._threads, answer, query, current)


async def _notice(request: Request, left: threading.Event) -> None:
    """Set ``left`` when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    left.set()


async def _body(request: Request) -> str | None:
    """The body as text; None if it is too long."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            return None
    return content.decode(errors="replace")


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, {"Cache-Control": "no-store"} | (headers or {}))


def _logged_in(request: Request) -> bool:
    """Whether Gradio's cookie is that of a user; always if the page has none."""
    app = request.app
    if app.auth is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(name) in app.tokens for name in names)

"""The route ``/live``: the query of a link → the gallery's value, while a visitor types or changes a setting.

The page asks twice, first for the coarsest stage, and stops asking when there is a newer change.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stackgan.app import painting
from stackgan.app.direct_routes import DirectRoutes
from stackgan.app.gallery import result_value
from stackgan.app.image_request import ImageRequest
from stackgan.app.pipelines import Pipelines
from stackgan.generation.image_settings import read_link

__all__ = ["PATH", "live_route"]

PATH = "/live"
NOTHING = 204  # status: there is nothing new to show


def live_route(pipes: Pipelines, routes: DirectRoutes) -> Route:
    """``POST /live`` with the fields of a link, and two more; the answer is the gallery's value as JSON.

    With ``preview`` the images have the coarsest stage only, if the tree has several. ``shown`` is the query of the
    images that the gallery shows: nothing is generated (status 204) for the same ones, nor for values that are not
    valid (yet), which the button reports.
    """
    return routes.route("POST", PATH, partial(_live, pipes))


def _live(pipes: Pipelines, query: str, current: Callable[[], bool]) -> Response:
    result = _result(pipes, query, current)
    if result is None:
        return Response(status_code=NOTHING)
    return JSONResponse(result_value(result, live=True), headers={"Cache-Control": "no-store"})


def _result(pipes: Pipelines, query: str, current: Callable[[], bool]) -> painting.GenerationResult | None:
    try:
        settings, count = read_link(query)
        name, made = pipes.name_of(settings)
        pipe = pipes[name]
    except ValueError:
        return None
    if made is not None:  # by another checkpoint
        return None
    fields, request = parse_qs(query), ImageRequest.of(settings, count, pipe)
    return painting.generate_live(pipe, request, fields.get("shown", [""])[0], "preview" in fields, current)

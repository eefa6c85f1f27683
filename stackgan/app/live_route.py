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
    return routes.post(PATH, partial(_live, pipes))


def _live(pipes: Pipelines, query: str, current: Callable[[], bool]) -> Response:
    try:
        settings, count = read_link(query)
        name, made = pipes.name_of(settings)
        if made is not None:
            return Response(status_code=NOTHING)
        pipe, fields = pipes[name], parse_qs(query)
    except ValueError:
        return Response(status_code=NOTHING)
    request = ImageRequest.of(settings, count, pipe)
    shown = fields.get("shown", [""])[0]
    result = painting.generate_live(pipe, request, shown, "preview" in fields, current)
    if result is None:
        return Response(status_code=NOTHING)
    return JSONResponse(result_value(result, live=True), headers={"Cache-Control": "no-store"})

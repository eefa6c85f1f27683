"""The route /live: the gallery's value of a query, nothing for what is shown or not valid, clients that leave."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from stackgan.app import direct_routes, painting
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS

QUERY = {"caption": f" {CAPTIONS[0]}  ", "seed": 3, "count": 2, "truncation": 0.5}


@pytest.fixture(scope="module")
def http(studio: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=studio, trust_env=False, timeout=60) as client:
        yield client


def pixels(value: dict[str, Any], stage: int) -> list[bytes]:
    found = []
    for card in value["images"]:
        content = base64.b64decode(card["stages"][stage]["file"]["url"].partition("base64,")[2])
        with Image.open(io.BytesIO(content)) as image:
            found.append(image.tobytes())
    return found


def test_the_value_has_the_images_of_the_query(http: httpx.Client, pipe: StackGANPipeline) -> None:
    wanted = pipe(CAPTIONS[0], seeds=[3, 4], truncation=0.5, batch_size=1).stages
    early = http.post("/live", data=QUERY | {"preview": 1}).raise_for_status().json()
    assert early["preview"] and early["live"] and pixels(early, -1) == [image.tobytes() for image in wanted[0]]
    late = http.post("/live", data=QUERY | {"shown": ""}).raise_for_status().json()
    assert not late["preview"] and [card["seed"] for card in late["images"]] == ["3", "4"]
    for stage, images in enumerate(wanted):
        assert pixels(late, stage) == [image.tobytes() for image in images]
    assert http.post("/live", data=QUERY | {"shown": late["query"], "preview": 1}).status_code == 204
    changed = http.post("/live", data=QUERY | {"shown": late["query"], "seed": 4})
    assert changed.json()["query"] == late["query"].replace("seed=3", "seed=4")
    varied = QUERY | {"variation": 2, "strength": 0.3, "size": 64, "preview": 1}
    value = http.post("/live", data=varied).json()
    assert not value["preview"], "there is one stage"
    wanted = pipe(CAPTIONS[0], seeds=3, truncation=0.5, size=64, variation=(2, 0.3)).stages
    assert pixels(value, 0)[0] == wanted[0][0].tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"caption": " "},
        {"caption": "a" * 2001},
        {"caption": "a\0b"},
        {"seed": "x"},
        {"seed": "1.5"},
        {"seed": -1},
        {"count": 17},
        {"truncation": "nan"},
        {"strength": 2, "variation": 1},
        {"variation": "null", "strength": 0.5},
        {"checkpoint": "none"},
        {"fingerprint": "0123456789ab"},
        {f"f{n}": 1 for n in range(40)},
    ],
)
def test_what_is_not_valid_yet_is_nothing(
    http: httpx.Client, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    answer = http.post("/live", data=QUERY | change)
    assert answer.status_code == 204 and not answer.content and not caplog.text


def test_other_requests_are_refused(http: httpx.Client) -> None:
    assert http.get("/live", params=QUERY).status_code == 405
    long = http.post("/live", content=b"caption=" + b"a" * direct_routes.MAX_BODY)
    assert long.status_code == 413 and "65536 bytes" in long.json()["error"]
    assert http.post("/live", content=b"caption=%ff\xff&seed=1&count=1").status_code == 200, "as any text"


def test_work_for_a_client_that_left_stops(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a visitor types on: the browser closes the connection of the request before."""
    started, stopped = threading.Event(), threading.Event()

    def generate(pipe: StackGANPipeline, request: object, current: Callable[[], bool]) -> object:
        started.set()
        for _ in range(3000):
            if not current():
                stopped.set()
                raise painting.OutOfDate
            threading.Event().wait(0.01)
        raise AssertionError("the client is still there")

    monkeypatch.setattr(painting, "generate", generate)
    with pytest.raises(httpx.ReadTimeout):
        http.post("/live", data=QUERY, timeout=httpx.Timeout(5, read=0.05))
    assert started.wait(30) and stopped.wait(30)

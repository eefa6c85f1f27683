"""The route /image: a PNG of each link, errors in words, many clients at once, clients that leave."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette

from stackgan.app import direct_routes as module
from stackgan.app.direct_routes import DirectRoutes
from stackgan.app.image_route import image_route
from stackgan.app.pipelines import Pipelines
from stackgan.generation.image_settings import ImageSettings, link_query, read_png
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS, tiny_pipeline


@pytest.fixture(scope="module")
def http(studio: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=studio, trust_env=False, timeout=60) as client:
        yield client


def settings_of(content: bytes, folder: Path) -> ImageSettings:
    file = folder / "image.png"
    file.write_bytes(content)
    return read_png(file)


def test_a_link_of_the_page_is_an_image(
    http: httpx.Client, pipe: StackGANPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "fingerprint", "f" * 64)
    settings = ImageSettings(CAPTIONS[0], 7, 0.5, pipe.fingerprint, pipe.name, 64, (3, 0.4))
    answer = http.get(f"/image?{link_query(settings, count=4)}").raise_for_status()
    assert answer.headers["content-type"] == "image/png" and "immutable" in answer.headers["cache-control"]
    assert settings_of(answer.content, tmp_path) == settings
    with Image.open(io.BytesIO(answer.content)) as image:
        wanted = pipe(CAPTIONS[0], seeds=7, truncation=0.5, size=64, variation=(3, 0.4))
        assert image.tobytes() == wanted.images[0].tobytes()


def test_what_is_left_out_is_the_default(http: httpx.Client, pipe: StackGANPipeline, tmp_path: Path) -> None:
    answers = [http.get("/image", params={"caption": "a rare bird, né"}).raise_for_status() for _ in range(2)]
    first, second = (settings_of(answer.content, tmp_path) for answer in answers)
    assert (first.caption, first.truncation, first.size) == ("a rare bird, né", pipe.truncation, pipe.sizes[-1])
    assert first.seed != second.seed, "drawn"
    assert answers[0].headers["cache-control"] == "no-store"
    again = http.get("/image", params={"caption": first.caption, "seed": first.seed}).raise_for_status()
    assert again.content == answers[0].content and again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("", 400, "Write a caption first"),
        ("caption=%20", 400, "Write a caption first"),
        (f"caption={'a' * 2001}", 400, "2001 characters"),
        ("caption=a&seed=x", 400, "the seed is 'x'"),
        ("caption=a&seed=-1", 400, "the seed is -1"),
        ("caption=a&truncation=3", 400, "the truncation is 3"),
        ("caption=a&truncation=nan", 400, "the truncation is 'nan'"),
        ("caption=a&size=63", 400, "The size is 63 px: this checkpoint has 64, 128"),
        ("caption=a&variation=1&strength=2", 400, "the variation strength is 2"),
        ("&".join(f"f{n}=1" for n in range(40)), 400, "the link cannot be read"),
        ("caption=a&checkpoint=none", 404, "made with none, which is not here: choose"),
        ("caption=a&fingerprint=0123456789ab", 404, "which is not here"),
    ],
)
def test_errors_are_words(http: httpx.Client, query: str, status: int, message: str) -> None:
    answer = http.get(f"/image?{query}")
    assert answer.status_code == status and message in answer.json()["error"]


def test_other_methods_are_refused(http: httpx.Client) -> None:
    assert http.post("/image?caption=a").status_code == 405
    assert http.head("/image?caption=a+bird&seed=1&size=64").status_code == 200


def test_many_clients_get_their_own_images(http: httpx.Client, pipe: StackGANPipeline, tmp_path: Path) -> None:
    def ask(seed: int) -> bytes:
        return (
            http.get("/image", params={"caption": CAPTIONS[0], "seed": seed, "size": 64}).raise_for_status().content
        )

    with ThreadPoolExecutor(24) as clients:
        contents = list(clients.map(ask, range(48)))
    wanted = pipe(CAPTIONS[0], seeds=list(range(48)), size=64, truncation=pipe.truncation).images
    for seed, content in enumerate(contents):
        with Image.open(io.BytesIO(content)) as image:
            assert image.tobytes() == wanted[seed].tobytes()
        assert settings_of(content, tmp_path).seed == seed


def test_clients_that_left_are_not_computed_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests at a time, two more may wait: of five the last is refused; one that left is not computed."""
    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(module, "WAITING", 4)
    computed: list[str] = []

    async def run() -> list[int]:
        release = asyncio.Event()

        async def compute(routes: DirectRoutes, answer: object, query: str, current: object) -> object:
            computed.append(query)
            await release.wait()
            return module.Response(query)

        monkeypatch.setattr(DirectRoutes, "_compute", compute)
        app = Starlette(routes=[image_route(Pipelines(tiny_pipeline(stages=1)), DirectRoutes())])
        app.auth = None  # type: ignore[attr-defined]

        async def ask(query: str, left: bool = False) -> int:
            status = []

            async def receive() -> dict[str, str]:
                if not left:
                    await asyncio.Event().wait()
                return {"type": "http.disconnect"}

            async def send(message: dict[str, object]) -> None:
                status.append(message.get("status"))

            scope = {"type": "http", "method": "GET", "path": "/image", "query_string": query.encode(), "headers": []}
            await app(scope | {"app": app}, receive, send)  # type: ignore[arg-type]
            return int(str(status[0]))

        first = [asyncio.ensure_future(ask(query, query == "c")) for query in ("a", "b", "c", "d")]
        while len(computed) < 2:
            await asyncio.sleep(0)
        refused = await ask("e")
        release.set()
        return [*await asyncio.gather(*first), refused]

    with ThreadPoolExecutor(1) as thread:  # Playwright's event loop may run in this one
        assert thread.submit(asyncio.run, run()).result() == [200, 200, 499, 200, 503]
    assert computed == ["a", "b", "d"]

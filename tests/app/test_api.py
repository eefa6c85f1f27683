"""The page's API as its clients see it: image files, settings, and words for what is wrong."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from stackgan.generation.image_settings import read_link, read_png
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS


@pytest.fixture(scope="module")
def client(studio: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(
        studio, download_files=tmp_path_factory.mktemp("downloads"), verbose=False, analytics_enabled=False
    )
    yield client
    client.close()


def test_files_and_their_settings(client: Client, pipe: StackGANPipeline) -> None:
    files, details = client.predict(caption=CAPTIONS[0], count=2, seed=7, truncation=0.5, api_name="/paint")
    assert [Path(file).suffix for file in files] == [".png", ".png"] and details["seeds"] == [7, 8]
    for file, seed in zip(files, (7, 8), strict=True):
        with Image.open(file) as image:
            assert image.tobytes() == pipe(CAPTIONS[0], seeds=seed, truncation=0.5).images[0].tobytes()
        assert (read_png(file).caption, read_png(file).seed) == (CAPTIONS[0], seed)
    settings, count = read_link(details["query"])
    assert (settings.caption, settings.seed, settings.truncation, count) == (CAPTIONS[0], 7, 0.5, 2)


def test_what_is_left_out_is_the_default(client: Client, pipe: StackGANPipeline) -> None:
    first, second = (client.predict(caption="a zebra", api_name="/paint") for _ in range(2))
    assert len(first[0]) == 4 and first[1]["truncation"] == pipe.truncation
    assert first[1]["seeds"] != second[1]["seeds"], "drawn"
    assert first[1]["warnings"] == ['Unknown word "zebra": no training caption has it.']
    with Image.open(first[0][0]) as image:
        assert image.width == pipe.sizes[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Write a caption first"),
        ({"caption": "a bird", "count": 99}, "The number of images is 99: the largest is 16"),
        ({"caption": "a bird", "seed": -1}, "The seed is -1"),
        ({"caption": "a bird", "truncation": 3}, "The variety is 3"),
        ({"caption": "a bird", "size": 63}, "The size is 63 px: this checkpoint has 64, 128"),
        ({"caption": "a bird", "checkpoint": "none"}, "There is no checkpoint 'none' here"),
    ],
)
def test_errors_are_words(client: Client, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(AppError, match=message):
        client.predict(**arguments, api_name="/paint")


def test_missing_arguments_of_a_plain_request_are_named(studio: str) -> None:
    with httpx.Client(base_url=studio, trust_env=False, timeout=60) as http:
        event = http.post("/gradio_api/call/paint", json={"data": []}).raise_for_status().json()["event_id"]
        answer = http.get(f"/gradio_api/call/paint/{event}").text
    assert "event: error" in answer and "enough input values" in answer and '"error": null' not in answer


def test_the_example_of_the_readme_runs(studio: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).resolve().parents[2] / "stackgan" / "app" / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    names: dict[str, object] = {}
    exec(example.replace("http://127.0.0.1:7860", studio), names)
    files, settings = names["files"], names["settings"]
    assert isinstance(files, list) and isinstance(settings, dict)
    assert len(files) == 2 and settings["seeds"] == [7, 8]

"""The batch tab in a browser, and as a function of the API."""

import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, expect

from stackgan.app import batches
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, PHONE, Visitor
from tests.tiny import CAPTIONS


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A batch waits after every chunk until this is set; each chunk is reported."""
    gate, real = threading.Event(), batches.generate_batch

    def held(*args: Any, **options: Any) -> Iterator[list[dict[str, Any]]]:
        with closing(real(*args, **options)) as chunks:
            for records in chunks:
                yield records
                assert gate.wait(30)

    monkeypatch.setattr(batches, "generate_batch", held)
    monkeypatch.setattr(batches, "UPDATE_SECONDS", 0)
    yield gate
    gate.set()


def test_browser_batch_from_pasted_captions_to_files(
    chromium: Browser, studio: str, gate: threading.Event, tmp_path: Path
) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    page = visitor.page
    page.get_by_role("tab", name="Batch").click()
    box = page.get_by_role("textbox", name="Captions, one on each line")
    start, cancel = (page.get_by_role("button", name=name) for name in ("Generate all", "Cancel"))
    box.fill("\n".join(CAPTIONS))
    page.get_by_role("spinbutton", name="Images per caption").fill("5")
    expect(cancel).to_be_disabled()
    start.click()
    title = page.locator(".batch h2")
    expect(title).to_have_text("4 of 20 images")
    assert page.get_by_role("progressbar", name="Images").get_attribute("value") == "4"
    expect(page.get_by_role("img", name=CAPTIONS[0])).to_have_count(4)
    expect(start).to_be_disabled()
    cancel.click()
    expect(page.get_by_role("button", name="Cancelling …")).to_be_disabled()
    gate.set()
    expect(title).to_contain_text("Cancelled: 4 of 20 images")  # without the chunk that was in progress
    assert _names(visitor, tmp_path)[1] == 4
    expect(start).to_be_enabled()
    expect(cancel).to_be_disabled()

    box.fill("")
    start.click()
    expect(page.locator(".toast-body")).to_contain_text(
        "Write captions, one on each line, or choose a captions file."
    )
    file = tmp_path / "birds.csv"
    file.write_text(f"caption,seed\n{CAPTIONS[0]},7\n{CAPTIONS[1]},x\na red <b>zebra</b>,\n", "utf-8")
    page.locator("#batch-file input[type=file]").set_input_files(file)
    expect(page.get_by_text("birds.csv")).to_be_visible()
    start.click()
    expect(title).to_contain_text("10 images in")
    expect(page.locator(".batch .notice").first).to_contain_text("Line 3: seed is 'x': it must be an integer")
    expect(page.get_by_role("img", name="a red <b>zebra</b>")).to_have_count(5)
    names, images = _names(visitor, tmp_path)
    assert images == 10 and {"manifest.jsonl", "rejects.jsonl", "metadata.jsonl", "grid.png"} <= names
    with page.expect_download() as download:
        page.get_by_role("link", name="save rejects.jsonl").click()
    assert json.loads(download.value.path().read_text("utf-8"))["line"] == 3
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert visitor.fits()
    visitor.close()


def _names(visitor: Visitor, folder: Path) -> tuple[set[str], int]:
    """Names in the ZIP, and the number of images in its manifest, all of which it has."""
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="Save all (ZIP)").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        names = set(archive.namelist())
        listed = [json.loads(line)["file"] for line in archive.read("manifest.jsonl").splitlines()]
    assert set(listed) <= names
    return names, len(listed)


def test_the_api_returns_files_and_raises_words(studio: str, pipe: StackGANPipeline, tmp_path: Path) -> None:
    file = tmp_path / "birds.jsonl"
    file.write_text(json.dumps({"text": CAPTIONS[0], "seed": 5}) + "\n", "utf-8")
    client = Client(studio, verbose=False, download_files=tmp_path / "downloads")
    archive, manifest = client.predict(handle_file(file), "", 2, 0, 0.5, 64, api_name="/batch")
    records = [json.loads(line) for line in Path(manifest).read_text("utf-8").splitlines()]
    assert [(record["seed"], record["truncation"], record["size"]) for record in records] == [
        (5, 0.5, 64),
        (6, 0.5, 64),
    ]
    with zipfile.ZipFile(archive) as stream:
        assert {record["file"] for record in records} <= set(stream.namelist())
    with pytest.raises(AppError, match=r"^Write captions, one on each line, or choose a captions file\.$"):
        client.predict(None, "", 2, 0, 0.5, 64, api_name="/batch")

"""The grid tab in a browser, and its function of the API."""

import re
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.app.browser import DESKTOP, PHONE, Visitor, caption_box, seed_box
from tests.tiny import CAPTIONS


def test_browser_grid(chromium: Browser, studio: str) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    page = visitor.page
    page.get_by_role("tab", name="Grid").click()
    save = page.get_by_role("button", name="Save grid (PNG)")
    expect(save).to_be_enabled()  # painted without a click
    captions = page.get_by_role("textbox", name="Captions, one on each line")
    captions.fill(f"{CAPTIONS[2]}\n{CAPTIONS[3]}")
    expect(page.get_by_role("rowheader")).to_have_text([CAPTIONS[2], CAPTIONS[3]])
    page.get_by_role("textbox", name="Seeds").fill("5, 7")
    expect(page.get_by_role("columnheader")).to_have_text(["seed 5", "seed 7"])
    expect(save).to_be_enabled()
    widths = page.eval_on_selector_all(".grid td img", "all => all.map(image => image.naturalWidth)")
    assert widths == [128] * 4
    with page.expect_download() as download:
        save.click()
    with Image.open(download.value.path()) as sheet:
        assert sheet.format == "PNG" and sheet.text["seeds"] == "5, 7"
    assert download.value.suggested_filename == "grid_2x2.png"

    page.get_by_role("combobox", name="Across (X)").click()
    page.get_by_role("option", name="Captions").click()
    expect(page.get_by_role("option")).to_have_count(0)  # its list is closed
    expect(page.get_by_role("status").filter(has_text="Captions go both across and down")).to_be_visible()
    page.get_by_role("combobox", name="Down (Y)").click()
    page.get_by_role("option", name="Seeds").click()
    expect(page.get_by_role("rowheader")).to_have_text(["seed 5", "seed 7"])
    expect(save).to_be_enabled()
    cell = page.get_by_role("button", name=re.compile(f"Enlarge: {CAPTIONS[3]}, seed 7, variety"))
    cell.focus()
    page.keyboard.press("Enter")
    large = page.get_by_role("dialog")
    expect(large.get_by_role("img", name=re.compile(f"^{CAPTIONS[3]}, seed 7"))).to_be_visible()
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert visitor.fits()
    large.get_by_role("button", name="Open in Generate").click()
    expect(caption_box(visitor)).to_have_value(CAPTIONS[3])
    expect(seed_box(visitor)).to_have_value("7")
    expect(page.locator("#gallery h2")).to_have_text(re.compile(r"^1 image in \d"))
    visitor.close()


def test_the_api_returns_a_png_and_raises_words(studio: str, tmp_path: Path) -> None:
    client = Client(studio, verbose=False, download_files=tmp_path)
    file = client.predict(CAPTIONS[0], "1-2", "1", "Seeds", "Captions", api_name="/grid")
    with Image.open(file) as sheet:
        assert sheet.format == "PNG"
    with pytest.raises(AppError, match="more than 64 seeds"):
        client.predict(CAPTIONS[0], "1-100", "1", "Seeds", "Captions", api_name="/grid")

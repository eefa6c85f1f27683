"""The video tab in a browser, and its function of the API."""

import io
import re
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, expect

from stackgan.images import video
from tests.app.browser import DESKTOP, PHONE, Visitor
from tests.tiny import CAPTIONS


def test_browser_blend_and_video(
    chromium: Browser, studio: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    page = visitor.page
    page.get_by_role("tab", name="Video").click()
    blend = page.locator("#walk-blend img")
    expect(blend).to_have_attribute("alt", re.compile("^50 % of the way from "))  # without a click
    position = page.get_by_role("slider", name=re.compile("Position"))
    position.focus()
    for share in (51, 52):
        page.keyboard.press("ArrowRight")
        expect(blend).to_have_attribute("alt", re.compile(f"^{share} % of the way from "))
    page.get_by_role("textbox", name="To").fill(CAPTIONS[3])
    page.get_by_role("spinbutton", name="Seed of the second image").fill("7")
    expect(page.get_by_role("img", name=re.compile(f"to {CAPTIONS[3]}, seed 7$"))).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="save this image").click()
    with Image.open(io.BytesIO(Path(download.value.path()).read_bytes())) as saved:
        assert saved.size == (128, 128) and saved.text["position"] == "0.52"
    page.get_by_role("textbox", name="From").fill("")
    expect(page.get_by_role("status").filter(has_text="the first of the two is empty")).to_be_visible()
    page.get_by_role("textbox", name="From").fill(CAPTIONS[0])
    expect(blend).to_be_visible()

    page.get_by_role("spinbutton", name="Images of the video").fill("4")
    page.get_by_role("radio", name="WebP").check()
    make = page.get_by_role("button", name="Make the video")
    make.click()
    with page.expect_download() as download:
        page.get_by_role("link", name="save WebP").click()
    assert download.value.suggested_filename == "interpolation.webp"
    page.wait_for_function("[...document.querySelectorAll('#walk-result img')].every(i => i.naturalWidth > 64)")
    monkeypatch.setattr(video, "find_spec", lambda name: None)  # without the package
    page.get_by_role("radio", name="MP4").check()
    make.click()
    expect(page.locator(".toast-body")).to_contain_text('pip install "stackgan[video]"')
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert visitor.fits()
    visitor.close()


def test_the_api_returns_a_video_and_raises_words(studio: str, tmp_path: Path) -> None:
    client = Client(studio, verbose=False, download_files=tmp_path)
    film, row = client.predict(CAPTIONS[0], 1, CAPTIONS[1], 2, 3, 1, ".gif", api_name="/walk")
    with Image.open(film) as shown:
        assert shown.format == "GIF" and shown.n_frames == 4
    assert Path(row).suffix == ".png"
    with pytest.raises(AppError, match="the second of the two is empty"):
        client.predict(CAPTIONS[0], 1, "", 2, 3, 1, ".gif", api_name="/walk")

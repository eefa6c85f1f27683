"""The photo tab in a browser, its example photos, and its function of the API."""

from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, expect

from data_prep.painted import caption_colours
from stackgan.app.tabs.photo import EXAMPLE_PHOTOS, example_photos
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, PHONE, Visitor, launched
from tests.tiny import CAPTIONS


def test_browser_edits_a_photo(chromium: Browser, able: StackGANPipeline, photo: Path, tmp_path: Path) -> None:
    with launched(able) as url:
        visitor = Visitor(chromium, url, DESKTOP)
        page = visitor.page
        page.get_by_role("tab", name="Photo").click()
        page.locator("#photo input[type=file]").set_input_files(photo)
        expect(page.get_by_role("status").filter(has_text="Describe the photo")).to_be_visible()
        page.get_by_role("textbox", name="Caption of the photo").fill(CAPTIONS[0])
        boundary = page.get_by_role("slider", name="Share of the photo, left of: Reconstruction")
        expect(boundary).to_have_value("50")
        boundary.focus()
        page.keyboard.press("ArrowRight")
        frame = page.locator(".compare .frame").first
        expect(frame).to_have_attribute("style", "--at: 51%;")
        page.get_by_role("textbox", name="Other words").fill(CAPTIONS[1])
        expect(page.get_by_role("img", name=f"With other words: {CAPTIONS[1]}")).to_be_visible()
        expect(frame).to_have_attribute("style", "--at: 51%;")  # stays where it was
        expect(page.locator(".compare").get_by_role("img", name="Photo", exact=True)).to_have_count(2)
        with page.expect_download() as download:
            page.get_by_role("link", name="save: With other words").click()
        with Image.open(download.value.path()) as saved:
            assert saved.size == (64, 64) and saved.text["caption"] == CAPTIONS[1]
        page.locator("#photo-examples tbody tr").first.click()
        expect(page.get_by_role("textbox", name="Other words")).not_to_have_value(CAPTIONS[1])
        shown = page.get_by_role("textbox", name="Other words").input_value()
        expect(page.get_by_role("img", name=f"With other words: {shown}")).to_be_visible()
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert visitor.fits()
        visitor.close()

        client = Client(url, verbose=False, download_files=tmp_path)
        assert len(client.predict(handle_file(photo), CAPTIONS[0], CAPTIONS[1], api_name="/edit")) == 2
        with pytest.raises(AppError, match="Describe the photo"):
            client.predict(handle_file(photo), "", "", api_name="/edit")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(file)
    return file


def test_example_photos_are_birds_with_their_captions(
    able: StackGANPipeline, pipe: StackGANPipeline, tmp_path: Path
) -> None:
    examples = example_photos(able, tmp_path)
    assert len(examples) == EXAMPLE_PHOTOS
    for file, caption, new in examples:
        assert Image.open(file).size == (304, 304)
        before, after = caption_colours(caption), caption_colours(new)
        assert before.keys() == after.keys() and sum(before[part] != after[part] for part in before) == 1
    assert example_photos(pipe, tmp_path) == []

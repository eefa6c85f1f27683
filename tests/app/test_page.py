"""The page as a whole: information about the checkpoint, tabs, layout in a real browser."""

from copy import copy
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from stackgan.app.page import about, build, tab_pipelines
from stackgan.app.painting import EXAMPLE_COUNT
from stackgan.app.pipelines import Pipelines
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, PHONE, Site, Visitor, caption_box, launched
from tests.app.conftest import CARD
from tests.tiny import CAPTIONS, tiny_pipeline


def test_about_leaves_out_what_would_be_fetched(pipe: StackGANPipeline) -> None:
    with_card = copy(pipe)
    with_card.card = CARD
    text = about(with_card)
    assert text.startswith("# Tiny birds") and "Made for the tests." in text and pipe.fingerprint in text
    assert "example.com" not in text and "license" not in text


def test_page_without_text_has_no_caption_box() -> None:
    page = build(tiny_pipeline(stages=1, text=False))
    assert "caption" not in {block.elem_id for block in page.blocks.values()}
    page = build(tiny_pipeline(stages=1))
    assert "caption" in {block.elem_id for block in page.blocks.values()}


def test_tabs_are_what_the_checkpoint_can_do(pipe: StackGANPipeline, able: StackGANPipeline) -> None:
    assert list(tab_pipelines(Pipelines(pipe))) == ["Video", "Grid", "Batch", "Understand"]
    assert list(tab_pipelines(Pipelines(able))) == ["Photo", "Video", "Grid", "Batch", "No text", "Understand"]
    assert not tab_pipelines(Pipelines(tiny_pipeline(stages=1, text=False)))


def test_browser_generates_a_caption_on_a_desktop(desktop: Visitor, tmp_path: Path) -> None:
    assert desktop.texts(".card .caption") == list(CAPTIONS[:2])  # the initial images
    caption_box(desktop).fill(CAPTIONS[2])
    desktop.paint()
    expect(desktop.page.locator(".card")).to_have_count(4)
    assert desktop.texts(".card .caption") == [CAPTIONS[2]] * 4
    assert desktop.texts(".card .seed") == ["seed 1", "seed 2", "seed 3", "seed 4"]
    assert len(set(desktop.sources())) == 4
    widths = desktop.page.eval_on_selector_all(".card img", "all => all.map(image => image.naturalWidth)")
    assert widths == [128, 64, 128] * 4  # the image, then its two stages
    assert desktop.fits()
    desktop.page.screenshot(path=tmp_path / "desktop.png", full_page=True)


def test_browser_generates_on_a_phone(phone: Visitor, tmp_path: Path) -> None:
    assert phone.fits()
    caption_box(phone).fill(CAPTIONS[3])
    caption_box(phone).press("Enter")
    phone.painted()
    assert phone.texts(".card .caption") == [CAPTIONS[3]] * 4
    assert phone.fits()
    boxes = {name: phone.page.locator(name).bounding_box() for name in ("#ask", "#output", "#settings")}
    tops = [box["y"] for box in boxes.values() if box]
    assert tops == sorted(tops) and len(tops) == 3  # caption, images, settings from top to bottom
    for target in (
        "#paint",
        "#live label",
        "#dice",
        "#best",
        "#seed input",
        ".chip",
        ".save-all",
        ".card .save",
        ".card .link",
    ):
        box = phone.page.locator(target).first.bounding_box()
        assert box and box["height"] >= 44, f"{target} is too small for a finger"
    phone.page.screenshot(path=tmp_path / "phone.png", full_page=True)


def test_browser_describes_the_checkpoint(desktop: Visitor, site: Site) -> None:
    about = desktop.page.locator("#about")
    about.get_by_role("button").click()
    expect(about).to_contain_text("Tiny birds")
    expect(about).to_contain_text(site.fingerprint)


def test_browser_generates_without_text(chromium: Browser) -> None:
    with launched(tiny_pipeline(stages=1, text=False)) as url:
        visitor = Visitor(chromium, url, PHONE)
        expect(visitor.page.locator(".card")).to_have_count(EXAMPLE_COUNT)
        assert visitor.page.locator("#caption").count() == visitor.page.locator(".chip").count() == 0
        visitor.paint()
        expect(visitor.page.locator(".card")).to_have_count(4)
        assert visitor.texts(".card .seed")[0] == "seed 1" and visitor.texts(".card .stages") == []
        assert visitor.fits()
        visitor.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_browser_generates_without_a_caption(
    chromium: Browser, able: StackGANPipeline, size: tuple[int, int]
) -> None:
    with launched(able) as url:
        visitor = Visitor(chromium, url, size)
        page = visitor.page
        page.get_by_role("tab", name="No text").click()
        page.locator("#free-paint").click()
        expect(page.locator("#free-gallery .card")).to_have_count(8)
        assert visitor.fits()
        visitor.close()

"""The gallery in a real browser: enlarging, downloads, captions with markup."""

import json
import os
import zipfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect

from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, Site, Visitor, caption_box, seed_box, shows
from tests.tiny import CAPTIONS


def test_browser_saves_an_image_and_all_of_them(desktop: Visitor, site: Site, tmp_path: Path) -> None:
    caption_box(desktop).fill(CAPTIONS[0])
    seed_box(desktop).fill("7")
    desktop.paint()
    with desktop.page.expect_download() as saved:
        desktop.page.locator(".card .save").nth(1).click()
    assert saved.value.suggested_filename == "a-small-red-bird-with-black-wings_seed-8_128px.png"
    saved.value.save_as(tmp_path / "bird.png")
    pipe = StackGANPipeline.from_pretrained(site.checkpoint)
    with Image.open(tmp_path / "bird.png") as image:
        facts = image.text  # type: ignore[attr-defined]
        again = pipe(facts["caption"], seeds=int(facts["seed"]), truncation=float(facts["truncation"])).images[0]
        difference = max(abs(a - b) for a, b in zip(image.tobytes(), again.tobytes(), strict=True))
    assert (facts["caption"], facts["seed"]) == (CAPTIONS[0], "8") and difference <= 1
    assert facts["checkpoint"] == site.fingerprint
    with desktop.page.expect_download() as saved:
        desktop.page.locator(".save-all").click()
    saved.value.save_as(tmp_path / "birds.zip")
    with zipfile.ZipFile(tmp_path / "birds.zip") as archive:
        lines = [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]
        assert [line["file"] for line in lines] == archive.namelist()[:-1] and len(lines) == 8
        assert archive.read(lines[3]["file"]) == (tmp_path / "bird.png").read_bytes()
    assert [(line["seed"], line["size"]) for line in lines[2:4]] == [(8, 64), (8, 128)]


def test_browser_live_images_leave_no_files_until_they_are_saved(
    chromium: Browser, studio: str, tmp_path: Path
) -> None:
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    visitor = Visitor(chromium, studio, DESKTOP)
    before = set(folder.rglob("*"))
    caption_box(visitor).press_sequentially("a blue bird")
    shows(visitor, "a blue bird")
    with visitor.page.expect_download() as saved:
        visitor.page.locator(".card .save").nth(1).click()
    assert saved.value.suggested_filename == "a-blue-bird_seed-2_128px.png"
    saved.value.save_as(tmp_path / "bird.png")
    assert set(folder.rglob("*")) == before
    with visitor.page.expect_download() as saved:
        visitor.page.locator(".save-all").click()
    assert saved.value.suggested_filename == "a-blue-bird_seed-1_4-images.zip"
    saved.value.save_as(tmp_path / "birds.zip")
    with zipfile.ZipFile(tmp_path / "birds.zip") as archive:
        assert len(archive.namelist()) == 9
        assert archive.read("02_a-blue-bird_seed-2_128px.png") == (tmp_path / "bird.png").read_bytes()
    visitor.painted()
    visitor.close()


def test_browser_enlarges_and_reuses(phone: Visitor) -> None:
    dialog = phone.page.locator(".results dialog")
    phone.page.locator(".card .open").nth(1).click()
    expect(dialog.locator(".caption")).to_have_text(CAPTIONS[1])
    expect(dialog.locator(".seed")).to_have_text("seed 1 · 128 px")
    dialog.get_by_role("button", name="64 px").click()
    expect(dialog.locator(".seed")).to_have_text("seed 1 · 64 px")
    assert str(dialog.locator("a.save").get_attribute("download")).endswith("_64px.png")
    assert phone.fits()
    phone.page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    before = phone.page.locator(".card .open img").nth(1).get_attribute("src")
    phone.page.locator("[data-reuse]").nth(1).click()
    expect(caption_box(phone)).to_have_value(CAPTIONS[1])
    expect(seed_box(phone)).to_have_value("1")
    expect(phone.page.locator("#keep input")).to_be_checked()
    phone.painted()
    assert phone.sources()[0] == before  # URLs contain a hash of the content


def test_browser_reports_unknown_words(desktop: Visitor) -> None:
    hostile = '<img src=x onerror=alert(1)> ${alert(2)} {{value}} `\\n` <b>"zebra"</b>'
    caption_box(desktop).fill(hostile)
    desktop.paint()
    assert desktop.texts(".card .caption") == [hostile] * 4  # as text, not as markup
    assert 'Unknown word "zebra": no training caption has it.' in desktop.texts(".notice")
    caption_box(desktop).fill("a red bird and a blue bird " * 20)
    desktop.page.locator("#paint").click()
    expect(desktop.page.locator(".notice")).to_have_count(1)
    expect(desktop.page.locator(".notice")).to_contain_text("The caption is too long for the text encoder")
    assert desktop.fits()

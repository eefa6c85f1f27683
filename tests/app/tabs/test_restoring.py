"""Links, back and forward, the history, and PNGs restore images to the pixel; variations; several checkpoints."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from stackgan.app.image_request import ImageRequest
from stackgan.app.page import build
from stackgan.app.pipelines import Pipelines
from stackgan.app.server import launch
from stackgan.generation.image_settings import ImageSettings, link_query
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, Visitor, caption_box, free_port, live_box, seed_box, shows
from tests.tiny import CAPTIONS, save_tiny_checkpoint


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two checkpoints of different images: one of two stages, one of a single stage with a posterior."""
    root = tmp_path_factory.mktemp("checkpoints")
    save_tiny_checkpoint(root / "first")
    save_tiny_checkpoint(root / "second", stages=1, latent=("latent.z=vae",))
    return {"first": root / "first", "second": root / "second"}


@pytest.fixture(scope="module")
def pipes(folders: dict[str, Path]) -> dict[str, StackGANPipeline]:
    return {name: StackGANPipeline.from_pretrained(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def url(folders: dict[str, Path], pipes: dict[str, StackGANPipeline]) -> Iterator[str]:
    page = build(pipes["first"], {"second": folders["second"]})
    launch(page, "127.0.0.1", free_port())
    yield str(page.local_url)
    page.close(verbose=False)


def _images(visitor: Visitor) -> list[bytes]:
    """Pixels of the images in the gallery."""
    found = []
    for source in visitor.sources():
        if source.startswith("data:"):
            content = base64.b64decode(source.partition(",")[2])
        else:
            content = visitor.page.request.get(source).body()
        with Image.open(io.BytesIO(content)) as image:
            found.append(image.tobytes())
    return found


def _expected(pipe: StackGANPipeline, caption: str, seeds: list[int], **options: Any) -> list[bytes]:
    return [pipe(caption, seeds=seed, **options).images[0].tobytes() for seed in seeds]


def _reopen(visitor: Visitor, url: str) -> None:
    visitor.page.goto(url)
    expect(visitor.page.locator(".card").first).to_be_visible()  # its script listens


def _finished(visitor: Visitor, detail: str) -> None:
    expect(visitor.page.locator(".results:not(.preview) > header p")).to_have_text(detail)


def test_pipelines_are_found_by_fingerprint_then_by_name(
    folders: dict[str, Path], pipes: dict[str, StackGANPipeline]
) -> None:
    both = Pipelines(pipes["first"], {"second": folders["second"]})
    assert both.names == ["first", "second"]
    for name, pipe in pipes.items():
        assert both.name_of(ImageSettings("a bird", 1, fingerprint=pipe.fingerprint[:12])) == (name, None)
    assert both.name_of(ImageSettings("a bird", 1, checkpoint="second")) == ("second", None)
    assert both.name_of(ImageSettings("a bird", 1)) == ("first", None)
    changed = ImageSettings("a bird", 1, fingerprint="0" * 12, checkpoint="second")
    assert both.name_of(changed) == ("second", "second with the fingerprint 000000000000")
    assert both.name_of(ImageSettings("a bird", 1, checkpoint="third")) == ("first", "third")
    with pytest.raises(ValueError, match="There is no checkpoint 'third' here: choose first or second"):
        both["third"]


def test_a_size_that_the_checkpoint_lacks_becomes_all_stages(pipes: dict[str, StackGANPipeline]) -> None:
    settings = ImageSettings("a bird", 1, None, size=64)
    assert ImageRequest.of(settings, 2, pipes["first"]).size == 64
    assert ImageRequest.of(settings, 2, pipes["second"]).size is None


def test_browser_a_link_is_an_image(chromium: Browser, url: str, pipes: dict[str, StackGANPipeline]) -> None:
    pipe = pipes["first"]
    settings = ImageSettings(CAPTIONS[2], 40, 0.5, pipe.fingerprint, "first")
    visitor = Visitor(chromium, f"{url}?{link_query(settings, 2)}&__theme=dark", DESKTOP)
    page = visitor.page
    _finished(visitor, "Seeds 40 to 41, variety 0.5")
    assert _images(visitor) == _expected(pipe, CAPTIONS[2], [40, 41], truncation=0.5)
    expect(caption_box(visitor)).to_have_value(CAPTIONS[2])
    assert seed_box(visitor).input_value() == "40" and page.locator("#keep input").is_checked()
    assert page.locator("#count input[type=number]").input_value() == "2"
    # every change is in the address; back and forward walk through them
    live_box(visitor).uncheck()
    caption_box(visitor).fill(CAPTIONS[1])
    visitor.page.locator("#paint").click()
    shows(visitor, CAPTIONS[1])
    page.wait_for_url("**caption=*blue*")
    fields = parse_qs(urlsplit(page.url).query)
    assert fields["caption"] == [CAPTIONS[1]] and fields["seed"] == ["40"] and fields["__theme"] == ["dark"]
    page.go_back()
    shows(visitor, CAPTIONS[2])
    _finished(visitor, "Seeds 40 to 41, variety 0.5")
    assert _images(visitor) == _expected(pipe, CAPTIONS[2], [40, 41], truncation=0.5)
    expect(caption_box(visitor)).to_have_value(CAPTIONS[2])
    page.go_forward()
    shows(visitor, CAPTIONS[1])
    expect(caption_box(visitor)).to_have_value(CAPTIONS[1])
    # the address of one image, copied, shows this image
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.locator(".card .open").nth(1).click()
    page.locator("dialog .copy-link").click()
    expect(page.locator("dialog .copy-link")).to_have_text("Link copied")
    copied = page.evaluate("window.copied")
    page.goto(copied)
    shows(visitor, CAPTIONS[1])
    expect(page.locator(".card")).to_have_count(1)
    assert _images(visitor) == _expected(pipe, CAPTIONS[1], [41], truncation=0.5)
    visitor.close()


def test_browser_a_link_of_another_checkpoint_says_so(chromium: Browser, url: str) -> None:
    query = link_query(ImageSettings("<b>a bird</b>", 3, 1.0, "0" * 64, "first"))
    visitor = Visitor(chromium, f"{url}?{query}", DESKTOP)
    expect(visitor.page.locator(".results .notice").first).to_contain_text(
        "fingerprint 000000000000, which is not here"
    )
    expect(visitor.page.locator(".card .caption")).to_have_text("<b>a bird</b>")
    visitor.page.goto(f"{url}?caption=a+bird&seed=many")
    expect(visitor.page.locator(".toast-body")).to_contain_text("the seed is 'many': it must be an integer")
    visitor.close()


def test_browser_history_survives_a_restart(chromium: Browser, url: str, pipes: dict[str, StackGANPipeline]) -> None:
    visitor = Visitor(chromium, url, DESKTOP)
    page = visitor.page
    entries = page.locator(".history li")
    expect(entries).to_have_count(0)
    live_box(visitor).uncheck()
    for number, caption in enumerate(CAPTIONS[:3], 1):
        caption_box(visitor).fill(caption)
        page.locator("#paint").click()
        shows(visitor, caption)
        expect(entries).to_have_count(number)
    page.reload()
    expect(entries).to_have_count(3)
    shows(visitor, CAPTIONS[2])  # the address was kept
    entries.last.locator(".favourite").click()
    expect(entries.last.locator(".favourite")).to_have_attribute("aria-pressed", "true")
    entries.first.locator(".delete").click()
    expect(entries).to_have_count(2)
    entries.last.get_by_role("button", name=f"Open: {CAPTIONS[0]}, seed 1").click()
    shows(visitor, CAPTIONS[0])
    _finished(visitor, "Seeds 1 to 4, variety 1")
    assert _images(visitor) == _expected(pipes["first"], CAPTIONS[0], [1, 2, 3, 4])
    page.locator(".history .clear").click()
    expect(entries).to_have_count(1)
    visitor.close()


def test_browser_a_png_is_its_settings(
    chromium: Browser, url: str, pipes: dict[str, StackGANPipeline], tmp_path: Path
) -> None:
    visitor = Visitor(chromium, url, DESKTOP)
    page = visitor.page
    caption_box(visitor).fill(CAPTIONS[0])
    shows(visitor, CAPTIONS[0])
    page.locator("#truncation input[type=number]").fill("0.6")
    _finished(visitor, "Seeds 1 to 4, variety 0.6")
    page.locator("[data-more]").nth(2).click()
    _finished(visitor, "Seed 3, variety 0.6, variations of strength 0.3")
    varied = pipes["first"](CAPTIONS[0], seeds=3, truncation=0.6, variation=(2, 0.3)).images[0]
    assert _images(visitor)[1] == varied.tobytes()
    with page.expect_download() as saved:
        page.locator(".card .save").nth(1).click()
    saved.value.save_as(tmp_path / "bird.png")
    _reopen(visitor, url)
    page.locator("input:has(+ #open-png)").set_input_files(str(tmp_path / "bird.png"))
    _finished(visitor, "Seed 3, variety 0.6, variations of strength 0.3")
    assert _images(visitor) == [varied.tobytes()]
    expect(caption_box(visitor)).to_have_value(CAPTIONS[0])
    assert page.locator("#strength input[type=number]").input_value() == "0.3"
    # a file that is dropped on the page
    _reopen(visitor, url)
    content = base64.b64encode((tmp_path / "bird.png").read_bytes()).decode()
    transfer = page.evaluate_handle(
        """content => {
          const data = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          data.items.add(new File([bytes], 'bird.png', {type: 'image/png'}));
          return data;
        }""",
        content,
    )
    page.dispatch_event("#gallery", "drop", {"dataTransfer": transfer})
    _finished(visitor, "Seed 3, variety 0.6, variations of strength 0.3")
    assert _images(visitor) == [varied.tobytes()]
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    page.locator("input:has(+ #open-png)").set_input_files(str(tmp_path / "plain.png"))
    expect(page.locator(".toast-body")).to_contain_text("this PNG has no settings")
    visitor.close()


def test_browser_changes_checkpoint_and_stage(
    chromium: Browser, url: str, pipes: dict[str, StackGANPipeline]
) -> None:
    visitor = Visitor(chromium, url, DESKTOP)
    page = visitor.page
    caption_box(visitor).fill(CAPTIONS[0])
    shows(visitor, CAPTIONS[0])
    page.get_by_text("More settings").click()
    page.get_by_label("64 px only").check()
    page.wait_for_url("**size=64*")  # set with the images, not with their preview
    expect(page.locator(".card .stages")).to_have_count(0)
    coarse = pipes["first"](CAPTIONS[0], seeds=[1], size=64).images[0]
    assert _images(visitor)[0] == coarse.tobytes()
    page.locator("#checkpoint input").click()
    page.get_by_role("option", name="second").click()
    page.wait_for_url("**checkpoint=second*")
    assert _images(visitor) == _expected(pipes["second"], CAPTIONS[0], [1, 2, 3, 4])
    assert page.locator("#size label").count() == 1
    page.go_back()
    page.wait_for_url("**checkpoint=first*")
    expect(page.locator("#checkpoint input")).to_have_value("first")
    expect(page.get_by_label("64 px only")).to_be_checked()
    page.get_by_role("tab", name="Photo").click()
    expect(page.get_by_text("With the checkpoint second: first cannot do this.")).to_be_visible()
    visitor.close()

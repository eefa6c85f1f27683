"""The caption tab: seeds, examples, images while typing; all but the first test in a real browser."""

import base64
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from stackgan.app import painting
from stackgan.app.image_request import MAX_COUNT, MAX_PAGE_SEED, ImageRequest
from stackgan.app.page import build
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, PHONE, Visitor, caption_box, live_box, seed_box, shows
from tests.tiny import CAPTIONS


def _handler(page: gr.Blocks) -> Any:
    return next(fn.fn for fn in page.fns.values() if fn.name == "on_paint")


def test_handler_keeps_the_images_when_something_is_wrong(
    pipe: StackGANPipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint = _handler(build(pipe))
    fields = ("checkpoint", CAPTIONS[0], 2, 5, 1.0, "all", 0, 1, False)
    assert paint(*fields, None)[1:3] == (5, 5)
    assert paint(*fields, 5)[1] != 5
    with pytest.warns(UserWarning, match="^Write a caption first"):
        assert paint("checkpoint", "", *fields[2:], None) == (gr.skip(),) * 3

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(painting, "generate", fail)
    with pytest.warns(UserWarning, match="^Something went wrong while generating"):
        assert paint(*fields, None) == (gr.skip(),) * 3
    assert "out of memory" in caplog.text


class Brush:
    """Replacement of ``painting.generate``: blocks while ``free`` is not set, then records wanted captions."""

    def __init__(self) -> None:
        self.painted: list[str] = []
        self.busy, self.free = threading.Event(), threading.Event()
        self.free.set()
        self.generate = painting.generate

    def __call__(self, pipe: StackGANPipeline, request: ImageRequest, *current: Callable[[], bool]) -> Any:
        if request.size == pipe.sizes[0]:  # of a preview
            return self.generate(pipe, request, *current)
        self.busy.set()
        assert self.free.wait(30)
        if all(wanted() for wanted in current):
            self.painted.append(request.caption)
        return self.generate(pipe, request, *current)

    def hold(self, begin: Callable[[], None]) -> None:
        """Start a generation and return once it is running; it ends when ``free`` is set."""
        self.busy.clear()
        self.free.clear()
        begin()
        assert self.busy.wait(30)


@pytest.fixture
def brush(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brush]:
    brush = Brush()
    monkeypatch.setattr(painting, "generate", brush)
    yield brush
    brush.free.set()


# The words below each image lie within its card.
FITTING_CARDS = """[...document.querySelectorAll('.card .row > *')].every(word =>
  word.getBoundingClientRect().right <= word.closest('.card').getBoundingClientRect().right)"""


def first_seed(visitor: Visitor) -> Any:
    return visitor.page.locator(".results:not(.preview) .card .seed").first


def test_browser_seed_rolls_keeps_and_renews(desktop: Visitor) -> None:
    live_box(desktop).uncheck()
    caption_box(desktop).fill(CAPTIONS[0])
    desktop.paint()
    first, at = desktop.sources(), seed_box(desktop).input_value()
    desktop.page.locator("#dice").click()
    expect(seed_box(desktop)).not_to_have_value(at)
    rolled = seed_box(desktop).input_value()
    desktop.page.locator("#paint").click()
    expect(first_seed(desktop)).to_have_text(f"seed {rolled}")
    desktop.painted()
    assert seed_box(desktop).input_value() == rolled and not set(first) & set(desktop.sources())
    desktop.page.locator("#paint").click()  # not kept: a new seed at every press
    expect(first_seed(desktop)).not_to_have_text(f"seed {rolled}")
    keep = desktop.page.locator("#keep input")
    expect(keep).not_to_be_checked()
    seed_box(desktop).fill("1")
    expect(keep).to_be_checked()  # a seed that was typed is used
    desktop.page.locator("#paint").click()
    expect(first_seed(desktop)).to_have_text("seed 1")
    assert desktop.sources() == first
    caption_box(desktop).fill(CAPTIONS[1])
    desktop.page.locator("#paint").click()
    shows(desktop, CAPTIONS[1])
    assert desktop.texts(".card .seed")[0] == "seed 1" and desktop.sources() != first


def test_browser_every_control_updates_the_images(
    chromium: Browser, studio: str, pipe: StackGANPipeline, brush: Brush
) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    page = visitor.page

    def images(seed: int, count: int, truncation: float) -> list[bytes]:
        out = pipe(CAPTIONS[2], seeds=list(range(seed, seed + count)), truncation=truncation, batch_size=1)
        return [image.tobytes() for image in out.images]

    def shown() -> list[bytes]:
        return [_pixels(source) for source in visitor.sources()]

    caption_box(visitor).fill(CAPTIONS[2])
    shows(visitor, CAPTIONS[2])
    assert shown() == images(1, 4, 1.0)
    seed_box(visitor).fill("30")
    expect(first_seed(visitor)).to_have_text("seed 30")
    assert shown() == images(30, 4, 1.0)
    page.locator("#truncation input[type=number]").fill("0.5")
    expect(page.locator(".results:not(.preview) header p")).to_have_text("Seeds 30 to 33, variety 0.5")
    assert shown() == images(30, 4, 0.5)
    page.locator("#count input[type=number]").fill("2")
    expect(page.locator(".results:not(.preview) .card")).to_have_count(2)
    assert shown() == images(30, 2, 0.5)
    page.locator("#dice").click()
    expect(first_seed(visitor)).not_to_have_text("seed 30")
    rolled = int(seed_box(visitor).input_value())
    expect(first_seed(visitor)).to_have_text(f"seed {rolled}")
    assert shown() == images(rolled, 2, 0.5)
    page.locator("#best").click()
    expect(seed_box(visitor)).not_to_have_value(str(rolled))
    best = int(seed_box(visitor).input_value())
    expect(first_seed(visitor)).to_have_text(f"seed {best}")
    assert shown() == images(best, 2, 0.5)
    assert pipe.best_seeds(pipe.encode([CAPTIONS[2]]), [best // 16], 16, 0.5) == [best]
    page.locator("#dice").click()
    expect(first_seed(visitor)).not_to_have_text(f"seed {best}")
    rolled = int(seed_box(visitor).input_value())
    expect(first_seed(visitor)).to_have_text(f"seed {rolled}")
    assert page.evaluate(FITTING_CARDS)
    page.locator("[data-reuse]").nth(1).click()  # the image comes back first, as it was
    visitor.painted()
    assert (
        seed_box(visitor).input_value() == str(rolled + 1) and visitor.texts(".card .seed")[0] == f"seed {rolled + 1}"
    )
    assert page.locator("#truncation input[type=number]").input_value() == "0.5"
    seed_box(visitor).fill(str(MAX_PAGE_SEED - MAX_COUNT))
    expect(first_seed(visitor)).to_have_text(f"seed {MAX_PAGE_SEED - MAX_COUNT}")
    assert page.evaluate(FITTING_CARDS)
    visitor.close()


def test_browser_shows_the_coarsest_stage_first(chromium: Browser, studio: str, brush: Brush) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    brush.hold(lambda: caption_box(visitor).fill(CAPTIONS[2]))
    card = visitor.page.locator(".results.preview .card")
    expect(card).to_have_count(4)
    expect(card.first.locator(".caption")).to_have_text(CAPTIONS[2])
    with Image.open(io.BytesIO(base64.b64decode(visitor.sources()[0].partition(",")[2]))) as image:
        assert image.size == (64, 64)
    assert card.first.locator(".open img").bounding_box()["width"] > 128  # type: ignore[index]
    expect(card.first.locator(".save")).not_to_be_visible()
    brush.free.set()
    shows(visitor, CAPTIONS[2])
    with Image.open(io.BytesIO(base64.b64decode(visitor.sources()[0].partition(",")[2]))) as image:
        assert image.size == (128, 128)
    visitor.close()


def test_browser_example_fills_the_box_and_generates(desktop: Visitor) -> None:
    assert desktop.texts(".chip") == list(CAPTIONS[:2])
    desktop.page.locator(".chip").nth(1).click()
    desktop.painted()
    expect(caption_box(desktop)).to_have_value(CAPTIONS[1])
    assert desktop.texts(".card .caption") == [CAPTIONS[1]] * 4


def test_browser_refuses_in_one_sentence_and_keeps_the_images(desktop: Visitor) -> None:
    shown = desktop.sources()
    live_box(desktop).uncheck()
    toast = desktop.page.locator(".toast-body")
    desktop.page.locator("#paint").click()
    expect(toast).to_contain_text("Write a caption first: what should the image show?")
    toast.get_by_test_id("toast-close").click()
    caption_box(desktop).fill(CAPTIONS[0])
    seed_box(desktop).fill("-1")
    desktop.page.locator("#paint").click()
    expect(toast).to_contain_text("The seed is -1: the smallest is 0.")
    assert "Traceback" not in desktop.page.content() and desktop.sources() == shown


def _pixels(address: str) -> bytes:
    """Pixels of an image that is embedded in the page as a data URL."""
    start, _, content = address.partition(",")
    assert start == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return image.tobytes()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_browser_generates_while_one_types(
    chromium: Browser, studio: str, pipe: StackGANPipeline, size: tuple[int, int]
) -> None:
    visitor = Visitor(chromium, studio, size)
    box, caption = caption_box(visitor), "a red yelow bird"
    box.click()
    seen = set()
    for end in range(1, len(caption) + 1):
        visitor.page.keyboard.type(caption[end - 1])
        shows(visitor, caption[:end].strip())
        seen.add(visitor.sources()[0])
    assert len(seen) > 3  # no new images if the words are the same
    expected = pipe(caption, seeds=[1, 2, 3, 4], batch_size=1).images
    assert [_pixels(source) for source in visitor.sources()] == [image.tobytes() for image in expected]
    assert visitor.texts(".card .seed") == ["seed 1", "seed 2", "seed 3", "seed 4"]
    assert visitor.texts(".results h2") == ["Live"] and visitor.texts(".notice") == []
    assert seed_box(visitor).input_value() == "1" and not visitor.page.locator("#keep input").is_checked()
    expect(box).to_be_focused()
    assert box.evaluate("box => box.selectionStart") == len(caption) and visitor.fits()
    for key, changed in (("Backspace", caption[:-1]), ("Control+Z", caption)):
        box.press(key)
        shows(visitor, changed)
    box.evaluate("box => box.setSelectionRange(2, 2)")
    visitor.page.keyboard.insert_text("small ")  # as pasting or a phone does, without key events
    shows(visitor, "a small red yelow bird")
    assert box.evaluate("box => box.selectionStart") == len("a small ")
    box.press("Enter")  # the images shown are those generated
    visitor.painted()
    assert visitor.texts(".card .seed")[0] == "seed 1" and len(visitor.texts(".notice")) == 1
    assert not visitor.sources()[0].startswith("data:")
    visitor.close()


def test_browser_generates_nothing_for_an_empty_caption_or_when_unticked(
    chromium: Browser, studio: str, brush: Brush
) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    expect(live_box(visitor)).to_be_checked()
    caption_box(visitor).fill(CAPTIONS[2])
    shows(visitor, CAPTIONS[2])
    shown = visitor.sources()
    for key in ("Control+A", "Delete", "Space"):
        caption_box(visitor).press(key)
    live_box(visitor).uncheck()
    caption_box(visitor).fill(CAPTIONS[1])
    caption_box(visitor).press_sequentially(" and a tail")
    assert visitor.sources() == shown
    caption_box(visitor).press("Enter")  # earlier input has been processed when this has
    visitor.painted()
    assert brush.painted == [CAPTIONS[2], f"{CAPTIONS[1]} and a tail"]
    live_box(visitor).check()
    caption_box(visitor).fill(CAPTIONS[2])
    shows(visitor, CAPTIONS[2])
    seed_box(visitor).fill("-1")
    caption_box(visitor).fill(CAPTIONS[3])  # invalid: reported only by the button
    seed_box(visitor).fill("3")
    caption_box(visitor).press("End")
    caption_box(visitor).press("Backspace")
    shows(visitor, CAPTIONS[3][:-1])
    assert visitor.page.locator(".toast-body").count() == 0
    visitor.close()


def test_browser_letters_do_not_pile_up_nor_undo_what_was_painted(
    chromium: Browser, studio: str, brush: Brush
) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    box, type_text = caption_box(visitor), visitor.page.keyboard.type
    box.click()
    brush.hold(lambda: type_text("a"))
    type_text(" red bird")
    box.press("Enter")
    brush.free.set()
    visitor.painted()
    brush.hold(lambda: box.press("Enter"))  # uses another seed, which is not on the page yet
    type_text("s")
    brush.free.set()
    shows(visitor, "a red birds")
    wanted = ["a red bird", "a red bird", "a red birds"]  # a live image may be ready before the key that ends it
    assert brush.painted in (wanted, ["a red bird", *wanted])
    expect(seed_box(visitor)).not_to_have_value("1")
    assert visitor.texts(".card .seed")[0] == f"seed {seed_box(visitor).input_value()}"
    visitor.close()

"""The app: what it paints and says, how it starts and refuses, and the page in a real Chromium."""

import base64
import doctest
import importlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gradio as gr
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from data_prep.painted import caption_colours
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS, save_tiny_checkpoint, tiny_pipeline

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # app.py is a program beside the package, not part of it
app = importlib.import_module("app")

CARD = """---
license: mit
---
# Tiny birds

Made for the tests. ![a picture elsewhere](https://example.com/bird.png) <img src="https://example.com/b.png">
"""
DESKTOP, PHONE = (1280, 900), (390, 844)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module", autouse=True)
def _files_of_gradio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


@pytest.fixture(scope="module")
def pipe() -> StackGANPipeline:
    return tiny_pipeline()


# --- what it paints and says --------------------------------------------------------------------------------


def test_doctests() -> None:
    assert doctest.testmod(app).failed == 0


def test_paint_is_what_the_pipeline_paints(pipe: StackGANPipeline) -> None:
    painting = app.paint(pipe, f"  {CAPTIONS[0]}\n", 3, 7, 0.5)
    expected = pipe(CAPTIONS[0], seeds=[7, 8, 9], truncation=0.5)
    assert [picture.seed for picture in painting.pictures] == [7, 8, 9]
    assert {picture.caption for picture in painting.pictures} == {CAPTIONS[0]}
    for index, picture in enumerate(painting.pictures):
        assert [image.width for image in picture.stages] == [64, 128]
        for stage, image in enumerate(picture.stages):
            assert image.tobytes() == expected.stages[stage][index].tobytes()
    assert painting.notices == [] and painting.truncation == 0.5 and painting.seconds > 0


def test_paint_without_text() -> None:
    painting = app.paint(tiny_pipeline(stages=1, text=False), "", 2, 0, 1)
    assert [(picture.caption, picture.seed) for picture in painting.pictures] == [("", 0), ("", 1)]
    assert painting.pictures[1].name == "picture_seed-1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"caption": ""}, "Write a caption first: what should the picture show?"),
        ({"caption": " \n"}, "Write a caption first: what should the picture show?"),
        ({"caption": "bird " * 500}, "The caption is 2499 characters long: please keep it below 2000."),
        ({"seed": -1}, "The seed is -1: the smallest is 0."),
        ({"seed": 1.5}, "The seed is 1.5: it must be a whole number."),
        ({"seed": None}, "The seed is missing: give a whole number from 0."),
        ({"seed": float("nan")}, "The seed is missing: give a whole number from 0."),
        ({"seed": 2**60}, f"The seed is {2**60}: the largest is {2**53 - 17}."),
        ({"count": 0}, "The number of pictures is 0: the smallest is 1."),
        ({"count": 17}, "The number of pictures is 17: the largest is 16."),
        ({"truncation": 3}, "The variety is 3: it goes from 0 to 2."),
        ({"truncation": None}, "The variety is None: it goes from 0 to 2."),
    ],
)
def test_paint_refuses_in_one_sentence(pipe: StackGANPipeline, arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"caption": CAPTIONS[0], "count": 1, "seed": 0, "truncation": 1.0}
    with pytest.raises(ValueError) as error:
        app.paint(pipe, **(good | arguments))
    assert str(error.value) == message


def test_notices_are_sentences(pipe: StackGANPipeline) -> None:
    caption = "a small zebra bird with yelow wings " + "and a red beak " * 10
    cut, zebra, yelow = app.paint(pipe, caption, 1, 0, 1).notices
    assert re.fullmatch(r"The caption is longer than the model can read: .* dropped\.", cut)
    assert zebra == 'Unknown word "zebra": no training caption has it.'
    assert yelow == 'Unknown word "yelow": did you mean "yellow"?'


def test_choose_seed() -> None:
    assert app.choose_seed(5, keep=False, spent=None) == 5
    assert app.choose_seed(5, keep=False, spent=4) == 5
    assert app.choose_seed(5, keep=True, spent=5) == 5
    fresh = {app.choose_seed(5, keep=False, spent=5) for _ in range(50)}
    assert 5 not in fresh and len(fresh) > 40 and all(0 <= seed < 10**6 for seed in fresh)


@pytest.mark.parametrize("caption", [CAPTIONS[0], "ein Vogel mit süßen Flügeln", "一只红色的小鸟"])
def test_png_tells_how_to_paint_it_again(pipe: StackGANPipeline, caption: str) -> None:
    image = pipe(CAPTIONS[0], seeds=[3], truncation=0.5).images[0]
    picture = app.Picture(caption, 3, [image])
    with Image.open(io.BytesIO(app.png_bytes(picture, 0, 0.5, "f" * 64))) as read:
        assert read.tobytes() == image.tobytes()
        facts = read.text  # type: ignore[attr-defined]
    assert facts["caption"] == caption and facts["seed"] == "3" and facts["truncation"] == "0.5"
    assert facts["checkpoint"] == "f" * 64 and facts["Software"].startswith("stackgan ")


def test_opening_paints_the_examples(pipe: StackGANPipeline) -> None:
    painting = app.opening(pipe)
    assert [picture.caption for picture in painting.pictures] == list(CAPTIONS[:2])
    assert len(app.opening(tiny_pipeline(stages=1, text=False)).pictures) == app.OPENING
    bare = tiny_pipeline(stages=1)
    bare.facts = {}
    assert app.opening(bare) is None


def test_texts_from_outside_cannot_become_code() -> None:
    safe = app._html_text('<b onclick="x()">${1}`\\{{y}}</b> straße, 鸟.')
    assert not set('<>"$`\\{}&') & set(re.sub(r"&#\d+;", "", safe))
    assert "straße, 鸟." in safe


def test_about_leaves_out_what_would_be_fetched(pipe: StackGANPipeline) -> None:
    text = app._about(pipe, CARD)
    assert text.startswith("# Tiny birds") and "Made for the tests." in text and pipe.fingerprint in text
    assert "example.com" not in text and "license" not in text


def _handler(page: gr.Blocks) -> Any:
    return next(fn.fn for fn in page.fns.values() if fn.api_name == "paint")


def test_handler_keeps_the_pictures_when_something_is_wrong(
    pipe: StackGANPipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint = _handler(app.build(pipe))
    assert paint(CAPTIONS[0], 2, 5, 1.0, False, None)[1:3] == (5, 5)
    assert paint(CAPTIONS[0], 2, 5, 1.0, False, 5)[1] != 5
    with pytest.warns(UserWarning, match="^Write a caption first"):
        assert paint("", 2, 5, 1.0, False, None) == (gr.skip(),) * 4

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(app, "paint", fail)
    with pytest.warns(UserWarning, match="^Something went wrong while painting"):
        assert paint(CAPTIONS[0], 2, 5, 1.0, False, None) == (gr.skip(),) * 4
    assert "out of memory" in caplog.text


def test_live_pictures_have_the_seeds_of_those_on_show(pipe: StackGANPipeline) -> None:
    first = app.paint_live(pipe, None, " a  red ", 2, 5, 1.0, False)
    assert [(picture.caption, picture.seed) for picture in first.pictures] == [("a red", 5), ("a red", 6)]
    shown = app.Shown.of(first, asked=5)
    assert app.paint_live(pipe, shown, "a red ", 2, 5, 1.0, False) is None  # it shows this already
    assert app.paint_live(pipe, shown, "a red b", 2, 5, 1.0, False).pictures[0].seed == 5
    rolled = app.Shown("a red", 2, 77, 1.0, asked=5)  # the page asked for 5, was given 77, and may not know yet
    assert app.paint_live(pipe, rolled, "a red", 2, 5, 1.0, False) is None
    assert app.paint_live(pipe, rolled, "a red b", 2, 5, 1.0, False).pictures[0].seed == 77
    assert app.paint_live(pipe, rolled, "a red b", 2, 5, 1.0, True).pictures[0].seed == 5


def test_live_pictures_never_complain(
    pipe: StackGANPipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (
        ("", 2, 5, 1.0),
        (" \n", 2, 5, 1.0),
        ("bird " * 500, 2, 5, 1.0),
        ("a", 2, -1, 1.0),
        ("a", 2, 5, None),
    ):
        assert app.paint_live(pipe, None, *wrong, False) is None
    assert caplog.text == ""
    monkeypatch.setattr(app, "paint", lambda *_: 1 / 0)
    assert app.paint_live(pipe, None, "a", 2, 5, 1.0, False) is None
    assert "ZeroDivisionError" in caplog.text


def test_page_without_text_has_no_caption_box() -> None:
    page = app.build(tiny_pipeline(stages=1, text=False))
    assert not any(isinstance(block, gr.Textbox) for block in page.blocks.values())
    page = app.build(tiny_pipeline(stages=1))
    assert any(isinstance(block, gr.Textbox) for block in page.blocks.values())


# --- how it starts ------------------------------------------------------------------------------------------


def _refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert app.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("app.py: ") and err.count("\n") == 1
    return err


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_refuses_a_missing_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = _refusal(capsys, "--checkpoint", str(tmp_path / "none"), "--port", str(_free_port()))
    assert str(tmp_path / "none") in err


def test_refuses_a_checkpoint_without_text_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    shutil.rmtree(folder / "text")
    err = _refusal(capsys, "--checkpoint", str(folder), "--port", str(_free_port()))
    assert str(folder) in err and "text encoder" in err


def test_refuses_an_address_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        err = _refusal(capsys, "--port", port)
    assert port in err and "--port" in err
    assert "1 to 65535" in _refusal(capsys, "--port", "70000")
    assert "no.such.host.invalid" in _refusal(capsys, "--host", "no.such.host.invalid")


# --- the page, in a real browser ----------------------------------------------------------------------------


class Site(NamedTuple):
    url: str
    checkpoint: Path
    fingerprint: str


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install it to run the browser tests (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """``python app.py`` with a tiny checkpoint of two stages; ends as at Ctrl-C."""
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("site") / "tiny")
    (folder / "README.md").write_text(CARD, "utf-8")
    temporary = tmp_path_factory.mktemp("temporary")
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "app.py", "--checkpoint", str(folder), "--port", str(port)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = f"http://127.0.0.1:{port}"
        assert process.stdout.readline() == f"Painting at {url} (Ctrl-C stops)\n"
        yield Site(url, folder, StackGANPipeline.from_pretrained(folder).fingerprint)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert not any(file.is_file() for file in temporary.rglob("*"))  # what was painted is gone
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


expect.set_options(timeout=30_000)  # a busy machine is no failure


class Visitor:
    """A page, and everything it did that it should not: errors, other hosts, failed requests."""

    def __init__(self, browser: Browser, url: str, size: tuple[int, int]) -> None:
        phone = size == PHONE
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, has_touch=phone, is_mobile=phone
        )
        self.context.set_default_timeout(30_000)
        self.page: Page = self.context.new_page()
        self.trouble: list[str] = []
        say = self.trouble.append
        self.page.on("console", lambda m: say(f"console: {m.text}") if self._matters(m) else None)
        self.page.on("pageerror", lambda error: say(f"exception: {error}"))
        self.page.on("dialog", lambda dialog: (say(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("requestfailed", self._look_why)
        self.page.on("response", lambda r: say(f"{r.status}: {r.url}") if r.status >= 400 else None)
        self.page.on("request", self._look_where)
        self.page.goto(url)
        expect(self.page.locator(".card").first).to_be_visible()

    @staticmethod
    def _matters(message: Any) -> bool:
        ours = message.text != "Method not implemented."  # Gradio's own words at every upload, which goes well
        return message.type in ("error", "warning") and ours

    def _look_where(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.trouble.append(f"outside: {request.url}")

    def _look_why(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # downloads and event streams end so when all is well
            self.trouble.append(f"failed: {request.url} {request.failure}")

    def paint(self) -> None:
        """Press Paint and wait for its pictures."""
        self.page.locator("#paint").click()
        self.painted()

    def painted(self) -> None:
        """Wait until the gallery shows what was asked for, every image loaded."""
        expect(self.page.locator(".results h2")).to_have_text(re.compile(r"\d+ pictures? in \d"))
        self.page.wait_for_function(
            "[...document.querySelectorAll('.card img')].every(image => image.complete && image.naturalWidth)"
        )

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()

    def sources(self) -> list[str]:
        """Addresses of the pictures; they hold a hash of the content."""
        images = self.page.locator(".card .open img")
        return [str(image.get_attribute("src")) for image in images.all()]

    def fits(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    def close(self) -> None:
        self.context.close()
        assert self.trouble == []


@pytest.fixture
def desktop(chromium: Browser, site: Site) -> Iterator[Visitor]:
    visitor = Visitor(chromium, site.url, DESKTOP)
    yield visitor
    visitor.close()


@pytest.fixture
def phone(chromium: Browser, site: Site) -> Iterator[Visitor]:
    visitor = Visitor(chromium, site.url, PHONE)
    yield visitor
    visitor.close()


def _caption(visitor: Visitor) -> Any:
    return visitor.page.locator("#caption textarea")


def _seed(visitor: Visitor) -> Any:
    return visitor.page.locator("#seed input")


def _live(visitor: Visitor) -> Any:
    return visitor.page.locator("#live input")


def _shows(visitor: Visitor, caption: str) -> None:
    """Wait until the pictures are of this caption."""
    expect(visitor.page.locator(".card .caption").first).to_have_text(caption)


def test_browser_paints_a_caption_on_a_desktop(desktop: Visitor, tmp_path: Path) -> None:
    assert desktop.texts(".card .caption") == list(CAPTIONS[:2])  # the pictures that greet
    _caption(desktop).fill(CAPTIONS[2])
    desktop.paint()
    expect(desktop.page.locator(".card")).to_have_count(4)
    assert desktop.texts(".card .caption") == [CAPTIONS[2]] * 4
    assert desktop.texts(".card .seed") == ["seed 1", "seed 2", "seed 3", "seed 4"]
    assert len(set(desktop.sources())) == 4
    widths = desktop.page.eval_on_selector_all(".card img", "all => all.map(image => image.naturalWidth)")
    assert widths == [128, 64, 128] * 4  # the picture, then its two stages
    assert desktop.fits()
    desktop.page.screenshot(path=tmp_path / "desktop.png", full_page=True)


def test_browser_paints_on_a_phone(phone: Visitor, tmp_path: Path) -> None:
    assert phone.fits()
    _caption(phone).fill(CAPTIONS[3])
    _caption(phone).press("Enter")
    phone.painted()
    assert phone.texts(".card .caption") == [CAPTIONS[3]] * 4
    assert phone.fits()
    boxes = {name: phone.page.locator(name).bounding_box() for name in ("#ask", "#output", "#settings")}
    tops = [box["y"] for box in boxes.values() if box]
    assert tops == sorted(tops) and len(tops) == 3  # question, pictures, settings from top to bottom
    for target in (
        "#paint",
        "#live label",
        "#dice",
        "#seed input",
        ".chip",
        ".save-all",
        ".card .save",
        ".card .link",
    ):
        box = phone.page.locator(target).first.bounding_box()
        assert box and box["height"] >= 44, f"{target} is too small for a finger"
    phone.page.screenshot(path=tmp_path / "phone.png", full_page=True)


def test_browser_seed_rolls_keeps_and_renews(desktop: Visitor) -> None:
    _caption(desktop).fill(CAPTIONS[0])
    desktop.paint()
    first, at = desktop.sources(), _seed(desktop).input_value()
    desktop.page.locator("#dice").click()
    expect(_seed(desktop)).not_to_have_value(at)
    rolled = _seed(desktop).input_value()
    desktop.page.locator("#paint").click()
    expect(desktop.page.locator(".card .seed").first).to_have_text(f"seed {rolled}")
    desktop.painted()
    assert _seed(desktop).input_value() == rolled and not set(first) & set(desktop.sources())
    desktop.page.locator("#paint").click()  # not kept: every press takes a new one
    expect(desktop.page.locator(".card .seed").first).not_to_have_text(f"seed {rolled}")
    keep = desktop.page.locator("#keep input")
    expect(keep).not_to_be_checked()
    _seed(desktop).fill("1")
    expect(keep).to_be_checked()  # who types a seed means it
    desktop.page.locator("#paint").click()
    expect(desktop.page.locator(".card .seed").first).to_have_text("seed 1")
    assert desktop.sources() == first
    _caption(desktop).fill(CAPTIONS[1])
    desktop.page.locator("#paint").click()
    expect(desktop.page.locator(".card .caption").first).to_have_text(CAPTIONS[1])
    assert desktop.texts(".card .seed")[0] == "seed 1" and desktop.sources() != first


def test_browser_example_fills_the_box_and_paints(desktop: Visitor) -> None:
    assert desktop.texts(".chip") == list(CAPTIONS[:2])
    desktop.page.locator(".chip").nth(1).click()
    desktop.painted()
    expect(_caption(desktop)).to_have_value(CAPTIONS[1])
    assert desktop.texts(".card .caption") == [CAPTIONS[1]] * 4


def test_browser_saves_a_picture_and_all_of_them(desktop: Visitor, site: Site, tmp_path: Path) -> None:
    _caption(desktop).fill(CAPTIONS[0])
    _seed(desktop).fill("7")
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
    phone.page.locator("[data-reuse]").nth(1).click()
    expect(_caption(phone)).to_have_value(CAPTIONS[1])
    expect(_seed(phone)).to_have_value("1")
    expect(phone.page.locator("#keep input")).to_be_checked()


def test_browser_says_what_it_did_not_understand(desktop: Visitor) -> None:
    hostile = '<img src=x onerror=alert(1)> ${alert(2)} {{value}} `\\n` <b>"zebra"</b>'
    _caption(desktop).fill(hostile)
    desktop.paint()
    assert desktop.texts(".card .caption") == [hostile] * 4  # words, whatever they look like
    assert 'Unknown word "zebra": no training caption has it.' in desktop.texts(".notice")
    _caption(desktop).fill("a red bird and a blue bird " * 20)
    desktop.page.locator("#paint").click()
    expect(desktop.page.locator(".notice")).to_have_count(1)
    expect(desktop.page.locator(".notice")).to_contain_text("The caption is longer than the model can read")
    assert desktop.fits()


def test_browser_refuses_in_one_sentence_and_keeps_the_pictures(desktop: Visitor) -> None:
    shown = desktop.sources()
    _live(desktop).uncheck()
    toast = desktop.page.locator(".toast-body")
    desktop.page.locator("#paint").click()
    expect(toast).to_contain_text("Write a caption first: what should the picture show?")
    toast.get_by_test_id("toast-close").click()
    _caption(desktop).fill(CAPTIONS[0])
    _seed(desktop).fill("-1")
    desktop.page.locator("#paint").click()
    expect(toast).to_contain_text("The seed is -1: the smallest is 0.")
    assert "Traceback" not in desktop.page.content() and desktop.sources() == shown


def test_browser_tells_about_the_checkpoint(desktop: Visitor, site: Site) -> None:
    about = desktop.page.locator("#about")
    about.get_by_role("button").click()
    expect(about).to_contain_text("Tiny birds")
    expect(about).to_contain_text(site.fingerprint)


@contextmanager
def launched(pipe: StackGANPipeline) -> Iterator[str]:
    """The page of a pipeline, served from this process; yields its address."""
    page = app.build(pipe)
    _, url, _ = page.launch(
        server_name="127.0.0.1",
        server_port=_free_port(),
        theme=app.theme(),
        css=app.CSS,
        footer_links=[],
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    try:
        yield url
    finally:
        page.close(verbose=False)


class Brush:
    """Stands where ``app.paint`` did: notes what is painted, and holds it back while ``free`` is not set."""

    def __init__(self) -> None:
        self.painted: list[str] = []
        self.busy, self.free = threading.Event(), threading.Event()
        self.free.set()
        self.paint = app.paint

    def __call__(self, pipe: StackGANPipeline, caption: str, *request: Any) -> Any:
        self.painted.append(caption)
        self.busy.set()
        assert self.free.wait(30)
        return self.paint(pipe, caption, *request)

    def hold(self, begin: Callable[[], None]) -> None:
        """Do something that paints, and return when the painting has begun; it ends when ``free`` is set."""
        self.busy.clear()
        self.free.clear()
        begin()
        assert self.busy.wait(30)


@pytest.fixture
def brush(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brush]:
    brush = Brush()
    monkeypatch.setattr(app, "paint", brush)
    yield brush
    brush.free.set()


@pytest.fixture(scope="module")
def studio(pipe: StackGANPipeline) -> Iterator[str]:
    with launched(pipe) as url:
        yield url


def _pixels(address: str) -> bytes:
    """Of a picture that is part of the page itself."""
    start, _, content = address.partition(",")
    assert start == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return image.tobytes()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_browser_paints_while_one_types(
    chromium: Browser, studio: str, pipe: StackGANPipeline, size: tuple[int, int]
) -> None:
    visitor = Visitor(chromium, studio, size)
    box, caption = _caption(visitor), "a red bird with yelow wings"
    box.click()
    seen = set()
    for end in range(1, len(caption) + 1):
        visitor.page.keyboard.type(caption[end - 1])
        _shows(visitor, caption[:end].strip())
        seen.add(visitor.sources()[0])
    assert len(seen) > 3  # letters that make no other words make no other pictures
    expected = pipe(caption, seeds=[1, 2, 3, 4]).images
    assert [_pixels(source) for source in visitor.sources()] == [image.tobytes() for image in expected]
    assert visitor.texts(".card .seed") == ["seed 1", "seed 2", "seed 3", "seed 4"]
    assert visitor.texts(".results h2") == ["While you type"] and visitor.texts(".notice") == []
    assert _seed(visitor).input_value() == "1" and not visitor.page.locator("#keep input").is_checked()
    expect(box).to_be_focused()
    assert box.evaluate("box => box.selectionStart") == len(caption) and visitor.fits()
    for key, changed in (("Backspace", caption[:-1]), ("Control+Z", caption)):
        box.press(key)
        _shows(visitor, changed)
    box.evaluate("box => box.setSelectionRange(2, 2)")
    visitor.page.keyboard.insert_text("small ")  # as a paste or a phone does: no key is pressed
    _shows(visitor, "a small red bird with yelow wings")
    assert box.evaluate("box => box.selectionStart") == len("a small ")
    box.press("Enter")  # the pictures seen are the pictures painted
    visitor.painted()
    assert visitor.texts(".card .seed")[0] == "seed 1" and len(visitor.texts(".notice")) == 1
    assert not visitor.sources()[0].startswith("data:")
    visitor.close()


def test_browser_paints_nothing_for_an_empty_caption_or_when_unticked(
    chromium: Browser, studio: str, brush: Brush
) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    expect(_live(visitor)).to_be_checked()
    _caption(visitor).fill(CAPTIONS[2])
    _shows(visitor, CAPTIONS[2])
    shown = visitor.sources()
    for key in ("Control+A", "Delete", "Space"):
        _caption(visitor).press(key)
    _live(visitor).uncheck()
    _caption(visitor).fill(CAPTIONS[1])
    _caption(visitor).press_sequentially(" and a tail")
    assert visitor.sources() == shown
    _caption(visitor).press("Enter")  # what was typed before has been dealt with when this has
    visitor.painted()
    assert brush.painted == [CAPTIONS[2], f"{CAPTIONS[1]} and a tail"]
    _live(visitor).check()
    _caption(visitor).fill(CAPTIONS[2])
    _shows(visitor, CAPTIONS[2])
    _seed(visitor).fill("-1")
    _caption(visitor).fill(CAPTIONS[3])  # cannot be painted: Paint would say why
    _seed(visitor).fill("3")
    _caption(visitor).press("End")
    _caption(visitor).press("Backspace")
    _shows(visitor, CAPTIONS[3][:-1])
    assert visitor.page.locator(".toast-body").count() == 0
    visitor.close()


def test_browser_letters_do_not_pile_up_nor_undo_what_was_painted(
    chromium: Browser, studio: str, brush: Brush
) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    box, type_text = _caption(visitor), visitor.page.keyboard.type
    box.click()
    brush.hold(lambda: type_text("a"))
    type_text(" red bird")
    box.press("Enter")
    brush.free.set()
    visitor.painted()
    brush.hold(lambda: box.press("Enter"))  # takes another seed, which the page does not know yet
    type_text("s")
    brush.free.set()
    _shows(visitor, "a red birds")
    assert brush.painted == ["a", "a red bird", "a red bird", "a red birds"]
    expect(_seed(visitor)).not_to_have_value("1")
    assert visitor.texts(".card .seed")[0] == f"seed {_seed(visitor).input_value()}"
    visitor.close()


def test_browser_live_pictures_leave_no_files_until_they_are_saved(
    chromium: Browser, studio: str, tmp_path: Path
) -> None:
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    visitor = Visitor(chromium, studio, DESKTOP)
    before = set(folder.rglob("*"))
    _caption(visitor).press_sequentially("a blue bird")
    _shows(visitor, "a blue bird")
    with visitor.page.expect_download() as saved:
        visitor.page.locator(".card .save").nth(1).click()
    assert saved.value.suggested_filename == "a-blue-bird_seed-2_128px.png"
    saved.value.save_as(tmp_path / "bird.png")
    assert set(folder.rglob("*")) == before
    with visitor.page.expect_download() as saved:
        visitor.page.locator(".save-all").click()
    assert saved.value.suggested_filename == "a-blue-bird_seed-1_4-pictures.zip"
    saved.value.save_as(tmp_path / "birds.zip")
    with zipfile.ZipFile(tmp_path / "birds.zip") as archive:
        assert len(archive.namelist()) == 9
        assert archive.read("02_a-blue-bird_seed-2_128px.png") == (tmp_path / "bird.png").read_bytes()
    visitor.painted()
    visitor.close()


def test_browser_paints_without_text(chromium: Browser) -> None:
    with launched(tiny_pipeline(stages=1, text=False)) as url:
        visitor = Visitor(chromium, url, PHONE)
        expect(visitor.page.locator(".card")).to_have_count(app.OPENING)
        assert visitor.page.locator("#caption").count() == visitor.page.locator(".chip").count() == 0
        visitor.paint()
        expect(visitor.page.locator(".card")).to_have_count(4)
        assert visitor.texts(".card .seed")[0] == "seed 1" and visitor.texts(".card .stages") == []
        assert visitor.fits()
        visitor.close()


# --- tabs of what latent modules can do ---------------------------------------------------------------------

LATENT = ("latent.z=flow", "latent.c=flow")


@pytest.fixture(scope="module")
def able() -> StackGANPipeline:
    pipe = tiny_pipeline(stages=1, latent=LATENT)
    pipe.facts["data"] = {"kind": "painted"}
    return pipe


def test_tabs_are_what_the_checkpoint_can_do(pipe: StackGANPipeline, able: StackGANPipeline) -> None:
    assert list(app._tabs(pipe)) == ["Paint", "Walk"]
    assert list(app._tabs(able)) == ["Paint", "Photo", "Walk", "No words"]
    assert list(app._tabs(tiny_pipeline(stages=1, text=False))) == ["Paint"]


def test_example_photos_are_birds_with_their_captions(
    able: StackGANPipeline, pipe: StackGANPipeline, tmp_path: Path
) -> None:
    examples = app._example_photos(able, tmp_path)
    assert len(examples) == app.EXAMPLE_PHOTOS
    for file, caption, new in examples:
        assert Image.open(file).size == (304, 304)
        before, after = caption_colours(caption), caption_colours(new)
        assert before.keys() == after.keys() and sum(before[part] != after[part] for part in before) == 1
    assert app._example_photos(pipe, tmp_path) == []


def test_a_photo_is_painted_with_other_words(able: StackGANPipeline) -> None:
    photo = Image.linear_gradient("L").convert("RGB")
    painting = app.edit_photo(able, photo, CAPTIONS[0], f" {CAPTIONS[1]} ")
    expected = able.edit(photo, CAPTIONS[0], [CAPTIONS[0], CAPTIONS[1]]).images
    assert [picture.stages[-1].tobytes() for picture in painting.pictures] == [image.tobytes() for image in expected]
    assert not painting.reusable and all(picture.seed is None for picture in painting.pictures)
    assert len(app.edit_photo(able, photo, CAPTIONS[0], "").pictures) == 1
    for arguments, message in (((None, "a bird", ""), "Choose a photo"), ((photo, " ", "b"), "Say what")):
        with pytest.raises(ValueError, match=message):
            app.edit_photo(able, *arguments)


def test_a_walk_leaves_a_film_and_a_strip(able: StackGANPipeline) -> None:
    film, strip = app.walk_files(able, (CAPTIONS[0], CAPTIONS[1]), (1, 2), 5)
    with Image.open(film) as shown:
        assert shown.format == "GIF" and shown.n_frames == 8
    with Image.open(strip) as shown:
        assert shown.size == (5 * 66 - 2, 64)
    for captions, seeds, message in (
        ((CAPTIONS[0], " "), (1, 2), "Write both captions"),
        (CAPTIONS[:2], (None, 2), "The seed is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            app.walk_files(able, captions, seeds, 5)


def test_unlikely_captions_are_warned_of(able: StackGANPipeline) -> None:
    usual = max(CAPTIONS, key=lambda caption: able.caption_log_prob(caption)[0].log_prob)
    assert not app.paint(able, usual, 1, 0, 1).notices
    before = able.model.code_quantiles.clone()
    able.model.code_quantiles += 1e6
    try:
        notices = app.paint(able, usual, 1, 0, 1).notices
    finally:
        able.model.code_quantiles.copy_(before)
    assert notices == ["This caption is unlike anything in the training captions: the picture may not follow it."]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_browser_edits_a_photo_walks_and_paints_without_words(
    chromium: Browser, able: StackGANPipeline, tmp_path: Path, size: tuple[int, int]
) -> None:
    photo = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(photo)
    with launched(able) as url:
        visitor = Visitor(chromium, url, size)
        page = visitor.page
        page.get_by_role("tab", name="Photo").click()
        page.locator("#photo input[type=file]").set_input_files(str(photo))
        page.get_by_label("What it shows").fill(CAPTIONS[0])
        page.get_by_label("What it is to show").fill(CAPTIONS[1])
        page.locator("#photo-paint").click()
        cards = page.locator("#photo-gallery .card")
        expect(cards).to_have_count(2)
        expect(cards.nth(1)).to_contain_text(CAPTIONS[1])
        expect(page.locator("#photo-gallery [data-reuse]")).to_have_count(0)
        page.locator("#photo-examples tbody tr").first.click()
        expect(page.get_by_label("What it is to show")).not_to_have_value(CAPTIONS[1])
        shown = page.get_by_label("What it is to show").input_value()
        page.locator("#photo-paint").click()
        expect(cards.nth(1)).to_contain_text(shown)
        page.get_by_role("tab", name="Walk").click()
        page.locator("#walk").click()
        expect(page.locator("#walk-result img.film")).to_be_visible()
        page.wait_for_function("[...document.querySelectorAll('#walk-result img')].every(i => i.naturalWidth > 64)")
        page.get_by_role("tab", name="No words").click()
        page.locator("#free-paint").click()
        expect(page.locator("#free-gallery .card")).to_have_count(8)
        assert visitor.fits()
        visitor.close()

"""The static page of an export in Chromium: noise, token ids and images equal the pipeline's; what is refused.

Tests of images need two packages of npm: ``STACKGAN_NODE_MODULES`` names the folder node_modules that has them.
"""

from __future__ import annotations

import base64
import os
import random
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from stackgan.cli.main import main
from stackgan.pipeline import StackGANPipeline
from stackgan.tools import export as tool
from stackgan.tools import web_page
from stackgan.tools.export import export
from tests.chromium import chromium_browser
from tests.tiny import CAPTIONS, save_tiny_checkpoint, tiny_pipeline

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "stackgan" / "tools" / "web"
DESKTOP, PHONE = (1280, 900), (390, 844)
SIZES = ["latent.dim=20"]
PIXELS = """canvas => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return btoa(Array.from(data, byte => String.fromCharCode(byte)).join(''));
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with chromium_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def packages() -> Path:
    """npm's folder node_modules with the packages of the page."""
    if not os.environ.get("STACKGAN_NODE_MODULES"):
        pytest.skip(f"STACKGAN_NODE_MODULES does not name the folder node_modules of: {web_page.INSTALL}")
    return Path(os.environ["STACKGAN_NODE_MODULES"])


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def opened(browser: Browser, url: str, size: tuple[int, int] = DESKTOP, faultless: bool = True) -> Iterator[Page]:
    """A page at ``url``; with ``faultless``, it must log nothing and request nothing from elsewhere."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    context.set_default_timeout(60_000)
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url) if not request.url.startswith(url) else None)
    page.goto(url)
    yield page
    context.close()
    assert not faultless or [fault for fault in trouble if not fault.startswith(("data:", "blob:"))] == []


def _image(page: Page, described: str) -> NDArray[np.int64]:
    """The canvas' pixels (H, W, 3) once the line below it is as ``described``."""
    expect(page.locator("#time")).to_have_text(re.compile(described), timeout=60_000)
    canvas = page.locator("#image")
    side = int(canvas.get_attribute("width") or 0)
    pixels = np.frombuffer(base64.b64decode(canvas.evaluate(PIXELS)), np.uint8).reshape(side, side, 4)
    assert (pixels[..., 3] == 255).all()
    return pixels[..., :3].astype(int)


def _wanted(pipe: StackGANPipeline, caption: str | None, seed: int, **options: Any) -> NDArray[np.int64]:
    made = pipe.sample([seed], **options) if caption is None else pipe(caption, seeds=seed, **options)
    return np.asarray(made.images[0]).astype(int)


def _fake_packages(folder: Path) -> Path:
    """The files of the packages, with a version and without content."""
    for name, (_, wanted) in web_page.PACKAGES.items():
        for file in wanted:
            (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_text("")
        (folder / name / "package.json").write_text('{"version": "0.0.7"}')
    return folder


def test_noise_is_that_of_torch(chromium: Browser) -> None:
    draws = [(seed, n) for n in (16, 17, 47, 228, 1300) for seed in (0, 12345, 2**32 - 1, 2**32 + 7, 2**53 - 1)]
    with served(WEB) as url, opened(chromium, url + "noise.js", faultless=False) as page:
        found = page.evaluate(
            """async draws => {
              const { noise } = await import('./noise.js');
              return draws.map(draw => Array.from(noise(...draw)));
            }""",
            draws,
        )
    for (seed, count), values in zip(draws, found, strict=True):
        wanted = torch.randn(count, generator=torch.Generator().manual_seed(seed)).numpy()
        np.testing.assert_allclose(np.array(values, np.float32), wanted, atol=2e-6)


def _captions() -> list[str]:
    """Plain ones, long ones, and ones with unusual signs."""
    lines = [line for name in ("plain_captions.txt", "everyday_sentences.txt") for line in _lines(name)]
    draw = random.Random(0)
    words = [word for line in lines for word in line.split()]
    long = [" ".join(draw.choices(words, k=draw.randint(40, 120))) for _ in range(80)]
    cases = [str.upper, str.title, str.lower]
    mixed = [" ".join(draw.choice(cases)(word) for word in line.split()) for line in lines]
    blocks = [range(0x20, 0x600), range(0x2000, 0x2100), range(0x3000, 0x3100), range(0x4E00, 0x4E40)]
    signs = [chr(code) for block in blocks for code in block]
    strange = ["".join(draw.choices(signs, k=draw.randint(1, 90))) for _ in range(200)]
    return [
        "", " ", "naïve café cafe\u0301 Å É", "鳥 red 小鳥", "🐦 \U0001f3f3\ufe0f\u200d\U0001f308", "½ ² ① Ⅷ 3.5 10%",
        "ßtraße İst ﬁn Σς", "a\u00a0b\u200bc\u3000d\ufeffe", "[SEP] red [CLS]bird[PAD] [UNK]", "tab\there\nline",
        f"{'x' * 99} {'y' * 100} {'z' * 101}", "I'm a bird, with: (black) wings!", "красная ПТИЦА", "새 עוף नीला",
        "<b>red</b> & \"blue\" `x` $5 ^_^ ~|=+",
        *lines, *mixed, *long, *strange,
    ]  # fmt: skip


def _lines(name: str) -> list[str]:
    return (ROOT / "tests" / name).read_text("utf-8").splitlines()


def test_token_ids_are_those_of_the_tokenizer(packages: Path, chromium: Browser, tmp_path: Path) -> None:
    shutil.copytree(WEB, tmp_path, dirs_exist_ok=True)
    shutil.copytree(packages / "@huggingface" / "tokenizers" / "dist", tmp_path / "vendor/@huggingface/tokenizers")
    captions = _captions()
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=600, special_tokens=["</s>"], initial_alphabet=ByteLevel.alphabet())
    bpe.train_from_iterator(CAPTIONS, trainer)
    bpe.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    with served(tmp_path) as url, opened(chromium, url + "noise.js", faultless=False) as page:
        for tokenizer, longest in (
            (Tokenizer.from_file(str(ROOT / "checkpoints" / "birds-64" / "text" / "tokenizer.json")), 64),
            (bpe, 40),
        ):
            tokenizer.enable_truncation(longest)
            tokenizer.save(str(tmp_path / f"{longest}.json"))
            found = page.evaluate(
                """async ([captions, file]) => {
                  const { tokenizer } = await import('./tokens.js');
                  const ids = tokenizer(await (await fetch(file)).json());
                  return captions.map(caption => ids(caption));
                }""",
                [captions, f"{longest}.json"],
            )
            wanted = [row.ids for row in tokenizer.encode_batch(captions)]
            assert found == wanted and sum(len(ids) == longest for ids in wanted) > 50


@pytest.fixture(scope="module")
def exported(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StackGANPipeline]:
    folder = tmp_path_factory.mktemp("web")
    checkpoint = save_tiny_checkpoint(folder / "tiny", latent=SIZES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, "CHECKED", 4)
        export(checkpoint, folder / "out", page=packages)
    return folder / "out", StackGANPipeline.from_pretrained(checkpoint, device="cpu")


def test_images_are_those_of_the_pipeline(
    exported: tuple[Path, StackGANPipeline], chromium: Browser, tmp_path: Path
) -> None:
    folder, pipe = exported
    with served(folder) as url, opened(chromium, url) as page:
        first = _image(page, r"^128 × 128 pixels, seed 1, in \d+ ms$")
        assert np.abs(first - _wanted(pipe, CAPTIONS[0], 1)).max() <= 1 and first.std() > 5
        caption, canvas = page.get_by_label("Caption"), page.locator("#image")
        assert caption.input_value() == CAPTIONS[0]  # the checkpoint's example

        for words in ("a", "a blue", "a blue bird", CAPTIONS[2]):  # faster than images are generated
            caption.fill(words)
        expect(page.locator("#shown")).to_have_text(CAPTIONS[2])
        expect(canvas).to_have_attribute("aria-label", f"Generated image: {CAPTIONS[2]}")
        assert np.abs(_image(page, "seed 1,") - _wanted(pipe, CAPTIONS[2], 1)).max() <= 1

        page.get_by_label("Variety").fill("0.5")
        page.get_by_label("Size").select_option("64")
        page.get_by_label("Seed", exact=True).fill(str(2**33 + 5))
        found = _image(page, rf"^64 × 64 pixels, seed {2**33 + 5}, ")
        assert np.abs(found - _wanted(pipe, CAPTIONS[2], 2**33 + 5, truncation=0.5, size=64)).max() <= 1

        with page.expect_download() as saving:
            page.get_by_role("button", name="Save as PNG").click()
        assert saving.value.suggested_filename == f"{CAPTIONS[2].replace(' ', '-')}_seed-{2**33 + 5}.png"
        saving.value.save_as(tmp_path / "saved.png")
        assert (np.asarray(Image.open(tmp_path / "saved.png").convert("RGB")) == found).all()

        page.get_by_role("button", name="New seed").click()
        expect(page.locator("#time")).not_to_have_text(re.compile(f"seed {2**33 + 5}"))
        page.get_by_label("Seed", exact=True).fill("3")
        markup = '<img src=x onerror="alert(1)"> red'
        caption.fill(markup)  # is text
        expect(page.locator("#shown")).to_have_text(markup)
        assert np.abs(_image(page, "seed 3,") - _wanted(pipe, markup, 3, truncation=0.5, size=64)).max() <= 1
        assert page.locator("img").count() == 0

        for box, wrong, message in (
            (caption, "", "Write a caption"),
            (caption, "a\x07b", "control character"),
            (page.get_by_label("Seed", exact=True), "-1", "The seed must be an integer from 0"),
            (page.get_by_label("Seed", exact=True), "1.5", "The seed must be an integer from 0"),
        ):
            before = box.input_value()
            box.fill(wrong)
            expect(page.get_by_role("status")).to_contain_text(message)
            expect(box).to_have_attribute("aria-invalid", "true")
            box.fill(before)
            expect(page.get_by_role("status")).to_have_text("")


def test_without_captions_and_on_a_phone(packages: Path, chromium: Browser, tmp_path: Path) -> None:
    free = save_tiny_checkpoint(tmp_path / "free", stages=1, text=False, latent=SIZES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, "CHECKED", 4)
        assert main(["export", str(free), str(tmp_path / "out"), "--page", str(packages)]) == 0
    pipe = StackGANPipeline.from_pretrained(free, device="cpu")
    with served(tmp_path / "out") as url, opened(chromium, url, PHONE) as page:
        found = _image(page, "^64 × 64 pixels, seed 1,")
        assert np.abs(found - _wanted(pipe, None, 1)).max() <= 1
        expect(page.get_by_label("Caption")).to_be_hidden()
        expect(page.get_by_label("Size")).to_be_hidden()  # there is one
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(
    exported: tuple[Path, StackGANPipeline], chromium: Browser
) -> None:
    with served(exported[0]) as url, opened(chromium, url, PHONE) as page:
        _image(page, "seed 1,")
        page.get_by_label("Caption").focus()
        reached = []
        for _ in range(8):
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
            page.keyboard.press("Tab")
        assert reached == ["caption", *CAPTIONS[:2], "save", "seed", "roll", "truncation", "size"]
        heights = page.eval_on_selector_all(
            "button, select, textarea, input", "all => all.map(one => one.getBoundingClientRect().height)"
        )
        assert min(heights) >= 44 and page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("button", name=CAPTIONS[1]).press("Enter")
        expect(page.locator("#shown")).to_have_text(CAPTIONS[1])


def test_a_page_that_cannot_start_says_why(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "CHECKED", 4)
    free, out = save_tiny_checkpoint(tmp_path / "free", stages=1, text=False, latent=SIZES), tmp_path / "out"
    export(free, out, page=_fake_packages(tmp_path / "fake"))
    assert "onnxruntime-web 0.0.7, @huggingface/tokenizers 0.0.7" in (out / "README.md").read_text("utf-8")
    with served(out) as url, opened(chromium, url, faultless=False) as page:
        expect(page.get_by_role("status")).to_contain_text("README.md says what belongs in its folder")
    with opened(chromium, (out / "index.html").as_uri(), faultless=False) as page:
        expect(page.get_by_text("If nothing loads")).to_be_visible()


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake, out = _fake_packages(tmp_path / "fake"), tmp_path / "out"
    stored = tiny_pipeline(stages=1, latent=SIZES)
    stored.text_encoder = None  # as of precomputed embeddings
    stored.save_pretrained(tmp_path / "stored", card="# tiny\n")
    (fake / "onnxruntime-web" / "dist" / "ort-wasm-simd-threaded.wasm").rename(tmp_path / "away")
    for modules, message in (
        (fake, f"ort-wasm-simd-threaded.wasm: missing; the page needs npm's folder node_modules: {web_page.INSTALL}"),
        (_fake_packages(tmp_path / "whole"), "has no text encoder for the captions of a page"),
    ):
        assert main(["export", str(tmp_path / "stored"), str(out), "--page", str(modules)]) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()


def test_the_policy_admits_no_inline_code_and_no_other_host() -> None:
    html = (WEB / "index.html").read_text("utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert (
        policy.startswith("default-src 'none';") and "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    )
    assert "http" not in policy and not re.search(r"\son\w+=|<style|style=|<script(?![^>]* src=)", html)
    everything = "".join(file.read_text("utf-8") for file in WEB.iterdir())
    assert "http:" not in everything and "https:" not in everything and "innerHTML" not in everything


def test_ci_and_the_documentation_name_the_versions_that_are_tested() -> None:
    wanted = [f"{name}@{version}" for name, (version, _) in web_page.PACKAGES.items()]
    for file in (".ci/run", "checkpoints/README.md"):
        assert re.findall(r"[\w@/-]+@\d+\.\d+\.\d+", (ROOT / file).read_text("utf-8")) == wanted, file

"""Fixtures: tiny pipelines, their pages, and Chromium."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from stackgan.config.facts import DataFacts
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, PHONE, Site, Visitor, free_port, launched
from tests.chromium import chromium_browser
from tests.serving import serving
from tests.tiny import save_tiny_checkpoint, tiny_pipeline

ROOT = Path(__file__).resolve().parents[2]
CARD = """---
license: mit
---
# Tiny birds

Made for the tests. ![a picture elsewhere](https://example.com/bird.png) <img src="https://example.com/b.png">
"""
LATENT = ("latent.z=flow", "latent.c=flow")


@pytest.fixture(scope="package", autouse=True)
def _files_of_gradio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


@pytest.fixture(scope="package")
def pipe() -> StackGANPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="package")
def able() -> StackGANPipeline:
    pipe = tiny_pipeline(stages=1, latent=LATENT)
    pipe.facts = replace(pipe.facts, data=DataFacts(kind="painted", identity="", images=0, captions=0))
    return pipe


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    with chromium_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """``python app.py`` with a tiny checkpoint of two stages; stopped by SIGINT."""
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("site") / "tiny")
    (folder / "README.md").write_text(CARD, "utf-8")
    temporary = tmp_path_factory.mktemp("temporary")
    port = free_port()
    command = [sys.executable, "app.py", "--checkpoint", str(folder), "--port", str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    with serving(command, cwd=ROOT, env=environment) as printed:
        url = f"http://127.0.0.1:{port}"
        assert printed.readline() == f"Page at {url} (Ctrl-C stops)\n"
        yield Site(url, folder, StackGANPipeline.from_pretrained(folder).fingerprint)
    assert not any(file.is_file() for file in temporary.rglob("*"))  # clears the gallery


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


@pytest.fixture(scope="package")
def studio(pipe: StackGANPipeline) -> Iterator[str]:
    with launched(pipe) as url:
        yield url

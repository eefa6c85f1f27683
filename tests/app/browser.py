"""A browser session on the page in Chromium that records errors and unexpected requests."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from stackgan.app.page import build
from stackgan.app.server import launch
from stackgan.pipeline import StackGANPipeline

DESKTOP, PHONE = (1280, 900), (390, 844)
expect.set_options(timeout=30_000)  # generous, for slow machines


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site(NamedTuple):
    url: str
    checkpoint: Path
    fingerprint: str


@contextmanager
def launched(pipe: StackGANPipeline) -> Iterator[str]:
    """The page of a pipeline, served from this process; yields its address."""
    page = build(pipe)
    launch(page, "127.0.0.1", free_port())
    try:
        yield str(page.local_url)
    finally:
        page.close(verbose=False)


class Visitor:
    """A page and its faults: errors, requests to other hosts, failed requests."""

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
        ours = message.text != "Method not implemented."  # logged by Gradio at every successful upload
        return message.type in ("error", "warning") and ours

    def _look_where(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.trouble.append(f"outside: {request.url}")

    def _look_why(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # normal end of downloads and event streams
            self.trouble.append(f"failed: {request.url} {request.failure}")

    def paint(self) -> None:
        """Press the button and wait for the images."""
        self.page.locator("#paint").click()
        self.painted()

    def painted(self) -> None:
        """Wait until the gallery shows the requested images, all of them loaded."""
        expect(self.page.locator(".results:not(.preview) h2")).to_have_text(re.compile(r"\d+ images? in \d"))
        self.page.wait_for_function(
            "[...document.querySelectorAll('.card img')].every(image => image.complete && image.naturalWidth)"
        )

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()

    def sources(self) -> list[str]:
        """URLs of the images; they contain a hash of the content."""
        images = self.page.locator(".card .open img")
        return [str(image.get_attribute("src")) for image in images.all()]

    def fits(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    def close(self) -> None:
        self.context.close()
        assert self.trouble == [], self.trouble


def caption_box(visitor: Visitor) -> Any:
    return visitor.page.locator("#caption textarea")


def seed_box(visitor: Visitor) -> Any:
    return visitor.page.locator("#seed input")


def live_box(visitor: Visitor) -> Any:
    return visitor.page.locator("#live input")


def shows(visitor: Visitor, caption: str) -> None:
    """Wait until the gallery shows images of this caption."""
    expect(visitor.page.locator(".results:not(.preview) .card .caption").first).to_have_text(caption)

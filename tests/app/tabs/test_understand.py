"""The tab in a browser, and its numbers as JSON."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from stackgan.app.tabs.understand import analysis, numbers_html
from stackgan.app.understanding import code_numbers, domain
from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, PHONE, Visitor, launched
from tests.tiny import CAPTIONS


def test_analysis_is_json(able: StackGANPipeline) -> None:
    found = json.loads(json.dumps(analysis(able, f" {CAPTIONS[0]}\n"), allow_nan=False))
    assert found["caption"] == CAPTIONS[0] and len(found["mu"]) == able.model.code_dim
    assert found["kl_total"] == pytest.approx(sum(found["kl"])) and 0 <= found["log_prob_quantile"] <= 1


def test_words_of_the_caption_are_escaped(able: StackGANPipeline) -> None:
    text = "<b>${alert}</b> `bird`"
    shown = numbers_html(code_numbers(able, text), domain(able, text))
    assert "<b>" not in shown and "${" not in shown and "`" not in shown


@pytest.fixture(scope="module")
def url(able: StackGANPipeline) -> Iterator[str]:
    with launched(able) as url:
        yield url


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_browser_analyses_a_caption(
    chromium: Browser, able: StackGANPipeline, url: str, tmp_path: Path, size: tuple[int, int]
) -> None:
    visitor = Visitor(chromium, url, size)
    page = visitor.page
    page.get_by_role("tab", name="Understand").click()
    caption = page.get_by_role("textbox", name="Caption to analyse")
    expect(caption).to_have_value(able.examples[0])
    figure = page.locator("#understand-numbers .figure").first
    first = figure.inner_text()
    caption.press("End")
    caption.type(" and a crown")
    expect(page.locator("#understand-pictures .pictures img")).to_have_count(6 + 6 + 7)
    expect(figure).not_to_have_text(first)
    total = code_numbers(able, caption.input_value()).total
    expect(figure).to_contain_text(f"{total:.2f} nats")
    for name in ("KL by dimension", "Mean and standard deviation by dimension"):
        expect(page.get_by_role("img", name=re.compile(name))).to_be_visible()
    expect(page.get_by_role("spinbutton", name="Seed of z")).to_be_visible()
    expect(page.get_by_role("button", name="Analyse")).to_be_visible()
    summary = page.get_by_text("Table of the numbers")
    summary.focus()
    page.keyboard.press("Enter")
    table = page.locator("#understand-numbers details table").first
    expect(table.get_by_role("row")).to_have_count(able.model.code_dim + 1)
    assert visitor.fits()
    page.screenshot(path=tmp_path / "understand.png", full_page=True)
    visitor.close()

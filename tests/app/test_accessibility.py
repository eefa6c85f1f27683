"""What a screen reader is told and what the keyboard alone reaches, from Chromium's accessibility tree."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from stackgan.pipeline import StackGANPipeline
from tests.app.browser import DESKTOP, Visitor, caption_box, launched, live_box, shows
from tests.tiny import CAPTIONS

# Roles that a person operates; each needs a name. (Gradio marks its icons as images, without a name.)
NAMED = {
    "button",
    "checkbox",
    "combobox",
    "dialog",
    "link",
    "listbox",
    "radio",
    "searchbox",
    "slider",
    "spinbutton",
    "tab",
    "textbox",
}


def _tree(page: Page) -> list[dict[str, Any]]:
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [node for node in nodes if not node.get("ignored")]


def _names(page: Page) -> list[tuple[str, str]]:
    """Role and name of every node that needs a name."""
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in _tree(page)]
    return [(role, name) for role, name in found if role in NAMED]


def _focus_order(page: Page, most: int = 150) -> list[str]:
    """The elements that Tab reaches from the start of the page, until it returns there."""
    describe = """() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const text = element.getAttribute('aria-label') || element.textContent || element.getAttribute('title');
      return element.closest('[id]').id + ' ' + element.tagName + ' ' + (text || '').trim().slice(0, 60);
    }"""
    page.evaluate("document.activeElement?.blur()")
    order: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        reached = page.evaluate(describe)
        if reached is None:
            return order
        order.append(reached)
    raise AssertionError(f"Tab does not leave: {order[-6:]}")


def _tabs(page: Page) -> list[str]:
    return [text.strip() for text in page.get_by_role("tab").all_text_contents()]


def test_browser_every_control_and_image_has_a_name(chromium: Browser, able: StackGANPipeline) -> None:
    with launched(able) as url:
        visitor = Visitor(chromium, url, DESKTOP)
        page = visitor.page
        live_box(visitor).uncheck()
        caption_box(visitor).fill(CAPTIONS[0])
        visitor.paint()
        page.get_by_text("More settings").click()
        assert "Photo" in _tabs(page)
        for title in _tabs(page):
            page.get_by_role("tab", name=title, exact=True).click()
            nameless = [role for role, name in _names(page) if not name.strip()]
            assert not nameless, (title, nameless)
            # An empty text is for an image in a button that has a name.
            images = page.locator("img[src]:not([src='']):not(button[aria-label] img)")
            assert all(image.get_attribute("alt") for image in images.all()), title
        page.get_by_role("tab", name="Generate", exact=True).click()
        names = _names(page)
        assert page.locator(".card .open img").first.get_attribute("alt") == CAPTIONS[0]
        for role, name in (
            ("textbox", "Caption"),
            ("button", "Generate"),
            ("spinbutton", "Seed"),
            ("button", "Roll"),
        ):
            assert (role, name) in names
        assert ("button", f"Enlarge: {CAPTIONS[0]}, seed 1") in names
        assert ("button", f"Open: {CAPTIONS[0]}, seed 1") in names, "in the history"
        visitor.close()


def test_browser_the_keyboard_alone_reaches_and_does_everything(chromium: Browser, studio: str) -> None:
    visitor = Visitor(chromium, studio, DESKTOP)
    page = visitor.page
    live_box(visitor).uncheck()
    caption_box(visitor).focus()
    page.keyboard.type(CAPTIONS[2])
    page.keyboard.press("Enter")
    shows(visitor, CAPTIONS[2])
    order = _focus_order(page)
    for expected in (
        "Generate",
        "live INPUT",
        "BUTTON Enlarge: " + CAPTIONS[2][:20],
        "BUTTON reuse",
        "BUTTON more",
        "A save",
        "BUTTON Copy link",
        "A Save all (ZIP)",
        "BUTTON Open: " + CAPTIONS[2][:20],
        "BUTTON Favourite",
        "BUTTON Delete from the history",
        "INPUT number input for Images",
        "seed INPUT",
        "dice BUTTON Roll",
        "best BUTTON Best of 16 seeds",
        "keep INPUT",
        "BUTTON More settings",
        "open-png BUTTON Open a PNG",
    ):
        assert any(expected in reached for reached in order), (expected, order)
    enlarge = page.locator(".card .open").first
    enlarge.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert enlarge.evaluate("button => button === document.activeElement"), "the focus returns"
    visitor.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_browser_text_has_contrast(chromium: Browser, studio: str, theme: str) -> None:
    """4.5 : 1 for the texts of the page's own style sheet (WCAG 2.2, 1.4.3)."""
    visitor = Visitor(chromium, f"{studio}?__theme={theme}", DESKTOP)
    for selector in (".chip", ".pill", "#paint", ".stages span"):
        expect(visitor.page.locator(selector).first).to_be_visible()
    ratios = visitor.page.evaluate(
        """() => {
          const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
          const luminance = ([r, g, b]) => [r, g, b].map((value) => value / 255)
            .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
            .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
          const behind = (element) => {
            for (let each = element; each; each = each.parentElement) {
              const colour = parse(getComputedStyle(each).backgroundColor);
              if (colour.length === 3 || colour[3] === 1) return colour;
            }
            return [255, 255, 255];
          };
          const selectors = ['.heading p', '.hint', '.chip', '.results header p', '.card .caption', '.card .seed',
            '.card .link', '.pill', '#paint', '.stages span'];
          return selectors.map((selector) => {
            const element = document.querySelector(selector);
            const pair = [parse(getComputedStyle(element).color), behind(element)].map(luminance);
            return [selector, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
          });
        }"""
    )
    assert [selector for selector, ratio in ratios if ratio < 4.5] == [], ratios
    visitor.close()

"""Shared by all tabs: custom HTML components, and event handlers that report errors on the page."""

import logging
import re
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

__all__ = ["GENERATION", "html", "html_text", "reporting_errors"]

# Options of an event that generates images: one at a time, over all tabs.
GENERATION: dict[str, Any] = {"concurrency_id": "paint", "concurrency_limit": 1}


def html(value: Any, **options: Any) -> gr.HTML:
    """HTML that is styled by ``page.css`` alone."""
    return gr.HTML(value, apply_default_css=False, **options)


def html_text(text: str) -> str:
    """Text as HTML without any character that is special in it, in Handlebars or in JavaScript.

    Gradio evaluates a filled template as a JavaScript template string.

    >>> html_text("a <b> & ${c}")
    'a &#60;b&#62; &#38; &#36;&#123;c&#125;'
    """
    return re.sub(r"[^\w\s.,]", lambda match: f"&#{ord(match[0])};", text)


def reporting_errors(work: Callable[[], Any], otherwise: Any) -> Any:
    """What ``work`` returns, or ``otherwise`` and a message on the page that says what is wrong."""
    try:
        return work()
    except ValueError as error:
        gr.Warning(escape(str(error)))
    except Exception:
        logging.exception("generation failed")
        gr.Warning("Something went wrong while painting; the terminal that runs the app says what.")
    return otherwise

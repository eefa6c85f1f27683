"""Parts shared by the tabs: custom HTML components, and error messages of event handlers."""

import logging
import re
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr
from gradio.context import Context

from stackgan.app.dynamic_batching import AT_ONCE

__all__ = ["CONCURRENT", "GENERATION", "QUICK", "html", "html_text", "opened_tab", "reporting_errors"]

# Options of an event of the page that generates images: one at a time, over all tabs, so that none overtakes another.
GENERATION: dict[str, Any] = {"concurrency_id": "paint", "concurrency_limit": 1}
# Of an endpoint of the API whose requests do not depend on each other: so many at a time, whose images form batches.
CONCURRENT: dict[str, Any] = {"concurrency_id": "requests", "concurrency_limit": AT_ONCE}
# Of an event that is answered at once, outside the queue.
QUICK: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}


def html(value: Any, **options: Any) -> gr.HTML:
    """HTML component styled by ``page.css`` only."""
    return gr.HTML(value, apply_default_css=False, **options)


def html_text(text: str) -> str:
    """Escape characters that are special in HTML, Handlebars or JavaScript.

    Gradio evaluates a filled template as a JavaScript template string.

    >>> html_text("a <b> & ${c}")
    'a &#60;b&#62; &#38; &#36;&#123;c&#125;'
    """
    return re.sub(r"[^\w\s.,]", lambda match: f"&#{ord(match[0])};", text)


def opened_tab() -> gr.Tab:
    """The tab whose components are being added; its event ``select`` is that it is opened.

    Raises:
        RuntimeError: none is.
    """
    block = Context.block
    while block is not None and not isinstance(block, gr.Tab):
        block = block.parent
    if block is None:
        raise RuntimeError("this can only be called while a tab is built")
    return block


def reporting_errors(work: Callable[[], Any], otherwise: Any) -> Any:
    """Return the result of ``work``; after an error show a message on the page and return ``otherwise``."""
    try:
        return work()
    except ValueError as error:
        gr.Warning(escape(str(error)))
    except Exception:
        logging.exception("generation failed")
        gr.Warning("Something went wrong while generating images; see the terminal that runs the app.")
    return otherwise

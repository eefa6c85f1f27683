"""Functions of the page's API that return files, and raise errors in words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import gradio as gr

__all__ = ["FAILED", "endpoint"]

FAILED = "Something went wrong; see the terminal that runs the app."


def endpoint(
    name: str, function: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], **options: Any
) -> None:
    """Offer ``function`` in the page's API as ``/name``; its parameters are named as those of the function.

    Args:
        function: raises ``ValueError`` for wrong input; clients get its message.
        inputs: components of the page, one a parameter; their values on the page are the defaults.
        outputs: components, which are not shown: ``gr.File(visible=False)``, …
        options: of the event, such as its concurrency.
    """

    @wraps(function)
    def answer(*values: Any) -> Any:
        try:
            return function(*values)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception:
            logging.exception("/%s failed", name)
            raise gr.Error(FAILED) from None

    gr.Button(visible=False).click(answer, list(inputs), list(outputs), api_name=name, **options)

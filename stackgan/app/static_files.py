"""The page's style sheet, scripts and Handlebars templates: files in ``static/`` beside this module."""

from functools import cache
from importlib.resources import files

__all__ = ["read_static"]


@cache
def read_static(name: str) -> str:
    """The text of one file.

    >>> read_static("gallery.js").startswith("// Gradio supplies")
    True
    """
    return files("stackgan.app").joinpath("static", name).read_text("utf-8")

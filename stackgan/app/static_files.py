"""Style sheet, scripts and Handlebars templates of the page, from ``static/`` beside this module."""

from functools import cache
from importlib.resources import files

__all__ = ["read_static"]


@cache
def read_static(name: str) -> str:
    """Read one file as text.

    >>> read_static("gallery.js").startswith("// Gradio supplies")
    True
    """
    return files("stackgan.app").joinpath("static", name).read_text("utf-8")

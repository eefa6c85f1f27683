"""The tabs of the page, one a file, and the table of them.

A tab is two functions: ``available(pipe)`` says whether a checkpoint has the modules that it needs, ``build(pipe)``
adds its components and events to the page.
"""

from collections.abc import Callable
from typing import NamedTuple

from stackgan.app.tabs import caption, interpolation, photo, text_free
from stackgan.pipeline import StackGANPipeline

__all__ = ["TABS", "Tab", "available_tabs"]


class Tab(NamedTuple):
    available: Callable[[StackGANPipeline], bool]
    build: Callable[[StackGANPipeline], None]


# By title, in the page's order.
TABS = {
    "Paint": Tab(caption.available, caption.build),
    "Photo": Tab(photo.available, photo.build),
    "Walk": Tab(interpolation.available, interpolation.build),
    "No words": Tab(text_free.available, text_free.build),
}


def available_tabs(pipe: StackGANPipeline) -> dict[str, Tab]:
    """The tabs of a checkpoint, by title."""
    return {title: tab for title, tab in TABS.items() if tab.available(pipe)}

"""Table of the page's tabs, each in its own file.

A tab consists of two functions: ``available(pipe)`` returns whether the checkpoint has the required modules,
``build(pipe)`` adds the components and events to the page.
"""

from collections.abc import Callable
from typing import NamedTuple

from stackgan.app.tabs import caption, interpolation, photo, text_free, understand
from stackgan.pipeline import StackGANPipeline

__all__ = ["TABS", "Tab", "available_tabs"]


class Tab(NamedTuple):
    available: Callable[[StackGANPipeline], bool]
    build: Callable[[StackGANPipeline], None]


# By title, in order of appearance.
TABS = {
    "Generate": Tab(caption.available, caption.build),
    "Photo": Tab(photo.available, photo.build),
    "Video": Tab(interpolation.available, interpolation.build),
    "No text": Tab(text_free.available, text_free.build),
    "Understand": Tab(understand.available, understand.build),
}


def available_tabs(pipe: StackGANPipeline) -> dict[str, Tab]:
    """The tabs of a checkpoint, by title."""
    return {title: tab for title, tab in TABS.items() if tab.available(pipe)}

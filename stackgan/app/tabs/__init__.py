"""Table of the page's further tabs, each in its own file.

A tab consists of two functions: ``available(config)`` returns whether a checkpoint of this configuration has the
required modules, ``build(pipe)`` adds the components and events to the page.
"""

from collections.abc import Callable
from typing import NamedTuple

from stackgan.app.tabs import batch, grid, interpolation, photo, text_free, understand
from stackgan.config import Config
from stackgan.pipeline import StackGANPipeline

__all__ = ["TABS", "Tab"]


class Tab(NamedTuple):
    available: Callable[[Config], bool]
    build: Callable[[StackGANPipeline], None]


# By title, in order of appearance, after the tab that generates from a caption (stackgan.app.tabs.caption).
TABS = {
    "Photo": Tab(photo.available, photo.build),
    "Video": Tab(interpolation.available, interpolation.build),
    "Grid": Tab(grid.available, grid.build),
    "Batch": Tab(batch.available, batch.build),
    "No text": Tab(text_free.available, text_free.build),
    "Understand": Tab(understand.available, understand.build),
}

"""The pipelines of the page by name; all but the first are loaded when they are used for the first time."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from stackgan.app.dynamic_batching import shared
from stackgan.checkpoint import load_description
from stackgan.config import Config
from stackgan.generation.image_settings import ImageSettings
from stackgan.pipeline import StackGANPipeline

__all__ = ["Pipelines"]

UNNAMED = "checkpoint"  # name of a pipeline that was not loaded from a folder
LEAST_HASH = 8  # characters of a fingerprint that identify a checkpoint


class Pipelines:
    """One pipeline that is loaded, and folders of others that take captions too.

    Args:
        first: the pipeline that the page opens with.
        others: folders of further checkpoints by name; ignored if ``first`` was trained without text.
        device: for the others, see :meth:`StackGANPipeline.from_pretrained`.

    Attributes:
        names: that of the first pipeline, then those of the others.
    """

    def __init__(
        self, first: StackGANPipeline, others: Mapping[str, Path] | None = None, device: str | None = None
    ) -> None:
        self.first, self._device = shared(first), device
        name = first.name or UNNAMED
        self._folders = {key: folder for key, folder in (others or {}).items() if first.conditional and key != name}
        self._loaded = {name: first}
        self.names = [name, *sorted(self._folders)]
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> StackGANPipeline:
        """A pipeline by its name.

        Raises:
            ValueError: there is none of this name, or its checkpoint cannot be loaded.
        """
        with self._lock:
            if name not in self._loaded:
                if name not in self._folders:
                    raise ValueError(f"There is no checkpoint {name!r} here: choose {' or '.join(self.names)}.")
                pipe = StackGANPipeline.from_pretrained(self._folders[name], device=self._device)
                self._loaded[name] = shared(pipe)
            return self._loaded[name]

    def name_of(self, settings: ImageSettings) -> tuple[str, str | None]:
        """Name of the pipeline to generate an image with, and what made the image if that is not here.

        It is found by its fingerprint, else by its name; otherwise it is the first.
        """
        hashed = settings.fingerprint
        named = settings.checkpoint if settings.checkpoint in self.names else None
        order = self.names if named is None else [named, *self.names]
        if len(hashed) >= LEAST_HASH:
            for name in order:
                if self[name].fingerprint.startswith(hashed):
                    return name, None
        name = named or self.names[0]
        if (named is not None and not hashed) or not (hashed or settings.checkpoint):
            return name, None
        made = settings.checkpoint or "a checkpoint"
        made += f" with the fingerprint {hashed[:12]}" if hashed else ""
        return name, made

    def having(self, able: Callable[[Config], bool]) -> str | None:
        """Name of the first pipeline for whose configuration ``able`` is true; None if there is none."""
        return next((name for name in self.names if able(self._config(name))), None)

    def _config(self, name: str) -> Config:
        """The configuration of a pipeline, which is not loaded for it."""
        loaded = self._loaded.get(name)
        return loaded.config if loaded is not None else load_description(self._folders[name])[0]

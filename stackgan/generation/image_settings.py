"""Settings that determine an image, as text chunks of its PNG and as the query of a link.

A PNG has two forms of them: one text chunk for each setting, which are read back exactly, and the chunk
``parameters`` in the format of AUTOMATIC1111's web UI, which galleries and other tools index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from stackgan.config import MAX_SEED
from stackgan.images.photos import opened_image

__all__ = ["ImageSettings", "link_query", "png_texts", "read_link", "read_png"]

MODEL_HASH = 10  # characters of the fingerprint in the chunk "parameters", as many as AUTOMATIC1111 writes
LINK_HASH = 12  # and in a link
MOST_FIELDS = 32  # fields of a link
# "Name: value" pairs of the last line of the chunk "parameters"; a value with a comma is quoted.
PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


@dataclass(frozen=True)
class ImageSettings:
    """What determines an image.

    Attributes:
        caption: empty for an image that was generated without text.
        seed: of the image, from 0.
        truncation: 0 to 2; None if unknown (a file of another program), for the value that a checkpoint recommends.
        fingerprint: sha256 of the checkpoint's files, or its first characters; empty if unknown.
        checkpoint: name of the checkpoint; empty if unknown.
        size: side in pixels of the stage; None for all stages.
        variation: seed and strength of :meth:`StackGANPipeline.__call__ <stackgan.pipeline.StackGANPipeline>`.

    Raises:
        ValueError: a value is out of range.
    """

    caption: str
    seed: int
    truncation: float | None = 1.0
    fingerprint: str = ""
    checkpoint: str = ""
    size: int | None = None
    variation: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        for name, seed in (("seed", self.seed), ("variation seed", self.variation[0] if self.variation else 0)):
            if not 0 <= seed <= MAX_SEED:
                raise ValueError(f"the {name} is {seed}: it must be from 0 to {MAX_SEED}")
        if self.truncation is not None and not 0 <= self.truncation <= 2:
            raise ValueError(f"the truncation is {self.truncation:g}: it must be from 0 to 2")
        if self.variation is not None and not 0 <= self.variation[1] <= 1:
            raise ValueError(f"the variation strength is {self.variation[1]:g}: it must be from 0 to 1")


# --- PNG --------------------------------------------------------------------------------------------------


def png_texts(settings: ImageSettings, size: tuple[int, int]) -> dict[str, str]:
    """Text chunks of a PNG with ``size`` (width, height) in pixels.

    >>> texts = png_texts(ImageSettings("a red bird", 7, 0.8, "f" * 64, "birds-256"), (256, 256))
    >>> print(texts["parameters"])
    a red bird
    Steps: 1, Sampler: StackGAN++, Seed: 7, Size: 256x256, Model hash: ffffffffff, Model: birds-256, Truncation: 0.8
    """
    texts = {"caption": settings.caption, "seed": str(settings.seed)}
    if settings.truncation is not None:
        texts["truncation"] = str(settings.truncation)
    if settings.fingerprint:
        texts["checkpoint"] = settings.fingerprint
    if settings.checkpoint:
        texts["checkpoint_name"] = settings.checkpoint
    if settings.variation is not None:
        texts["variation_seed"], texts["variation_strength"] = map(str, settings.variation)
    texts["parameters"] = _parameters(settings, size)
    return texts


def _parameters(settings: ImageSettings, size: tuple[int, int]) -> str:
    values: dict[str, object] = {"Steps": 1, "Sampler": "StackGAN++", "Seed": settings.seed}
    values["Size"] = f"{size[0]}x{size[1]}"
    if settings.fingerprint:
        values["Model hash"] = settings.fingerprint[:MODEL_HASH]
    if settings.checkpoint:
        values["Model"] = settings.checkpoint
    if settings.variation is not None:
        values["Variation seed"], values["Variation seed strength"] = settings.variation
    if settings.truncation is not None:
        values["Truncation"] = settings.truncation
    fields = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in values.items())
    return f"{settings.caption}\n{fields}"


def _quoted(value: str) -> str:
    if not re.search(r'[,:\n"]', value):
        return value
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def read_png(file: str | Path) -> ImageSettings:
    """Settings of a PNG of this program, or of one with the chunk ``parameters``.

    Raises:
        ValueError: the file is no PNG or damaged, has no settings, or one of them is not valid; the message does not
            name the file.
        FileNotFoundError: there is no such file.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file}: no such file")
    with opened_image(Path(file), ["PNG"]) as image:
        image.load()  # text chunks may come after the pixels
        texts, side = {key: str(value) for key, value in image.text.items()}, image.width  # type: ignore[attr-defined]
    if "caption" in texts and "seed" in texts:
        return _from_texts(texts, side)
    if "parameters" in texts:
        return _from_parameters(texts["parameters"])
    raise ValueError(
        "this PNG has no settings: it was not written by this program, or another program has saved it since"
    )


def _from_texts(texts: Mapping[str, str], side: int) -> ImageSettings:
    if not texts["seed"].strip().lstrip("-").isdecimal():
        raise ValueError(f"the seed is {texts['seed'][:80]!r}: this image cannot be generated from settings alone")
    variation = None
    if "variation_seed" in texts:
        variation = (
            _integer("variation seed", texts["variation_seed"]),
            _number("variation strength", texts.get("variation_strength", "")),
        )
    return ImageSettings(
        texts["caption"],
        _integer("seed", texts["seed"]),
        _number("truncation", texts["truncation"]) if "truncation" in texts else None,
        texts.get("checkpoint", ""),
        texts.get("checkpoint_name", ""),
        side,
        variation,
    )


def _from_parameters(text: str) -> ImageSettings:
    """Caption and seed of AUTOMATIC1111's format, and our own values if they are there."""
    *prompt, last = text.strip("\n").split("\n")
    fields = {name.strip(): _unquoted(value) for name, value in PARAMETER.findall(last)}
    if "Seed" not in fields:
        raise ValueError("the PNG's chunk parameters has no seed")
    caption = "\n".join(prompt).partition("\nNegative prompt:")[0].strip()
    variation = None
    if "Variation seed" in fields:
        strength = _number("variation strength", fields.get("Variation seed strength", "0"))
        variation = (_integer("variation seed", fields["Variation seed"]), strength)
    own = fields.get("Sampler") == "StackGAN++"
    truncation = _number("truncation", fields["Truncation"]) if own and "Truncation" in fields else None
    size = fields.get("Size", "").partition("x")[0]
    return ImageSettings(
        caption,
        _integer("seed", fields["Seed"]),
        truncation,
        fields.get("Model hash", ""),
        fields.get("Model", ""),
        int(size) if own and size.isdecimal() else None,
        variation if own else None,
    )


def _unquoted(value: str) -> str:
    value = value.strip()
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] == '"' == value[-1:] and len(value) > 1 else value


# --- links ------------------------------------------------------------------------------------------------


def link_query(settings: ImageSettings, count: int = 1) -> str:
    """The settings of ``count`` images, with seeds from ``settings.seed``, as the query of a link.

    With a variation, all images have the same seed, and the variation's seeds go from its first.

    >>> link_query(ImageSettings("a red bird", 7, 0.8, "f" * 64, "birds-256"), count=4)
    'caption=a+red+bird&seed=7&truncation=0.8&count=4&checkpoint=birds-256&fingerprint=ffffffffffff'
    """
    fields: dict[str, object] = {"caption": settings.caption, "seed": settings.seed}
    if settings.truncation is not None:
        fields["truncation"] = f"{settings.truncation:g}"
    fields["count"] = count
    if settings.size is not None:
        fields["size"] = settings.size
    if settings.variation is not None:
        fields["variation"], fields["strength"] = settings.variation[0], f"{settings.variation[1]:g}"
    if settings.checkpoint:
        fields["checkpoint"] = settings.checkpoint
    fields["fingerprint"] = settings.fingerprint[:LINK_HASH]
    return urlencode(fields)


def read_link(query: str) -> tuple[ImageSettings, int]:
    """Settings and number of images of a link's query, with or without its question mark; other fields are ignored.

    Raises:
        ValueError: the query is not valid, or one of its values is not.

    >>> settings, count = read_link("?caption=a+red+bird&seed=7&count=4&__theme=dark")
    >>> settings == ImageSettings("a red bird", 7, truncation=None), count
    (True, 4)
    """
    try:
        fields: dict[str, Any] = {
            key: values[-1] for key, values in parse_qs(query.lstrip("?"), max_num_fields=MOST_FIELDS).items()
        }
    except ValueError as error:
        raise ValueError(f"the link cannot be read: {error}") from None
    variation = None
    if "variation" in fields:
        variation = (
            _integer("variation seed", fields["variation"]),
            _number("variation strength", fields.get("strength", "0")),
        )
    settings = ImageSettings(
        fields.get("caption", ""),
        _integer("seed", fields.get("seed", "0")),
        _number("truncation", fields["truncation"]) if "truncation" in fields else None,
        fields.get("fingerprint", ""),
        fields.get("checkpoint", ""),
        _integer("size", fields["size"]) if "size" in fields else None,
        variation,
    )
    return settings, _integer("count", fields.get("count", "1"))


def _integer(name: str, text: str) -> int:
    if not re.fullmatch(r"-?\d{1,19}", text.strip(), re.ASCII):
        raise ValueError(f"the {name} is {text[:80]!r}: it must be an integer")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the {name} is {text[:80]!r}: it must be a number")
    return value

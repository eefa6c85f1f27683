"""Arguments of the pipeline: captions, embeddings and seeds, checked and paired."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stackgan.captions.file import CONTROL, is_blank
from stackgan.io.files import is_utf8

__all__ = ["check_captions", "check_inputs", "choose_seeds", "pair", "refuse_unknown"]

NOT_HERE = {  # arguments of diffusion pipelines, and why a GAN has none
    "guidance_scale": "a GAN has no guidance; truncation trades variety for quality",
    "num_inference_steps": "a GAN generates an image in one pass, without steps",
    "negative_prompt": "a GAN has no negative prompts; say in the caption what the image should show",
    "strength": "see edit() for photos, and variation=(seed, strength) for images near another",
    "height": "the stages have fixed sides; choose one with size=",
    "width": "the stages have fixed sides; choose one with size=",
    "prompt": "give the captions as the first argument",
    "seed": "give seeds=, a number or a list",
}


def refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` for arguments that the pipeline does not have, and say what to use instead."""
    for name in options:
        hint = f": {NOT_HERE[name]}" if name in NOT_HERE else ""
        raise TypeError(f"StackGANPipeline has no argument {name!r}{hint}")


def check_captions(captions: Sequence[str]) -> None:
    """Raise ``ValueError`` for a caption that is empty or no text, or has control characters that are no spaces."""
    for i, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise ValueError(f"caption {i + 1} is {caption!r:.60}: captions are strings")
        if is_blank(caption):
            raise ValueError(f"caption {i + 1} is empty: describe the image")
        if not is_utf8(caption):
            raise ValueError(
                f"caption {i + 1} contains bytes that are not UTF-8 text ({caption!a:.60}): write it anew"
            )
        for sign in CONTROL.findall(caption):
            if not sign.isspace():
                raise ValueError(f"caption {i + 1} has the control character U+{ord(sign):04X}: write it without")


def check_inputs(texts: list[str] | None, embeddings: Tensor | None, conditional: bool, dim: int) -> None:
    """Raise ``ValueError`` unless there is exactly what the checkpoint generates from.

    Args:
        conditional: whether the checkpoint generates from captions.
        dim: T of its embeddings (B, T).
    """
    if texts is not None and embeddings is not None:
        raise ValueError("pass captions or embeddings, not both")
    if conditional and texts is None and embeddings is None:
        raise ValueError("this checkpoint generates from captions: pass captions (or embeddings)")
    if not conditional and (texts is not None or embeddings is not None):
        raise ValueError("this checkpoint was trained without text: leave the captions out")
    if texts is not None and not texts:
        raise ValueError("there is no caption: pass at least one")
    if embeddings is not None and (embeddings.ndim != 2 or embeddings.shape[1] != dim):
        raise ValueError(f"embeddings have shape {tuple(embeddings.shape)}: this checkpoint takes (B, {dim})")


def choose_seeds(
    seeds: int | Sequence[int] | None, captions: int, count: int, generator: torch.Generator | None
) -> tuple[list[int], list[int]]:
    """Seeds of the images, and the row of the caption of each.

    Args:
        seeds: one, for one image of every caption, or with ``count`` the first of as many in a row; or a list, paired
            with the captions; None to draw one for every image.
        captions: how many; 1 without text.
        count: images of every caption.
        generator: what drawn seeds come from; None for the operating system's random numbers.

    Raises:
        ValueError: a count below 1, a list of seeds with ``count``, seeds as well as a generator, numbers of captions
            and seeds that differ.
    """
    if count < 1:
        raise ValueError(f"count is {count}: it is the number of images of every caption, 1 or more")
    if seeds is not None and generator is not None:
        raise ValueError("pass seeds or a generator, not both")
    rows = [row for row in range(captions) for _ in range(count)]
    if seeds is None:
        if generator is not None:
            drawn = torch.randint(2**32, (len(rows),), generator=generator, device=generator.device)
            return drawn.tolist(), rows
        return [random.SystemRandom().randrange(2**32) for _ in rows], rows
    if isinstance(seeds, int):
        return [seeds + copy for _ in range(captions) for copy in range(count)], rows
    if count != 1:
        raise ValueError("a list of seeds says how many images there are: leave count out, or give its first seed")
    return pair(captions, list(seeds))


def pair(captions: int, seeds: list[int]) -> tuple[list[int], list[int]]:
    """Seeds and the rows of their captions: one each, or a single one of either with all of the other."""
    if captions == 1:
        return seeds, [0] * len(seeds)
    if len(seeds) == 1:
        return seeds * captions, list(range(captions))
    if captions != len(seeds):
        raise ValueError(
            f"{captions} captions and {len(seeds)} seeds do not match: give as many, or one of either, or ask for "
            "every caption with every seed (every_pair=True)"
        )
    return seeds, list(range(captions))

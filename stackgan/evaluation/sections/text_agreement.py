"""Text–image agreement: R-precision and CLIPScore of generated images and of real photos.

R-precision (AttnGAN, arXiv:1711.10485, section 4) is the share of images whose own caption is closer than 99 captions
of other images, by cosine of an image–text scorer's vectors. A random scorer, or a generator that ignores its
captions, gives one in a hundred. Distractors come from the whole split, or, harder, only from images of the same
species. With CLIP, there is also CLIPScore (arXiv:2104.08718). All scorers are applied to real photos too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Table, percent
from stackgan.evaluation.image_text_scorers import ClipScorer, ImageTextScorer
from stackgan.images.crops import crop_size
from stackgan.images.pixels import centre_crops

__all__ = ["check", "distractors", "r_precision", "section", "text_agreement_figures"]

DISTRACTORS = 99
BATCH = 50  # photos embedded together
CLIP_WEIGHT = 2.5  # of CLIPScore, arXiv:2104.08718, section 3
SCORERS = {
    "own": "the checkpoint's own dual encoder",
    "independent": "an independent dual encoder",
    "clip": "CLIP",
}
KINDS = {"random": "distractors of any species", "same_species": "distractors of the same species"}


def check(context: Context) -> None:
    """Load the given scorers, to report missing ones before anything is generated or trained."""
    _ = context.clip
    if context.settings.scorer is not None:
        _ = context.scorers


def section(context: Context) -> Findings:
    """R-precision of generated images and real photos for every scorer."""
    if not context.pipe.conditional:
        raise NotMeasured("the checkpoint was trained without text")
    if not context.scorers:
        raise NotMeasured("the prepared folder has no split to train an image–text scorer on: give one with --scorer")
    chunks = context.generated.chunks("scoring")
    figures = text_agreement_figures(context.split, context.rows, chunks, context.scorers, seed=context.settings.seed)
    rows = []
    for name in context.scorers:
        for kind in figures["distractors"]:
            share = figures[name][kind]
            rows.append((f"{SCORERS[name]}, {KINDS[kind]}", percent(share["painted"]), percent(share["photos"])))
        if "clip_score" in figures[name]:
            score = figures[name]["clip_score"]
            rows.append(("CLIP score", f"{score['painted']:.2f}", f"{score['photos']:.2f}"))
    best = figures[next(name for name in ("independent", "own", "clip") if name in context.scorers)]
    odds = "; ".join(
        f"{KINDS[kind]}: {f['mean']:.0f} per image, {percent(f['chance'])} by chance"
        for kind, f in figures["distractors"].items()
    )
    return Findings(
        figures=figures,
        protocol="R-precision (arXiv:1711.10485): the share of images whose own caption is closest among other "
        f"images' captions ({odds}); also for the real photos of those captions. The own dual encoder "
        "was trained with this checkpoint, which can raise the agreement; no generator was trained "
        "with the independent one.",
        tables=[Table(("scorer, distractors", "generated", "photos"), rows)],
        headlines=[("R-precision", percent(best["random"]["painted"]))] if "random" in best else [],
    )


def text_agreement_figures(
    split: PreparedSplit,
    rows: NDArray[np.int64] | Sequence[int],
    images: Iterable[Tensor],
    scorers: Mapping[str, ImageTextScorer],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Agreement of generated images, and of the captions' real photos, with the captions.

    Images are processed once; only their vectors are kept.

    Args:
        rows: (N,) the caption of each image, a row of ``split.captions``.
        images: chunks (n, 3, s, s) in [−1, 1], N images in total, in the order of ``rows``.
        scorers: see :func:`stackgan.evaluation.image_text_scorers.choose_scorers`.

    Returns: ``pictures``, their number; ``distractors``: by kind (``random``, ``same_species``) the mean number per
    image and the ``chance`` of a random scorer; and for each scorer by kind ``painted`` (generated images) with
        its standard ``error``, ``photos`` (shares) and ``ratio``. For ``clip`` also ``clip_score``, 100 · max(cos,
        0), and ``clip_s``, 2.5 · max(cos, 0), both means. Kinds without distractors (unknown species) are omitted.

    Raises:
        ValueError: the number of images is 0 or not that of rows, or there is no other image in the split.
    """
    own = np.asarray(rows, np.int64)
    kinds = _distractors_by_kind(split, own, seed)
    generated = _image_vectors(scorers, images)
    count = len(next(iter(generated.values()))) if generated else 0
    if scorers and count != len(own):
        raise ValueError(f"{count} images and {len(own)} captions: give one image per caption, in the same order")
    photo = np.searchsorted(split.offsets, own, side="right") - 1
    seen, place = np.unique(photo, return_inverse=True)
    photos = {name: vectors[place] for name, vectors in _image_vectors(scorers, _photos(split, seen)).items()}

    used = np.unique(np.concatenate([own, *(chosen[chosen >= 0] for chosen in kinds.values())]))
    index = np.full(len(split.captions), -1)
    index[used] = np.arange(len(used))
    texts = [split.captions[row] for row in used]
    result: dict[str, Any] = {"pictures": len(own), "distractors": {}}
    for kind, chosen in kinds.items():
        counts = (chosen >= 0).sum(1)
        mean, chance = float(counts.mean()), float((1 / (counts[counts > 0] + 1)).mean())
        result["distractors"][kind] = {"mean": mean, "chance": chance}
    for name, scorer in scorers.items():
        sides = generated[name], photos[name]
        vectors = _caption_vectors(scorer, name, texts)
        result[name] = {}
        for kind, chosen in kinds.items():
            local = np.where(chosen >= 0, index[chosen], -1)
            shares = [r_precision(side, vectors, local, index[own]) for side in sides]
            counted = int((chosen >= 0).any(1).sum())
            result[name][kind] = _beside(*shares) | {"error": (shares[0] * (1 - shares[0]) / counted) ** 0.5}
        if isinstance(scorer, ClipScorer):
            match = vectors[index[own]]
            means = [float(F.cosine_similarity(side, match).clamp_min(0).mean()) for side in sides]
            result[name]["clip_score"] = _beside(*(100 * mean for mean in means))
            result[name]["clip_s"] = _beside(*(CLIP_WEIGHT * mean for mean in means))
    return result


def _distractors_by_kind(split: PreparedSplit, own: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.int64]]:
    if not len(own):
        raise ValueError("text agreement needs one or more captions with images")
    kinds = {}
    for name, same in (("random", False), ("same_species", True)):
        chosen = distractors(split, own, same_species=same, seed=seed)
        if (chosen >= 0).any():
            kinds[name] = chosen
    if not kinds:
        raise ValueError(f"{split.path}: no captions of other images for comparison")
    return kinds


def r_precision(
    images: Tensor, captions: Tensor, distractors: NDArray[np.int64], own: NDArray[np.int64] | None = None
) -> float:
    """Share (0–1) of images that are closer, by cosine, to their own caption than to every distractor.

    If t distractors are exactly as close, an image counts 1 / (t + 1): half for one tie, and one in a hundred for a
    scorer with equal vectors for all captions. Images without distractors are left out.

    Args:
        images: (N, T).
        captions: (M, T).
        distractors: (N, K) rows of ``captions``, padded with −1 if there are fewer.
        own: (N,) rows of ``captions``; row i by default.

    Raises:
        ValueError: inconsistent shapes, or no image with a distractor.

    >>> r_precision(torch.eye(3), torch.eye(3), np.array([[1, 2], [0, 2], [0, 1]]))
    1.0
    """
    own = np.arange(len(images)) if own is None else own
    if images.ndim != 2 or captions.ndim != 2 or images.shape[1] != captions.shape[1]:
        raise ValueError(f"images {tuple(images.shape)}, captions {tuple(captions.shape)}: give (N, T) and (M, T)")
    if distractors.ndim != 2 or len(distractors) != len(images) or len(own) != len(images):
        raise ValueError(
            f"{len(images)} images, {len(own)} own captions, distractors {distractors.shape}: give N each"
        )
    known = torch.from_numpy(distractors >= 0)
    kept = known.any(1)
    if not kept.any():
        raise ValueError("no image has a distractor: R-precision needs captions of other images")
    p, c = (F.normalize(vectors.double(), dim=1) for vectors in (images, captions))
    scores = torch.cat(
        [
            torch.einsum("nt,nkt->nk", p[rows], c[np.column_stack((own[rows], distractors[rows].clip(0)))])
            for rows in np.array_split(np.arange(len(p)), max(1, len(p) // 256))
        ]
    )
    right, others = scores[:, :1], scores[:, 1:]
    # Equal vectors may differ in the last bit, due to the order of additions.
    tied = ((others - right).abs() <= 1e-12) & known
    beaten = ((others > right) & known & ~tied).any(1)
    points = (~beaten).double() / (tied.sum(1) + 1)
    return float(points[kept].mean())


def distractors(
    split: PreparedSplit, rows: NDArray[np.int64], *, same_species: bool, seed: int, count: int = DISTRACTORS
) -> NDArray[np.int64]:
    """For each of the split's captions ``rows`` (N,), ``count`` captions of other images: (N, count) rows.

    Captions with the same words as the image's own are left out. Padded with −1 if there are fewer.

    Args:
        same_species: only of images of the same species.
    """
    draws = np.random.default_rng((seed, 0xA6, same_species))
    photo = np.repeat(np.arange(len(split)), np.diff(split.offsets))  # (captions,)
    species = split.species_numbers()[photo]
    plain = [" ".join(caption.lower().split()).rstrip(" .") for caption in split.captions]
    number = {text: i for i, text in enumerate(dict.fromkeys(plain))}
    text = np.array([number[caption] for caption in plain])
    found = np.full((len(rows), count), -1, np.int64)
    for i, row in enumerate(rows):
        allowed = (photo != photo[row]) & (text != text[row])
        if same_species:
            allowed &= species == species[row]
        candidates = np.flatnonzero(allowed)
        chosen = draws.choice(candidates, min(count, len(candidates)), replace=False)
        found[i, : len(chosen)] = chosen
    return found


def _beside(generated: float, photos: float) -> dict[str, float | None]:
    return {"painted": generated, "photos": photos, "ratio": generated / photos if photos else None}


def _image_vectors(scorers: Mapping[str, ImageTextScorer], chunks: Iterable[Tensor]) -> dict[str, Tensor]:
    """Each scorer's vectors of all images, (N, T)."""
    found: dict[str, list[Tensor]] = {name: [] for name in scorers}
    for chunk in chunks:
        for name, scorer in scorers.items():
            found[name].append(scorer.embed_images(chunk.float()))
    if not any(found.values()):
        return {}
    return {name: torch.cat(vectors) for name, vectors in found.items()}


def _photos(split: PreparedSplit, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Centre crops of photos in batches."""
    side = crop_size(split.images.shape[1])
    for start in range(0, len(rows), BATCH):
        yield centre_crops(split.images[rows[start : start + BATCH]], side)


def _caption_vectors(scorer: ImageTextScorer, name: str, texts: Sequence[str]) -> Tensor:
    distinct = sorted(dict.fromkeys(texts), key=len)  # by length, to reduce padding
    row_of = {text: row for row, text in enumerate(distinct)}
    chunks = [distinct[start : start + 64] for start in range(0, len(distinct), 64)]
    bar = tqdm(chunks, desc=f"captions ({name})", unit="batch", leave=False)
    return torch.cat([scorer.embed_captions(chunk) for chunk in bar])[[row_of[text] for text in texts]]

"""Measure a checkpoint on a prepared folder: one report of figures, sheets and how each was taken.

:data:`SECTIONS` is the table of contents. A section is a function from the :class:`Context`, which holds what they
share, to its :class:`stackgan.evaluation.report.Findings`; one that cannot be measured raises
:class:`stackgan.evaluation.report.NotMeasured` and stands in the report with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.attribute_classifier import PARTS, SCENE, PaintedReader, load_or_train_reader
from stackgan.evaluation.colour_agreement import chance, colour_agreement, full_caption_rows, read_pictures, read_real
from stackgan.evaluation.colour_words import BASIC, colour_word_figures, colours_named
from stackgan.evaluation.distances import distance_protocol, distance_table, distances, labels
from stackgan.evaluation.editing import edit_sheet, editing
from stackgan.evaluation.features import Described, Features, load_features, pyramid_features
from stackgan.evaluation.image_sets import (
    Painted,
    Photos,
    caption_rows,
    clear_others,
    embeddings_of,
    painted_captions,
    spread_rows,
)
from stackgan.evaluation.inception import load_inception
from stackgan.evaluation.latents import diversity, posterior_figures, real_pictures, seconds_to_sample, text_free
from stackgan.evaluation.memorisation import LEVELS, PIXEL_SIDE, memorisation, nearness_of, neighbour_sheet, verdict
from stackgan.evaluation.metrics import area_under_curve, realism
from stackgan.evaluation.report import (
    Card,
    Findings,
    NotMeasured,
    Sheet,
    Table,
    histogram,
    print_findings,
    write_report,
)
from stackgan.evaluation.text_agreement import Judge, choose_judges, text_agreement_figures
from stackgan.images.grid import caption_sheet
from stackgan.images.mosaic import alike_side_by_side
from stackgan.pipeline import StackGANPipeline, check_sampling, chosen_device
from stackgan.version import __version__

__all__ = ["SECTIONS", "Context", "evaluate"]

SAMPLES = 64
EXTREMES = 16  # pictures on the sheets of the worst and the best
MOSAIC_MOST = 50  # pictures along a side of the contact sheet, as in the paper
DIVERSITY_CAPTIONS, DIVERSITY_PHOTOS = 40, 1000
EDITS_MOST = 1000
COLOUR_PAIRS_MOST = 500


@dataclass
class Context:
    """What all sections share.

    Attributes:
        split: whose captions are painted, and whose photos are the reference.
        rows: places in ``split.captions`` of the captions painted, picture after picture.
        networks: feature networks that distances are taken in, best first.
        out: the report's folder.
        flip_reference: whether the reference's mirror images count as reference too.
        unlike: a file of sentences that are no captions.
        judges: of whether pictures agree with their captions, by name.
        hide_captions: show the colours that a caption names in its place.
        truncation: of all pictures that are measured.
    """

    pipe: StackGANPipeline
    prepared: PreparedFolder
    split: PreparedSplit
    rows: NDArray[np.int64]
    seed: int
    networks: list[Features]
    out: Path
    flip_reference: bool = False
    unlike: Path | None = None
    judges: Mapping[str, Judge] = field(default_factory=dict)
    hide_captions: bool = False
    truncation: float = 1.0

    @property
    def cache(self) -> Path:
        return self.out / "cache"

    @property
    def side(self) -> int:
        return self.pipe.sizes[-1]

    @property
    def count(self) -> int:
        return len(self.rows)

    @cached_property
    def pictures(self) -> Painted:
        """What the checkpoint paints for the captions, with seeds seed, seed + 1, …"""
        rows = self.rows.tolist()
        return painted_captions(self.pipe, self.split, rows, self.seed, self.cache, self.truncation)

    @cached_property
    def without_text(self) -> dict[str, Painted]:
        """As many pictures without text, from p(c) and from N(0, I); none without a flow p(c)."""
        pipe, truncation = self.pipe, self.truncation
        names = {"without text": False, "without text, c ~ N(0, I)": True}
        found = {}
        for name, plain in names.items() if pipe.model.has_code_flow else ():

            def paint(start: int, stop: int, plain: bool = plain) -> Tensor:
                seeds = range(self.seed + start, self.seed + stop)
                return text_free(pipe, seeds, plain=plain, truncation=truncation)

            def facts(start: int, stop: int, name: str = name) -> Any:
                return [name, pipe.fingerprint, truncation, self.seed + start, stop - start]

            found[name] = Painted(name, self.count, self.side, paint, facts, self.cache)
        return found

    @cached_property
    def reference(self) -> Photos:
        return Photos(self.split, self.side)

    @cached_property
    def train(self) -> Photos | None:
        split = self.prepared.splits.get("train")
        return Photos(split, self.side) if split is not None else None

    @cached_property
    def held_out(self) -> Photos | None:
        """Photos that training did not see: the split's, or another's where that is the training split."""
        if self.split.name != "train":
            return self.reference
        others = [split for name, split in self.prepared.splits.items() if name != "train"]
        return Photos(others[0], self.side) if others else None

    @cached_property
    def reader(self) -> PaintedReader | None:
        """The colour reader of painted birds; None for other pictures."""
        if self.prepared.kind != "painted":
            return None
        return load_or_train_reader(self.prepared.path / "reader.safetensors")

    def described_reference(self, network: Features) -> Described:
        found = [self.reference.features(network, mirrored) for mirrored in (False, True)[: 1 + self.flip_reference]]
        return Described.join(found)

    def captions(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> list[str]:
        """The captions painted, or those at ``rows``."""
        return [self.split.captions[int(row)] for row in (self.rows if rows is None else rows)]

    def labels(self, rows: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """What stands under pictures painted for the captions at ``rows``."""
        captions = self.captions(rows)
        return (
            [", ".join(colours_named(text)) or "no colour" for text in captions] if self.hide_captions else captions
        )

    def embeddings(self, rows: NDArray[np.int64]) -> Tensor | None:
        return embeddings_of(self.pipe, self.split, rows.tolist())

    def needs_words(self) -> None:
        """Raise :class:`NotMeasured` unless captions can be encoded."""
        if not self.pipe.conditional:
            raise NotMeasured("the checkpoint was trained without text")
        if self.pipe.text_encoder is None:
            raise NotMeasured("the checkpoint came without a text encoder")


def evaluate(
    checkpoint: Path,
    data: Path,
    *,
    out: Path,
    split: str = "test",
    count: int = 30_000,
    seed: int = 0,
    features: Path | None = None,
    inception: str | None = None,
    flip_reference: bool = False,
    unlike: Path | None = None,
    judge: Path | None = None,
    clip: str | None = None,
    hide_captions: bool = False,
    truncation: float = 1.0,
    device: str | None = None,
) -> int:
    """Paint ``count`` captions of the split, measure, print the figures, and write the report.

    Pictures and features are stored in ``out``/cache as they are made: the same command goes on where it stopped.
    That folder may be deleted afterwards. Captions: every picture's first, then every picture's second, and from the
    start again where there are too few; of painted birds those that name crown, breast and wing.

    Args:
        out: folder of report.json, report.html and the sheets.
        features: folder of a feature network (:func:`stackgan.evaluation.features.load_features`).
        inception: ``auto``, or the weights' file (:func:`stackgan.evaluation.inception.load_inception`).
        flip_reference: count the mirror images of the split's photos as reference photos.
        unlike: a text file of sentences that are no captions, one a line: how well log p(c) tells captions from them.
        judge: folder of a compact encoder trained apart from the checkpoint, for the agreement of captions and
            pictures; without one, one is trained on the train split and kept in the prepared folder.
        clip: folder or hub name of a CLIP model, for its R-precision and the CLIP score.
        hide_captions: under pictures show the colours that their captions name, for data whose captions may not be
            passed on. The sheets of nearest training photos show photos all the same.
        truncation: of all pictures that are measured (:meth:`StackGANPipeline.__call__`). The 64 that nobody picked
            are shown with what the checkpoint recommends besides, which the command line and the app paint with.

    Raises:
        ValueError: no such split, another size than the checkpoint's, no flow p(c) to tell sentences apart with, a
            truncation out of [0, 2].
        FileNotFoundError: weights that are neither here nor can be fetched.
    """
    prepared = PreparedFolder.open(data)
    if split not in prepared.splits:
        raise ValueError(f"{data}: has no split {split!r}; it has {', '.join(prepared.splits)}")
    if count < 2:
        raise ValueError(f"--num {count}: it must be 2 or more")
    if out.suffix == ".json" or out.is_file():
        raise ValueError(f"--out {out}: the report is a folder (report.json, report.html and sheets): name one")
    check_sampling([seed], truncation)
    where = chosen_device(device)
    networks = [load_features(features, where)] if features is not None else []
    networks += [load_inception(inception, where)] if inception is not None else []
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=where)
    if prepared.size != pipe.sizes[-1]:
        raise ValueError(
            f"{data}: prepared for {prepared.size} px, the checkpoint paints {pipe.sizes[-1]} px; "
            f"prepare with --size {pipe.sizes[-1]}"
        )
    if unlike is not None:
        _sentences(unlike, pipe)
    judges: Mapping[str, Judge] = {}
    if pipe.conditional and (judge is not None or "train" in prepared.splits):
        judges = choose_judges(pipe, prepared, judge=judge, clip=clip)
    part = prepared.splits[split]
    context = Context(
        pipe=pipe,
        prepared=prepared,
        split=part,
        rows=_rows(prepared, part, pipe, count),
        seed=seed,
        networks=networks or [pyramid_features(where)],
        out=out,
        flip_reference=flip_reference,
        unlike=unlike,
        judges=judges,
        hide_captions=hide_captions,
        truncation=truncation,
    )
    sets = [context.pictures, *context.without_text.values()]
    context.cache.mkdir(parents=True, exist_ok=True)
    clear_others(context.cache, sets)
    for pictures in sets:
        pictures.paint_all()
    found: dict[str, tuple[str, Findings]] = {}
    missing: dict[str, tuple[str, str]] = {}
    for section in SECTIONS:
        try:
            found[section.name] = section.title, section.measure(context)
        except NotMeasured as reason:
            missing[section.name] = section.title, str(reason)
    facts = {
        "checkpoint": pipe.fingerprint,
        "data": prepared.identity,
        "kind": prepared.kind,
        "split": split,
        "pictures": count,
        "side": context.side,
        "seed": seed,
        "truncation": truncation,
        "captions": len(set(context.captions())) if pipe.conditional else 0,
        "reference_photos": len(part),
        "flip_reference": flip_reference,
        "stackgan": __version__,
        "torch": torch.__version__,
    }
    name = checkpoint.resolve().name
    subtitle = f"{name}: {count:,} pictures of {context.side} px for captions of {data.resolve().name}/{split}"
    if truncation != 1:
        subtitle += f", truncation {truncation:g}"
    write_report(out, facts, found, missing, subtitle)
    print_findings(found, missing)
    print(f"\nreport in {out / 'report.html'}; {_size_of(context.cache)} of pictures and features in {context.cache}")
    return 0


def _rows(prepared: PreparedFolder, split: PreparedSplit, pipe: StackGANPipeline, count: int) -> NDArray[np.int64]:
    if not pipe.conditional:
        return np.zeros(count, np.int64)
    return full_caption_rows(split, count)[0] if prepared.kind == "painted" else caption_rows(split, count)


def _size_of(folder: Path) -> str:
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    return f"{size / 1024:.1f} GiB" if size >= 1024 else f"{size:.0f} MiB"


# --- sections -----------------------------------------------------------------------------------------------


def samples(context: Context) -> Findings:
    """64 pictures that nobody picked: evenly spread captions of the split, seeds 0 to 63.

    Painted as the command line and the app would; where that is another truncation than the figures', once more.
    """
    pipe, split = context.pipe, context.split
    rows = spread_rows(len(split.captions), SAMPLES) if pipe.conditional else np.zeros(SAMPLES, np.int64)
    captions = context.labels(rows) if pipe.conditional else [f"seed {seed}" for seed in range(len(rows))]
    truncations = list(dict.fromkeys((pipe.truncation, context.truncation)))
    painted, sheets = [], []
    for name, truncation in zip(("samples", "samples-measured"), truncations, strict=False):
        pictures = painted_captions(pipe, split, rows.tolist(), 0, None, truncation).rows(range(len(rows)))
        groups = [(caption, [picture]) for caption, picture in zip(captions, pictures, strict=True)]
        sheet = caption_sheet(groups, columns=8, side=max(128, min(context.side, 192)))
        sheets.append(Sheet(name, f"The same on one sheet, truncation {truncation:g}:", sheet, shown=False))
        painted.append(pictures)
    words = f"truncation {truncations[0]:g}" + ", as the checkpoint recommends" * (len(truncations) > 1)
    return Findings(
        figures={"captions": captions, "truncation": truncations[0]},
        protocol=f"{len(rows)} captions evenly spread over the {split.name} split, seeds 0 to {len(rows) - 1}, "
        f"{words}. Nothing was picked.",
        cards=[Card(Image.fromarray(p), caption) for p, caption in zip(painted[0], captions, strict=True)],
        sheets=sheets,
    )


def distance_section(context: Context) -> Findings:
    """Distances to the split's photos in every network, beside those of training photos and of no text."""
    figures: dict[str, Any] = {}
    tables, words, headlines = [], [], []
    for network in context.networks:
        reference = context.described_reference(network)
        painted = context.pictures.features(network)
        columns = {"captions": distances(network, painted, reference)}
        for name, pictures in context.without_text.items():
            columns[name] = distances(network, pictures.features(network), reference)
        if context.train is not None and context.split.name != "train":
            columns["training photos"] = distances(network, context.train.features(network), reference)
        figures[network.name] = {"identity": network.identity, **columns}
        tables.append(distance_table(network, columns))
        words.append(
            distance_protocol(
                network, len(painted), len(reference), painted.features.shape[1], context.flip_reference
            )
        )
        first, label = next(iter(labels(network).items()))
        headlines.append((label, f"{columns['captions'][first]:.4g}"))
    if any("training photos" in figures[network.name] for network in context.networks):
        words.append(
            "The column of training photos is what real pictures of the other split score: no model need be better."
        )
    if not any(network.inception for network in context.networks):
        words.append("FID, KID and Inception score: give --inception auto, or the file of the weights.")
    return Findings(figures=figures, protocol=" ".join(words), tables=tables, headlines=headlines)


def best_and_worst(context: Context) -> Findings:
    """The pictures most and least like photos, by their realism score; no eye picked them."""
    network, reference = context.networks[0], context.described_reference(context.networks[0])
    if len(reference) < 4:
        raise NotMeasured("it takes 4 photos to compare with")
    score = realism(context.pictures.features(network).features, reference.features)
    order = score.argsort(descending=True, stable=True).tolist()
    sheets = []
    for name, title, rows in (
        ("worst", "Least like photos, the worst first:", order[::-1][:EXTREMES]),
        ("best", "Most like photos, the best first:", order[:EXTREMES]),
    ):
        pictures = [Image.fromarray(levels) for levels in context.pictures.rows(rows)]
        under = [f"seed {context.seed + row}" for row in rows]
        if context.pipe.conditional:
            under = context.labels(context.rows[rows])
        groups = [(label, [picture]) for label, picture in zip(under, pictures, strict=True)]
        sheets.append(Sheet(name, title, caption_sheet(groups, columns=8, side=max(128, min(context.side, 192)))))
    inside = float((score >= 1).double().mean())
    return Findings(
        figures={"network": network.name, "inside": inside, "median": float(score.median())},
        protocol=f"Realism score (arXiv:1904.06991, section 5) in {network.name} features: how far a picture lies "
        f"inside the manifold of the {context.split.name} photos, of which the half with the larger balls is left "
        f"out. At 1 or above, inside: {_share(inside)}. The {EXTREMES} least and the {EXTREMES} most real of "
        f"{context.count:,} pictures by that score.",
        sheets=sheets,
    )


def memorisation_section(context: Context) -> Findings:
    """Nearest training photos, against those of held-out photos."""
    if context.train is None or context.held_out is None:
        raise NotMeasured("it takes a training split and another one to compare with")
    network = context.networks[0]
    found = memorisation(context.pictures, context.train, context.held_out, network)
    rows, drawings = [], []
    counts = len(context.pictures), len(context.held_out)
    for space in found.generated:
        own, other = found.generated[space], found.held_out[space]
        near = nearness_of(own, other)
        rows.append((f"{space}: generated", *(f"{v:.4g}" for v in near.generated.values()), _share(near.below_5)))
        rows.append((f"{space}: held-out", *(f"{v:.4g}" for v in near.held_out.values()), _share(0.05)))
        series = {"held-out photos": other.distance.double().numpy(), "generated": own.distance.double().numpy()}
        drawings.append(histogram(series, f"distance to the nearest training photo, {space}"))
    said = verdict(nearness_of(found.generated["features"], found.held_out["features"]), *counts)
    header = ("", *(f"{100 * level:.0f} % quantile" for level in LEVELS), "below held-out's 5 %")
    sheets = [
        Sheet(name, title, neighbour_sheet(found, context.pictures, context.train, closest=closest))
        for name, title, closest in (
            (
                "nearest-closest",
                "The pictures closest to a training photo. Painted, nearest in features, in pixels:",
                True,
            ),
            (
                "nearest-unpicked",
                "Pictures evenly spread over all, not picked. Painted, nearest in features, in pixels:",
                False,
            ),
        )
    ]
    return Findings(
        figures={"network": network.name, "pixel_side": PIXEL_SIDE, **found.figures()},
        protocol=f"Euclidean distance of {counts[0]:,} generated pictures and of {counts[1]:,} held-out photos "
        f"to the nearest of {len(context.train):,} training photos and their mirror images, in {network.name} "
        f"features and in pixels at {PIXEL_SIDE} px (root mean square, levels of 255). Under the pictures: the "
        "percentile of their distance among held-out photos' (0 %: nearer than every one of them).",
        tables=[Table(header, rows)],
        verdict=said,
        sheets=sheets,
        drawings=drawings,
    )


def contact_section(context: Context) -> Findings:
    """50 x 50 pictures, alike ones side by side."""
    columns = min(MOSAIC_MOST, int(context.count**0.5))
    if columns < 2:
        raise NotMeasured("it takes 4 pictures")
    rows = spread_rows(context.count, columns**2)
    features = context.pictures.features(context.networks[0]).features[torch.as_tensor(rows)]
    try:
        sheet = alike_side_by_side(context.pictures.rows(rows.tolist()), features.numpy(), seed=context.seed)
    except ImportError:
        raise NotMeasured('it needs scikit-learn: pip install "stackgan[eval]"') from None
    return Findings(
        figures={"pictures": columns**2, "network": context.networks[0].name},
        protocol=f"{columns} x {columns} of the pictures, evenly picked, placed by t-SNE of "
        f"{context.networks[0].name} features (50 principal components, perplexity 30) and moved to a grid with the "
        "least squared moves. The same picture over and over would show as a patch.",
        sheets=[Sheet("alike", "Pictures that are alike lie side by side:", sheet)],
    )


def colour_section(context: Context) -> Findings:
    """Named colours found on painted birds."""
    reader = context.reader
    if reader is None or not context.pipe.conditional:
        raise NotMeasured("only painted birds come with the truth about their colours")
    _, named = full_caption_rows(context.split, context.count)
    found = read_pictures(reader, context.pictures).colours
    own, control = colour_agreement(found, named), colour_agreement(found, np.roll(named, 1, axis=0))
    real = read_real(reader, context.reference)
    figures: dict[str, Any] = {
        "generated": asdict(own),
        "shuffled_control": asdict(control),
        "chance": chance(named),
        "reader_on_real": real,
    }
    keys = ["named", "all_three", "held_out"]
    words = ["named colours found", "all three parts right", "colours of combinations training never showed"]
    columns = [figures["generated"], figures["shuffled_control"], real]
    rows = [(word, *(_share(c[key]) for c in columns)) for key, word in zip(keys, words, strict=True)]
    rows += [(part, *(_share(c["parts"][part]) for c in columns)) for part in PARTS]
    return Findings(
        figures=figures,
        protocol="Captions that name crown, breast and wing; a network trained on freshly drawn birds reads the "
        "colours back. Shuffled: the same pictures against the next picture's caption. Real: the same network on the "
        f"split's own pictures. By chance: {_share(figures['chance'])}.",
        tables=[Table(("", "generated", "shuffled", "real birds"), rows)],
        headlines=[("of named colours found", _share(own.named))],
    )


def colour_word_section(context: Context) -> Findings:
    """Whether one colour word changed moves the picture's colours."""
    context.needs_words()
    train = context.prepared.splits.get("train")
    figures, sheets = colour_word_figures(
        context.pipe,
        context.split.captions,
        count=min(context.count, COLOUR_PAIRS_MOST),
        seed=context.seed,
        training_captions=train.captions if train is not None else None,
        quote=not context.hide_captions,
        truncation=context.truncation,
    )
    if not figures:
        raise NotMeasured("no caption of the split names a colour that can be changed")
    titles = {"words": "basic colour words", "synonyms": "words that training never had"}
    rows = [
        (
            titles[name],
            str(f["pairs"]),
            f"{_share(f['moved'])} ± {_share(f['error'])}",
            _share(f["shuffled_control"]),
            _share(f["gained_over_others"]),
        )
        for name, f in figures.items()
    ]
    tables = [
        Table(
            ("", "pairs", "moved to the new colour", "other pairs' words", "new colour gained more than others"), rows
        )
    ]
    if "words" in figures:
        to, old = figures["words"]["to"], figures["words"]["from"]
        colours = [colour for colour in BASIC if colour in to or colour in old]
        tables.append(Table(("", *colours), [
            ("to", *(_whole(to.get(colour)) for colour in colours)),
            ("from", *(_whole(old.get(colour)) for colour in colours)),
        ], title="basic colour words, moved, by colour"))  # fmt: skip
    return Findings(
        figures=figures,
        protocol="Pairs of captions that differ in one colour word, painted with the same seed. Moved: the "
        "foreground has more of the new colour against the old one than before, measured in CIELAB without any "
        "network. 50 %: the word does nothing. Other pairs' words: the same pictures, other words. Gained more than "
        "others: against every third colour in turn; a word that is not understood takes the old colour away, which "
        "counts as moved, and stands at 50 % here.",
        tables=tables,
        headlines=[("colour words that move the picture", _share(f["moved"])) for f in [figures.get("words")] if f],
        sheets=[Sheet(f"colour-{name}", f"Before and after, {titles[name]}:", sheet) for name, sheet in sheets],
    )


def text_agreement_section(context: Context) -> Findings:
    """Whether pictures find their own caption among others."""
    if not context.pipe.conditional:
        raise NotMeasured("the checkpoint was trained without text")
    if not context.judges:
        raise NotMeasured("the prepared folder has no split to train a judge on: give one with --judge")
    chunks = context.pictures.chunks("judging")
    figures = text_agreement_figures(context.split, context.rows, chunks, context.judges, seed=context.seed)
    kinds = {"random": "any other picture's", "same_species": "the same species' alone"}
    judges = {"own": "the checkpoint's own encoder", "independent": "an independent encoder", "clip": "CLIP"}
    rows, headlines = [], []
    for name in context.judges:
        for kind in figures["distractors"]:
            share = figures[name][kind]
            rows.append((f"{judges[name]}, {kinds[kind]}", _share(share["painted"]), _share(share["photos"])))
        if "clip_score" in figures[name]:
            score = figures[name]["clip_score"]
            rows.append(("CLIP score", f"{score['painted']:.2f}", f"{score['photos']:.2f}"))
    best = figures[next(name for name in ("independent", "own", "clip") if name in context.judges)]
    if "random" in best:
        headlines.append(("R-precision: pictures that find their caption", _share(best["random"]["painted"])))
    odds = "; ".join(
        f"{kinds[kind]}: {f['mean']:.0f} distractors, {_share(f['chance'])} by chance"
        for kind, f in figures["distractors"].items()
    )
    return Findings(
        figures=figures,
        protocol="R-precision (arXiv:1711.10485): the share of pictures whose own caption is nearest among other "
        f"pictures' captions ({odds}); beside it, the same for the real photos of those captions. The own "
        "encoder was trained with this checkpoint, which may agree with it by habit; the independent one "
        "no generator ever saw.",
        tables=[Table(("captions set against", "painted", "photos"), rows)],
        headlines=headlines,
    )


def diversity_section(context: Context) -> Findings:
    """How much the seed changes."""
    e = context.embeddings(context.rows[:DIVERSITY_CAPTIONS])
    if e is None:
        raise NotMeasured("the checkpoint was trained without text: there are no two pictures of one caption")
    real = real_pictures(context.split, DIVERSITY_PHOTOS, context.side)
    value = diversity(context.pipe, e, real, truncation=context.truncation)
    return Findings(
        figures={"diversity": value},
        protocol=f"Mean absolute difference at 16 px between 8 seeds of each of {len(e)} captions, as a share of "
        "that between real pictures. 0: the seed changes nothing; 1: as different as any two real pictures, whatever "
        "their captions.",
        tables=[Table(("", ""), [("diversity", f"{value:.3f}")])],
        headlines=[("diversity: how much the seed changes", f"{value:.2f}")],
    )


def posterior_section(context: Context) -> Findings:
    """How well photos come back through q(z | x, c)."""
    if context.pipe.model.posterior is None:
        raise NotMeasured("the checkpoint has no posterior (latent.z=gaussian)")
    context.needs_words()
    figures = posterior_figures(context.pipe, context.split)
    rows = [
        ("reconstruction error, levels of 255", f"{figures['reconstruction']:.1f}"),
        ("KL(q ‖ p), nats a picture", f"{figures['kl']:.1f}"),
        ("active units", f"{figures['active_units']:.0f} of {context.pipe.config.latent.dim}"),
    ]
    return Findings(
        figures=figures,
        protocol="The split's first 500 pictures with their first captions; the posterior's mean for the error, one "
        "draw for KL; a unit is active where its mean varies by more than 0.01 (arXiv:1509.00519).",
        tables=[Table(("", ""), rows)],
    )


def editing_section(context: Context) -> Findings:
    """What becomes of photos whose caption has one colour word changed."""
    if context.pipe.model.posterior is None:
        raise NotMeasured("the checkpoint has no posterior (latent.z=gaussian)")
    context.needs_words()
    if context.reader is None:
        raise NotMeasured("only painted birds come with the truth about their colours")
    found = editing(context.pipe, context.reader, context.split, min(context.count, EDITS_MOST), context.seed)
    rows: list[tuple[str, ...]] = [
        ("named part in its new colour", _share(found.changed), "", ""),
        ("other parts in their colour", _share(found.others_kept), _share(found.reconstruction["colours"]), ""),
    ]
    sides = (found.kept, found.reconstruction, found.other_photos)
    rows += [(f"same {name}", *(_share(side[name]) for side in sides)) for name in SCENE]
    rows.append(("tilt, mean difference", *(f"{side['tilt']:.1f}°" for side in sides)))
    rows.append(("length, mean difference", *(_share(side["scale"]) for side in sides)))
    header = ("", "edit against reconstruction", "reconstruction against photo", "other photos")
    return Findings(
        figures=asdict(found),
        protocol=f"{found.pictures:,} photos, one colour word of the caption changed so that one part takes another "
        "colour; read back by the colour reader. Other photos: reconstructions of different photos, what no link at "
        "all would give.",
        tables=[Table(header, rows)],
        headlines=[("of edits take the new colour", _share(found.changed))],
        sheets=[
            Sheet("edits", "Photo, reconstruction, edit:", edit_sheet(context.pipe, context.split, seed=context.seed))
        ],
    )


def sentence_section(context: Context) -> Findings:
    """How well log p(c) tells captions from other sentences."""
    if context.unlike is None:
        raise NotMeasured("give --unlike FILE, sentences that are no captions, one a line")
    context.needs_words()
    pipe, sentences = context.pipe, _sentences(context.unlike, context.pipe)
    captions = context.captions()[:1000]
    with torch.inference_mode():
        inside, outside = (pipe.model.condition(pipe.encode(t).to(pipe.device)).mu for t in (captions, sentences))
        figures = {
            "captions": len(captions),
            "sentences": len(sentences),
            "area_under_curve": area_under_curve(*(pipe.model.codes(len(c)).log_prob(c) for c in (inside, outside))),
            "area_under_curve_standard_normal": area_under_curve(-(inside**2).sum(1), -(outside**2).sum(1)),
        }
    rows = [
        ("log p(c)", f"{figures['area_under_curve']:.4f}"),
        ("log N(c; 0, I)", f"{figures['area_under_curve_standard_normal']:.4f}"),
    ]
    return Findings(
        figures=figures,
        protocol=f"Area under the ROC curve that tells {len(captions)} captions from {len(sentences)} sentences: the "
        "chance that a caption scores higher.",
        tables=[Table(("", "area"), rows)],
    )


def speed_section(context: Context) -> Findings:
    """Seconds from an embedding to 64 pictures."""
    seconds = seconds_to_sample(context.pipe, context.embeddings(context.rows[:1]))
    return Findings(
        figures={"seconds_to_sample_64": seconds, "device": context.pipe.device.type},
        protocol=f"Median of 3: 64 pictures in one batch, embeddings given, on {context.pipe.device.type}, "
        f"threads: {torch.get_num_threads()}. The one figure that changes from run to run.",
        tables=[Table(("", "seconds"), [("64 pictures", f"{seconds:.3f}")])],
    )


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    measure: Callable[[Context], Findings]


SECTIONS = (
    Section("samples", "64 pictures, not picked", samples),
    Section("distances", "Distances to real pictures", distance_section),
    Section("best_and_worst", "The worst and the best", best_and_worst),
    Section("memorisation", "Are training photos copied?", memorisation_section),
    Section("colours", "Do named colours arrive?", colour_section),
    Section("text_agreement", "Do pictures find their captions?", text_agreement_section),
    Section("colour_words", "Does one word change the colour?", colour_word_section),
    Section("diversity", "Does the seed matter?", diversity_section),
    Section("posterior", "Photos read and painted again", posterior_section),
    Section("editing", "Photos with other words", editing_section),
    Section("captions_against_sentences", "Captions against other sentences", sentence_section),
    Section("contact_sheet", "The variety of pictures", contact_section),
    Section("speed", "How fast", speed_section),
)


def _sentences(file: Path, pipe: StackGANPipeline) -> list[str]:
    if not pipe.model.has_code_flow:
        raise ValueError("--unlike needs a checkpoint with a flow p(c): train with latent.c=flow, or use fit-prior")
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8 text") from None
    if not any(lines):
        raise ValueError(f"{file}: holds no sentence")
    return [line for line in lines if line]


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"

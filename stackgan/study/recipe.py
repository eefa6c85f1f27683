"""Ablation study: the modern recipe, variants with one change reverted or added, and the published recipe.

All rows are trained from scratch on the same data with the same caption encoder for the same minutes, and evaluated
by the kernel distance between images generated for the test captions and the test photos, of the EMA or the live
generator, whichever is better. ``legacy`` is StackGAN-v2's losses, blocks and optimiser at 64 px, with the same
width.

Results are stored in the folder, so that an interrupted study is resumed. As training time is fixed, no other load
should run on the machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from stackgan.checkpoint import load_checkpoint
from stackgan.config import Config, preset
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.caption_choice import caption_rows
from stackgan.evaluation.features import FeatureNetwork, load_features
from stackgan.evaluation.image_sets import Photos, images_of_captions
from stackgan.evaluation.image_source import ImageSource
from stackgan.evaluation.metrics import kernel_distance
from stackgan.io.files import copy_folder
from stackgan.io.run_state import STATE, load_state
from stackgan.model import StackGAN
from stackgan.pipeline import StackGANPipeline
from stackgan.study.figures import COLOURS, INK, dress, new_figure, print_table, save_figure, write_numbers
from stackgan.study.runs import cached_figures, keep_figures, train_quietly, trained

__all__ = ["ROWS", "run"]

# 64 px, with the width and batch size of the other recipe: the comparison is about everything else.
LEGACY_64 = ["tree.stages=1", "generator.width=32", "discriminator.width=32", "optim.batch_size=16"]

CONSTANT = ["optim.decay_images=0", "optim.decay_from=1"]

# Rows by name: a preset, and overrides.
ROWS: dict[str, tuple[str, list[str]]] = {
    "legacy": ("legacy", LEGACY_64),
    "legacy in bf16": ("legacy", [*LEGACY_64, "optim.precision=bf16"]),
    "modern": ("modern", []),
    "blocks of G as published": ("modern", ["generator.block=legacy"]),
    "D with BatchNorm": ("modern", ["discriminator.block=legacy", "discriminator.minibatch_std=false"]),
    "published cross entropy": ("modern", ["loss.adversarial=bce"]),
    "wrong photos": ("modern", ["loss.mismatch=photo"]),
    "hard captions": ("modern", ["loss.mismatch_hard=0.5"]),
    "no gradient penalty": ("modern", ["loss.penalty=0"]),
    "penalty at every step": ("modern", ["loss.penalty_every=1"]),
    "no DiffAugment": ("modern", ["augment.policy="]),
    "DiffAugment on half": ("modern", ["augment.probability=0.5"]),
    "no contrast in D": ("modern", ["discriminator.match=0"]),
    "contrast by the encoder's image half": ("modern", ["loss.contrast=1"]),
    "mode seeking": ("modern", ["loss.diversity=1"]),
    "no spread seen by D": ("modern", ["discriminator.minibatch_std=false"]),
    "relativistic pairs": (
        "modern",
        ["loss.adversarial=relativistic", "loss.penalty_fakes=true", "loss.penalty=0.5"],
    ),
    "published rates": ("modern", ["optim.lr_generator=0.0002", "optim.lr_discriminator=0.0002", *CONSTANT]),
    "batch of 32": ("modern", ["optim.batch_size=32"]),
    "constant rates": ("modern", CONSTANT),
    "float32": ("modern", ["optim.precision=fp32"]),
    "CA_NET's KL as published": ("modern", ["loss.kl=2"]),
    "plain average": ("modern", ["optim.average_ramp=false"]),
    "running statistics": ("modern", ["optim.standing=0"]),
    "captions reworded": ("modern", ["text.reword=0.3"]),
}


def run(
    out: Path,
    seed: int = 0,
    *,
    data: Path | None = None,
    features: str | Path | None = None,
    trust_remote_code: bool = False,
    minutes: float = 20.0,
    seeds: int = 1,
    rows: tuple[str, ...] = tuple(ROWS),
    count: int = 1000,
    overrides: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Train and evaluate; writes ``numbers.json``, ``recipe.png`` and the runs to ``out``.

    Args:
        seed: the first of ``seeds`` consecutive seeds.
        data: a prepared folder at 64 px with a test split.
        trust_remote_code: execute the Python file of a features folder.
        features: name or folder of a feature network.
        minutes: of training, for every row.
        rows: names in :data:`ROWS`; each is trained with every seed.
        count: number of test captions for each evaluation, limited by the data.
        overrides: further config keys of all runs.

    Raises:
        ValueError: data, feature network or test split are missing, or a row is unknown.
    """
    if data is None or features is None:
        raise ValueError("the study recipe needs --data, a prepared folder at 64 px, and --features")
    prepared = PreparedFolder.open(data)
    if "test" not in prepared.splits:
        raise ValueError(f"{data}: has no test split to evaluate on")
    for row in rows:
        if row not in ROWS:
            raise ValueError(f"unknown row {row!r}: choose from {', '.join(ROWS)}")
    network, test = load_features(features, trust_remote_code=trust_remote_code), prepared.splits["test"]
    chosen = list(range(seed, seed + seeds))
    found: dict[str, list[dict[str, float]]] = {row: [] for row in rows}
    for number in chosen:
        for row in rows:
            folder = out / f"{row.replace(' ', '-')}-{number}"
            _train(out, data, folder, _config(row, number, minutes, overrides))
            found[row].append(_measure(folder, test, network, count))
            _report(found, minutes)
    numbers: dict[str, Any] = {
        "minutes": minutes,
        "seeds": chosen,
        "features": network.name,
        "test_photos": len(test),
        "captions": min(count, len(test.captions)),
        "data": prepared.identity,
        "rows": found,
    }
    write_numbers(out, numbers)
    _draw(out / "recipe.png", numbers)
    return numbers


def _config(row: str, seed: int, minutes: float, overrides: tuple[str, ...]) -> Config:
    name, keys = ROWS[row]
    config = preset(name, [*keys, *overrides])
    times = {"images": 10**9, "minutes": minutes, "save_minutes": minutes / 2, "sample_minutes": minutes / 2}
    return replace(config, train=replace(config.train, seed=seed, **times))  # type: ignore[arg-type]


def _train(out: Path, data: Path, folder: Path, config: Config) -> None:
    """Train one row unless it is complete; all share the first row's caption encoder."""
    if trained(folder, "seconds") >= int(60 * config.train.minutes):
        return
    shared = out / "text"
    train_quietly(data, folder, config, shared)
    if not shared.is_dir():
        copy_folder(folder / "text", shared)


def _measure(folder: Path, test: PreparedSplit, network: FeatureNetwork, count: int) -> dict[str, float]:
    """Kernel distances of the EMA and the live generator, the lower of the two, and the number of training images."""
    pipe = StackGANPipeline.from_pretrained(folder / "checkpoint")
    cache = folder / "figures.json"
    kept = cached_figures(cache, pipe.fingerprint)
    if kept is not None:
        return kept
    checkpoint = load_checkpoint(folder / "checkpoint")
    live = StackGAN(checkpoint.config)
    live.load_state_dict(load_state(folder / STATE)["model"])
    rows = caption_rows(test, min(count, len(test.captions))).tolist()
    truth = Photos(test, pipe.sizes[-1]).features(network).features
    figures = {"images": float(trained(folder, "images"))}
    for name, pipeline in (("average", pipe), ("live", StackGANPipeline(live.eval(), pipe.text_encoder))):
        generated = images_of_captions(ImageSource(pipeline), test, rows, 0, None).features(network)
        figures[name] = kernel_distance(generated.features, truth).value
    figures["distance"] = min(figures["average"], figures["live"])
    keep_figures(cache, pipe.fingerprint, figures)
    return figures


def _report(found: dict[str, list[dict[str, float]]], minutes: float) -> None:
    rows: list[list[str | float]] = []
    for row, each in found.items():
        if each:
            distances = ", ".join(f"{figures['distance']:.3f}" for figures in each)
            better = ", ".join("EMA" if f["average"] <= f["live"] else "live" for f in each)
            rows.append([row, distances, better, ", ".join(f"{figures['images']:.0f}" for figures in each)])
    title = f"{minutes:g} minutes each; kernel distance of the better generator, seed by seed"
    print_table(title, ["recipe", "kernel distance", "better generator", "images seen"], rows)


def _draw(file: Path, numbers: dict[str, Any]) -> None:
    """Plot a bar per row and a dot per seed."""
    figure, axes = new_figure(1, 1, (8, 0.5 + 0.4 * len(numbers["rows"])))
    title = f"{numbers['minutes']:g} minutes from scratch: distance to {numbers['test_photos']:,} test photos"
    panel = dress(axes[0, 0], title, f"kernel distance, {numbers['features']}", "", grid="x")
    for place, (row, each) in enumerate(numbers["rows"].items()):
        values = [figures["distance"] for figures in each]
        colour = COLOURS["p"] if row == "modern" else COLOURS["q"]
        panel.barh(place, sum(values) / len(values), 0.6, color=colour, alpha=0.35)
        panel.scatter(values, [place] * len(values), s=26, color=colour, zorder=3)
    panel.set_yticks(range(len(numbers["rows"])), list(numbers["rows"]), color=INK)
    panel.invert_yaxis()
    save_figure(figure, file)

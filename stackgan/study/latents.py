"""Comparison of the latent modules on painted birds: equal budgets, several seeds, one table.

For each seed, a model with each prior except the flow is trained on the same number of images; every flow family is
then fitted to the styles of the first of them that has a posterior (``vae``). All are evaluated on the same held-out
captions.

Takes hours on two CPU cores. Results are stored in the folder, so that an interrupted study is resumed.
"""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.painted import KIND, prepare_painted
from stackgan.config import preset
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.caption_choice import full_caption_rows
from stackgan.evaluation.features import load_features
from stackgan.evaluation.image_sets import Photos, images_of_captions, real_images
from stackgan.evaluation.image_source import ImageSource, embeddings_of
from stackgan.evaluation.metrics import kernel_distance
from stackgan.evaluation.sections.diversity import diversity
from stackgan.evaluation.sections.reconstruction import posterior_figures
from stackgan.latent.flows import FAMILIES
from stackgan.latent.priors import FLOW, PRIORS
from stackgan.pipeline import StackGANPipeline
from stackgan.study.figures import INK, colour_of, dress, new_figure, print_table, save_figure, write_numbers
from stackgan.study.runs import cached_figures, keep_figures, train_quietly, trained
from stackgan.training.fit_prior import fit_prior

__all__ = ["run"]

MODELS = tuple(name for name, kind in PRIORS.items() if name != FLOW and not kind.fitted)  # trained models
WITH_POSTERIOR = next(name for name in MODELS if PRIORS[name].posterior)  # flows are fitted to its styles
STEPS = 1500  # for fitting a flow
# If a density takes one network pass per dimension: a shallower flow, fewer steps.
SLOW_OVERRIDES, SLOW_STEPS = ("latent.steps=2",), 300
BIRDS = (16_000, 2_000)  # training and test images to draw if no data are given
DIVERSITY_CAPTIONS = 40
PHOTOS_LEAST = 1000  # real images for distances, if available
ROUNDS = 5  # of timing the modules in turn


def run(
    out: Path,
    seed: int = 0,
    *,
    data: Path | None = None,
    features: str | Path | None = None,
    trust_remote_code: bool = False,
    images: int = 33_000,
    seeds: int = 3,
    count: int = 1000,
    overrides: tuple[str, ...] = (),
    families: tuple[str, ...] = tuple(FAMILIES),
    steps: int = STEPS,
) -> dict[str, Any]:
    """Train, fit and evaluate; writes ``numbers.json``, ``latents.png`` and the models to ``out``.

    Args:
        seed: the first of ``seeds`` consecutive seeds.
        data: a prepared folder of painted birds; drawn if not given.
        trust_remote_code: execute the Python file of a features folder.
        features: name or folder of a feature network; without it, distances are not computed.
        images: number of training images of every model.
        count: number of captions for each evaluation.
        overrides: further config keys of the runs.

    Raises:
        ValueError: data of another kind, or fewer than 2 seeds.
    """
    if seeds < 2:
        raise ValueError(f"seeds is {seeds}: a standard deviation needs 2 or more")
    folder = data if data is not None else _paint(out / "painted")
    prepared = PreparedFolder.open(folder)
    if prepared.kind != KIND:
        raise ValueError(f"{folder}: holds {prepared.kind} images; this study needs painted birds")
    chosen = list(range(seed, seed + seeds))
    for number in chosen:
        for model in MODELS:
            _train(out, folder, model, number, chosen[0], images, overrides)
        for family in families:
            _fit(out, folder, family, number, steps)
    modules = [*MODELS, *families]
    test = prepared.splits["test"]
    rows = full_caption_rows(test, count)[0].tolist()
    real = real_images(test, max(count, PHOTOS_LEAST), 64)
    network = load_features(features, trust_remote_code=trust_remote_code) if features is not None else None
    truth = Photos(test, 64).features(network).features[: len(real)] if network is not None else None
    figures: dict[str, list[dict[str, float]]] = {module: [] for module in modules}
    for module in modules:
        for number in chosen:
            pipe = StackGANPipeline.from_pretrained(_checkpoint(out, module, number))
            cache = out / "figures" / f"{module}-{number}.json"
            found = cached_figures(cache, pipe.fingerprint)
            if found is None:
                e = embeddings_of(pipe, test, rows[:DIVERSITY_CAPTIONS])
                assert e is not None
                source = ImageSource(pipe)
                found = {"diversity": diversity(source, e, real)}
                if network is not None and truth is not None:
                    generated = images_of_captions(source, test, rows, 0, None).features(network)
                    found["distance"] = kernel_distance(generated.features, truth).value
                if pipe.model.posterior is not None:
                    found |= posterior_figures(pipe, test)
                keep_figures(cache, pipe.fingerprint, found)
            figures[module].append(found)
    numbers: dict[str, Any] = {
        "images": images,
        "captions": count,
        "seeds": chosen,
        "features": network.name if network is not None else None,
        "seconds_to_sample_64": _seconds(out, modules, chosen[0], test.captions[rows[0]]),
        "modules": {module: _summary(found) for module, found in figures.items()},
        "each_seed": figures,
    }
    write_numbers(out, numbers)
    _report(numbers)
    if network is not None:
        _draw(out / "latents.png", numbers)
    return numbers


def _paint(folder: Path) -> Path:
    if not (folder / "dataset.json").is_file():
        print(f"drawing {sum(BIRDS)} birds into {folder}")
        prepare_painted(folder, count=BIRDS[0], test_count=BIRDS[1], seed=0)
    return folder


def _checkpoint(out: Path, module: str, seed: int) -> Path:
    name = out / f"{module}-{seed}"
    return name / "checkpoint" if module in MODELS else name


def _train(out: Path, data: Path, model: str, seed: int, first: int, images: int, overrides: tuple[str, ...]) -> None:
    """Train one model unless it is complete; all share the caption encoder of the first."""
    folder = out / f"{model}-{seed}"
    if trained(folder, "images") >= images:
        return
    keys = ["loss.diversity=1", "compact.steps=3200", "train.minutes=0", f"latent.z={model}", *overrides]
    config = preset("quickstart", keys)
    config = replace(config, train=replace(config.train, images=images, seed=seed, save_minutes=3))
    train_quietly(data, folder, config, out / f"{MODELS[0]}-{first}" / "text")


def _fit(out: Path, data: Path, family: str, seed: int, steps: int) -> None:
    target = _checkpoint(out, family, seed)
    if target.is_dir():
        return
    print(f"fitting {target.name}")
    keys = [f"latent.family={family}", "latent.c=gaussian"]
    if not FAMILIES[family].one_pass_density:
        keys, steps = [*keys, *SLOW_OVERRIDES], min(steps, SLOW_STEPS)
    with contextlib.redirect_stdout(io.StringIO()):
        fit_prior(_checkpoint(out, WITH_POSTERIOR, seed), data, target, keys, steps=steps, seed=seed)


def _seconds(out: Path, modules: list[str], seed: int, caption: str) -> dict[str, float]:
    """Median seconds for 64 images of one caption; modules alternate, so that a varying load affects all."""
    pipes = {m: StackGANPipeline.from_pretrained(_checkpoint(out, m, seed)) for m in modules}
    times: dict[str, list[float]] = {module: [] for module in modules}
    with torch.inference_mode():
        for turn in range(ROUNDS + 1):
            for module, pipe in pipes.items():
                e = pipe.encode([caption]).expand(64, -1)
                began = time.perf_counter()
                pipe.generate(e, range(64))[-1].cpu()  # synchronises with a GPU
                if turn:  # the first round is a warm-up
                    times[module].append(time.perf_counter() - began)
    return {module: float(np.median(found)) for module, found in times.items()}


def _summary(found: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of every metric over the seeds."""
    summary = {}
    for name in found[0]:
        values = np.array([figures[name] for figures in found])
        summary[name] = {"mean": float(values.mean()), "spread": float(values.std(ddof=1))}
    return summary


def _report(numbers: dict[str, Any]) -> None:
    columns = {"distance": 3, "diversity": 2, "reconstruction": 1, "active_units": 0, "kl": 1}
    rows: list[list[str | float]] = []
    for module, found in numbers["modules"].items():
        row: list[str | float] = [module]
        for name, digits in columns.items():
            if name in found:
                row.append(f"{found[name]['mean']:.{digits}f} ± {found[name]['spread']:.{digits}f}")
            else:
                row.append("–")
        row.append(f"{numbers['seconds_to_sample_64'][module]:.3f}")
        rows.append(row)
    title = f"{numbers['images']} images seen, {numbers['captions']} held-out captions; mean ± sd over seeds"
    header = ["module", "kernel distance", "diversity", "error of 255", "active units", "KL, nats", "s to sample 64"]
    print_table(title, header, rows)


def _draw(file: Path, numbers: dict[str, Any]) -> None:
    """Plot the kernel distance of every module: a dot per seed, a bar for the mean."""
    figure, axes = new_figure(1, 1, (8, 3.6))
    title = f"Painted birds, {numbers['images']:,} images seen: distance of generated to held-out birds"
    panel = dress(axes[0, 0], title, "", f"kernel distance, {numbers['features']}")
    for place, (module, found) in enumerate(numbers["modules"].items()):
        colour = colour_of(module)
        panel.bar(place, found["distance"]["mean"], 0.6, color=colour, alpha=0.35)
        each = [figures["distance"] for figures in numbers["each_seed"][module]]
        panel.scatter([place] * len(each), each, s=26, color=colour, zorder=3)
    panel.set_xticks(range(len(numbers["modules"])), list(numbers["modules"]), color=INK)
    save_figure(figure, file)

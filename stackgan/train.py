"""The training loop, top to bottom: data → discriminators → generator → average → log → samples → save.

A run folder holds ``config.json`` (resolved), ``text/`` (the run's caption encoder), ``state.pt`` (private, for
resuming), ``checkpoint/`` (published, the average), ``best/`` (the best average, with eval.every), ``samples/*.png``,
``log.jsonl`` and ``tensorboard/``. Running the same command again goes on where the run stopped.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from stackgan.augment import diff_augment
from stackgan.caption_contrast import train_compact_encoder
from stackgan.checkpoint import load_state, publish, save_state, write_atomic
from stackgan.compiler import need_compiler
from stackgan.config import Config
from stackgan.data import Batch, Sampler, centre_crops, to_stages
from stackgan.discriminator import Discriminator
from stackgan.ema import average_decay, update_average
from stackgan.features import load_features
from stackgan.grid import caption_sheet
from stackgan.health import Health, variety
from stackgan.latent.distributions import DiagonalGaussian
from stackgan.latent.encoder import ACTIVE, Style, infer_style
from stackgan.layers import set_checkpointing
from stackgan.losses import (
    colour_consistency,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    mode_seeking,
    text_contrast,
)
from stackgan.model import StackGAN, build_discriminators
from stackgan.pipeline import StackGANPipeline, chosen_device, to_pil
from stackgan.prepared import PreparedFolder, PreparedSplit
from stackgan.quick_figures import quick_figures
from stackgan.standing import standing_statistics
from stackgan.text import CompactEncoder, TextEncoder, caption_embeddings, load_text_encoder
from stackgan.warm_start import Start, copy_text_encoder, copy_weights

__all__ = ["train"]

SAMPLE_CAPTIONS, SAMPLE_SEEDS = 12, 4
SAMPLE_PHOTOS = SAMPLE_SEEDS  # of a sheet's row
CODES_MEASURED = 20_000  # captions whose density under p(c) a checkpoint remembers the quantiles of

# Keys that may differ when a run is resumed: how long, how often and in how much memory, not what is trained.
FREE_ON_RESUME = (
    "optim.checkpointing",
    "optim.compile",
    "eval.every",
    "eval.count",
    "eval.features",
    "train.images",
    "train.minutes",
    "train.save_minutes",
    "train.sample_minutes",
    "train.log_steps",
)

# Written for this program; shown as examples by checkpoints trained on data whose captions are not ours to ship.
BIRD_EXAMPLES = (
    "a small red bird with black wings",
    "this bird is blue with a white belly and a short pointed beak",
    "a yellow bird with grey wings and a black crown",
    "a large black bird with a long hooked beak",
    "a brown bird with a speckled breast and a small bill",
    "the bird has a white body, an orange bill and grey wings",
)


Painter = Callable[[Tensor, Tensor], list[Tensor]]  # (z, c) -> images, coarsest first
Trunk = Callable[..., Tensor]  # (images, groups=1) -> features


@dataclass
class Progress:
    """How far a run is: steps, images seen, seconds spent in the loop over all resumes; the least distance found."""

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    best: float = math.inf

    def fraction(self, config: Config) -> float:
        """The share of the run that is done, by images or by minutes, whichever is further."""
        by_time = self.seconds / (60 * config.train.minutes) if config.train.minutes else 0.0
        return max(self.images / config.train.images, by_time)


@dataclass
class Run:
    """Everything that a step changes and a resume brings back."""

    config: Config
    model: StackGAN
    average: StackGAN
    discriminators: nn.ModuleList
    optimizers: list[torch.optim.Adam]  # of G (with CA_NET), then of each discriminator
    device: torch.device
    paint: Painter  # G's forward pass, and each discriminator trunk's: compiled, or the modules' own
    features: list[Trunk]
    reader: CompactEncoder | None = None  # whose image half reads generated pictures, for loss.contrast
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def start(cls, config: Config, device: torch.device) -> Run:
        optim = config.optim
        if optim.compile:
            need_compiler("optim.compile is true", "train with optim.compile=false")
        if device.type == "cuda":  # process-wide, as PyTorch has it
            fp32 = "ieee" if optim.precision == "fp32" else "tf32"
            torch.backends.cuda.matmul.fp32_precision = fp32
            torch.backends.cudnn.conv.fp32_precision = fp32  # type: ignore[attr-defined]
        torch.manual_seed(config.train.seed)
        model = StackGAN(config).to(device)
        discriminators = build_discriminators(config).to(device)
        if optim.channels_last:
            model.to(memory_format=torch.channels_last)
            discriminators.to(memory_format=torch.channels_last)
        betas = (optim.beta1, optim.beta2)
        optimizers = [torch.optim.Adam(model.parameters(), lr=optim.lr_generator, betas=betas, fused=True)]
        for net in discriminators:
            optimizers.append(torch.optim.Adam(net.parameters(), lr=optim.lr_discriminator, betas=betas, fused=True))
        average = copy.deepcopy(model).eval().requires_grad_(False)
        for module in (model.generator, discriminators):
            set_checkpointing(module, optim.checkpointing)
        paint: Painter = model.generator
        features: list[Trunk] = [cast(Discriminator, net).features for net in discriminators]
        if optim.compile:  # one piece of code a shape: the discriminators see few, again and again
            paint = torch.compile(paint, dynamic=False)
            features = [torch.compile(trunk, dynamic=False) for trunk in features]
        return cls(config, model, average, discriminators, optimizers, device, paint, features)

    def start_from(self, start: Start) -> list[str]:
        """Take over averaged weights; returns the modules that are new and begin afresh."""
        fresh = copy_weights(start.model, self.model, start.folder)
        copy_weights(start.model, self.average, start.folder)
        modules = {name.split(".")[0] for name in fresh}
        if start.discriminators is None:
            modules.add("discriminators")
        elif copy_weights(start.discriminators, self.discriminators, start.folder):
            modules.add("some discriminators")
        return sorted(modules)

    @property
    def nets(self) -> list[Discriminator]:
        """The discriminators, coarsest first."""
        return [cast(Discriminator, net) for net in self.discriminators]

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "discriminators": self.discriminators.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "progress": vars(self.progress),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.discriminators.load_state_dict(state["discriminators"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state.get("device_rng") is not None:  # None: saved on a CPU
            torch.cuda.set_rng_state(state["device_rng"], self.device)
        self.progress = Progress(**state["progress"])


def train(
    data: Path,
    run_folder: Path,
    config: Config,
    *,
    start: Start | None = None,
    dry_run: bool = False,
    device: str | None = None,
    stop_after: float = math.inf,
) -> int:
    """Train, or go on training, in ``run_folder``.

    Returns 0 when the run is done; having saved, 3 when ``stop_after`` ended this call, 130 when a signal did.

    Args:
        data: a prepared folder.
        config: text.dim may be 0; the resolved configuration is printed and saved before the first step.
        start: weights and caption encoder to begin with; a run that is resumed has its own.
        dry_run: stop there.
        stop_after: minutes after which this call saves and ends, counted from its beginning. One step is always
            made, so that a run in pieces comes to its end however short they are.

    Raises:
        FileNotFoundError, ValueError: the data or the configuration do not allow the run; nothing is lost.
    """
    called = time.monotonic()
    prepared = PreparedFolder.open(data)
    _check_data(prepared, config)
    split = prepared.splits["train"]
    where = chosen_device(device)
    if dry_run:
        print(config.to_json(), end="")
        return 0
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{run_folder}: cannot be made a run folder ({error.strerror}); name another") from None
    if start is not None:
        copy_text_encoder(start, run_folder)
    encoder, embeddings, config = prepare_text(run_folder, split, config)
    config = _settle_config(run_folder, prepared, config)
    print(config.to_json(), end="")

    sampler = Sampler(
        split,
        embeddings,
        size=config.tree.sizes[-1],
        batch_size=config.optim.batch_size,
        seed=config.train.seed,
        mismatch=config.loss.mismatch,
        hard=config.loss.mismatch_hard,
        swapped=_swapped_embeddings(split, encoder, config),
        device=where,
    )
    run = Run.start(config, where)
    if config.loss.contrast:
        run.reader = cast(CompactEncoder, encoder).to(where)
    state_file = run_folder / "state.pt"
    if state_file.exists():
        run.restore(load_state(state_file))
        print(f"resuming at step {run.progress.step}, {run.progress.images} images seen")
    elif start is not None:
        print(f"starting from {start.folder}; new here: {', '.join(run.start_from(start)) or 'nothing'}")
    elif embeddings is not None and config.text.standardise:
        measured = torch.from_numpy(np.array(embeddings))  # a copy: the cache is read-only
        run.model.standardise.measure(measured)
        run.average.standardise.measure(measured)
    viewer = SampleSheet(run_folder / "samples", prepared, encoder, config)
    heads = config.text.conditional + config.discriminator.unconditional
    log = Log(run_folder, run.progress.step, Health(config.loss.adversarial, heads))
    publisher = _Publisher(run_folder / "checkpoint", prepared, encoder, start)
    evaluator = Evaluator(prepared, encoder, config) if config.eval.every else None

    def settle() -> None:
        """Make the average ready to be looked at."""
        if config.optim.standing:
            standing_statistics(run.average, embeddings, config.optim.standing, config.optim.batch_size)

    def save() -> None:
        save_state(state_file, run.state())
        if run.model.has_code_flow and embeddings is not None:
            some = np.linspace(0, len(embeddings) - 1, min(len(embeddings), CODES_MEASURED)).astype(int)
            run.average.measure_codes(torch.from_numpy(np.array(embeddings[some])).to(where))
        publisher(run)

    with _interruptible() as stop, log, _progress_bar(run) as bar:
        saved = sampled = run.progress.seconds
        evaluated = _last_multiple(run.progress.seconds, 60 * config.eval.every)  # whatever calls the run is cut into
        late = False
        while run.progress.fraction(config) < 1 and not stop and not late:
            began = time.perf_counter()
            batch = sampler.batch(run.progress.step)
            scalars = train_step(run, batch)
            run.progress.step += 1
            run.progress.images += config.optim.batch_size
            run.progress.seconds += time.perf_counter() - began

            if run.progress.step % config.train.log_steps == 0:
                log(run.progress, scalars, bar)
                bar.total = max(round(run.progress.images / run.progress.fraction(config)), run.progress.images)
            to_show = run.progress.seconds - sampled >= 60 * config.train.sample_minutes
            to_save = run.progress.seconds - saved >= 60 * config.train.save_minutes
            to_evaluate = config.eval.every and run.progress.seconds - evaluated >= 60 * config.eval.every
            if to_show or to_save or to_evaluate:
                settle()
            if to_show:
                log.image(run.progress.step, viewer(run))
                sampled = run.progress.seconds
            if to_save:
                save()
                saved = run.progress.seconds
            if evaluator is not None and to_evaluate:
                figures, best = evaluator(run)
                log.figures(run.progress, figures)
                if best:
                    publisher(run, run_folder / "best")
                evaluated = _last_multiple(run.progress.seconds, 60 * config.eval.every)
            bar.update(config.optim.batch_size)
            late = time.monotonic() - called >= 60 * stop_after
        settle()
        log.image(run.progress.step, viewer(run))
        save()
    if stop:
        print(f"stopped and saved at step {run.progress.step}; the same command goes on from here")
        return 130
    if run.progress.fraction(config) < 1:
        print(f"time is up: saved at step {run.progress.step}; the same command goes on from here")
        return 3
    minutes = run.progress.seconds / 60
    print(f"done: {run.progress.images} images in {minutes:.1f} min; checkpoint in {publisher.folder}")
    return 0


def _last_multiple(seconds: float, every: float) -> float:
    """The last whole multiple of ``every`` up to ``seconds``; ``seconds`` itself where ``every`` is 0."""
    return seconds - seconds % every if every else seconds


# --- one step -----------------------------------------------------------------------------------------------


def train_step(run: Run, batch: Batch) -> dict[str, Tensor]:
    """One step of every discriminator, then of G (arXiv:1710.10916, eq. 6–9); the scalars stay on the device.

    Each discriminator's graph ends with a backward pass of its own, which frees it before the next one is built: in
    G's step it ends at the pictures, whose gradients then go through G together.
    """
    config, sizes = run.config, run.config.tree.sizes
    count = len(batch.real)
    parts = _parts(count, config.optim.accumulate)
    scalars: dict[str, Tensor] = {}
    _set_learning_rates(run)
    for optimizer in run.optimizers:  # all of the last step's gradients make room before anything is built
        optimizer.zero_grad(set_to_none=True)

    # data
    real = _pictures(run, batch.real)
    wrong = _pictures(run, batch.wrong) if batch.wrong is not None else None
    e = batch.embedding.to(run.device) if batch.embedding is not None else None
    e_wrong = batch.wrong_embedding.to(run.device) if batch.wrong_embedding is not None else None

    # fakes of every stage, made once for both players; beside them, in the same pass, reconstructions (with a
    # posterior) and second pictures of some captions (for diversity)
    with _autocast(run):
        q = run.model.condition(e) if e is not None else None
        c = q.sample() if q is not None else run.model.no_code(count)
        posterior = run.model.posterior
        style = infer_style(posterior, run.model.prior, real[-1], c) if posterior is not None else None
        again = max(count // 4, 1) if config.loss.diversity else 0
        styles = [style.drawn, style.z] if style is not None else [run.model.prior(c).sample()]
        codes = [c] * len(styles)
        if again:
            styles.append(run.model.prior(c[:again]).sample().detach())
            codes.append(c[:again])
        painted = run.paint(torch.cat(styles), torch.cat(codes))
    fakes = [images[:count] for images in painted]
    rebuilt = [images[count : 2 * count] for images in painted] if style is not None else None
    condition = _condition(run, e, q)
    wrong_condition = _condition(run, e_wrong, None)

    # discriminators
    judged_real: list[list[tuple[Tensor | None, Tensor | None]]] = [[] for _ in run.nets]
    for stage, net in enumerate(run.nets):
        groups = (real[stage], wrong[stage] if wrong is not None else None, fakes[stage].detach())
        shown = [_augment(run, images) for images in groups if images is not None]
        for part in parts:
            loss, of_real = _discriminator_part(
                run,
                stage,
                [images[part] for images in shown],
                condition[part] if condition is not None else None,
                wrong_condition[part] if wrong_condition is not None else None,
                scalars,
            )
            judged_real[stage].append(of_real)
            if config.loss.penalty and run.progress.step % config.loss.penalty_every == 0:
                text = condition[part] if condition is not None else None
                penalty = _penalty(net, real[stage][part], text, config.loss.penalty_power)
                _note(scalars, f"d{sizes[stage]}/penalty", penalty, len(parts))
                if config.loss.penalty_fakes:
                    penalty = penalty + _penalty(net, fakes[stage][part].float(), text, config.loss.penalty_power)
                loss = loss + config.loss.penalty * config.loss.penalty_every * penalty
            (loss / len(parts)).backward()
        run.optimizers[1 + stage].step()

    # generator (and CA_NET, through the condition where D looks at the code): first what the discriminators say, as
    # gradients at the pictures and the code
    run.discriminators.requires_grad_(False)
    ends = _Ends()
    code = condition
    if q is not None and config.discriminator.condition == "code":
        code = ends.leaf(q.mu)
    for stage, net in enumerate(run.nets):
        shown_fakes = ends.leaf(_augment(run, fakes[stage]))
        for part, of_real in zip(parts, judged_real[stage], strict=True):
            with _autocast(run):
                h = run.features[stage](shown_fakes[part])
                judged = net.conditional(h, code[part]).float() if code is not None else None
                looked = net.unconditional(h).float() if config.discriminator.unconditional else None
            adversarial = generator_loss(config.loss.adversarial, judged, looked, of_real)
            _note(scalars, f"g{sizes[stage]}/loss", adversarial, len(parts))
            if config.discriminator.match and code is not None:
                against = wrong_condition[part] if wrong_condition is not None else None
                match = _match(run, net, h, code[part], against)
                _note(scalars, f"g{sizes[stage]}/match", match, len(parts))
                adversarial = adversarial + config.discriminator.match * match
            (adversarial / len(parts)).backward()
    terms = []
    if style is not None and rebuilt is not None:
        for stage in range(len(run.nets)):
            leaf = ends.leaf(rebuilt[stage])
            for part in parts:
                seen = _feature_distance(run, stage, leaf[part], real[stage][part]) / len(run.nets)
                _note(scalars, "vae/features", seen, len(parts))
                (config.latent.features * seen / len(parts)).backward()
        terms.append(_variational(run, style, rebuilt, real, scalars))

    # then what is said of the pictures themselves, and one backward pass through G for everything
    if config.loss.colour:
        for fine, coarse in zip(fakes[1:], fakes, strict=False):
            terms.append(config.loss.colour * colour_consistency(fine.float(), coarse.float()))
    if config.loss.diversity:
        diversity = mode_seeking(fakes[-1][:again], painted[-1][-again:], real[-1], config.loss.diversity_share)
        scalars["g/diversity"] = diversity.detach()
        terms.append(config.loss.diversity * diversity)
    if run.model.has_code_flow and q is not None:
        density = -run.model.codes(count).log_prob(c.detach().float()).mean() / c.shape[1]
        scalars["g/code_nll"] = density.detach()
        terms.append(density)
    if run.reader is not None and e is not None:
        contrast = text_contrast(run.reader.encode_images(fakes[-1].float()), e, e_wrong)
        scalars["g/contrast"] = contrast.detach()
        terms.append(config.loss.contrast * contrast)
    if q is not None:
        kl = q.kl().mean() / q.mu.shape[1]
        scalars["g/kl"] = kl.detach()
        terms.append(config.loss.kl * kl)
    ends.backward(terms)
    run.optimizers[0].step()
    run.discriminators.requires_grad_(True)

    if (run.progress.step + 1) % config.train.log_steps == 0:
        scalars["g/variety"] = variety(fakes[0], real[0])

    # average
    decay = average_decay(config.optim.average, run.progress.step, config.optim.average_ramp)
    update_average(run.average, run.model, decay)
    return scalars


class _Ends:
    """Where graphs are cut: leaves in the place of tensors, which hand back the gradients they have collected."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def leaf(self, tensor: Tensor) -> Tensor:
        """``tensor`` for a graph of its own."""
        leaf = tensor.detach().requires_grad_()
        self.pairs.append((tensor, leaf))
        return leaf

    def backward(self, terms: Sequence[Tensor]) -> None:
        """Gradients of the scalar ``terms`` and, through the cut tensors, of all that came from their leaves."""
        tensors = [*terms, *(tensor for tensor, _ in self.pairs)]
        gradients = [*(None for _ in terms), *(leaf.grad for _, leaf in self.pairs)]
        torch.autograd.backward(tensors, gradients)


def _parts(count: int, accumulate: int) -> list[slice]:
    """A batch of ``count`` as ``accumulate`` slices of one size."""
    size = count // accumulate
    return [slice(start, start + size) for start in range(0, count, size)]


def _note(scalars: dict[str, Tensor], name: str, value: Tensor, parts: int) -> None:
    """Add a part's mean to the batch's, without waiting for the device."""
    share = value.detach() / parts
    scalars[name] = scalars[name] + share if name in scalars else share


def _discriminator_part(
    run: Run,
    stage: int,
    pictures: list[Tensor],
    condition: Tensor | None,
    wrong_condition: Tensor | None,
    scalars: dict[str, Tensor],
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    """The adversarial loss of a stage's discriminator on (a part of) a batch, and its detached logits on real ones.

    Args:
        pictures: augmented; real, wrong and fake, or real and fake where captions are wrong instead of photos.
        condition, wrong_condition: (B, C), the latter without wrong photos.
    """
    config, net, name = run.config, run.nets[stage], f"d{run.config.tree.sizes[stage]}"
    photos = len(pictures) == 3
    conditional = unconditional = None
    with _autocast(run):
        h = _features(run, stage, pictures)
        h_real, h_wrong, h_fake = h[0], h[1] if photos else h[0], h[-1]
        if condition is not None:
            against = condition if photos else wrong_condition
            assert against is not None
            conditional = (
                net.conditional(h_real, condition).float(),
                net.conditional(h_wrong, against).float(),
                net.conditional(h_fake, condition).float(),
            )
        if config.discriminator.unconditional:
            plain = net.unconditional(h_real).float()
            unconditional = (
                plain,
                net.unconditional(h_wrong).float() if photos else plain,
                net.unconditional(h_fake).float(),
            )
    parts = config.optim.accumulate
    if conditional is not None:
        for group, logits in zip(("real", "wrong", "fake"), conditional, strict=True):
            _note(scalars, f"{name}/{group}", logits.mean(), parts)
    if unconditional is not None:
        _note(scalars, f"{name}/plain_real", unconditional[0].mean(), parts)
        _note(scalars, f"{name}/plain_fake", unconditional[2].mean(), parts)
    loss = discriminator_loss(config.loss.adversarial, conditional, unconditional)
    _note(scalars, f"{name}/loss", loss, parts)
    if config.discriminator.match and condition is not None:
        match = _match(run, net, h_real, condition, None if photos else wrong_condition)
        _note(scalars, f"{name}/match", match, parts)
        loss = loss + config.discriminator.match * match
    of_real = tuple(head[0].detach() if head is not None else None for head in (conditional, unconditional))
    return loss, (of_real[0], of_real[1])


def _match(run: Run, net: Discriminator, h: Tensor, condition: Tensor, wrong: Tensor | None) -> Tensor:
    """How badly the pictures with features h find their captions among the batch's and a wrong one of their own."""
    with _autocast(run):
        pictures, texts = net.halves(h, condition)
        others = net.text_half(wrong) if wrong is not None else None
    return text_contrast(pictures, texts, others)


def _features(run: Run, stage: int, groups: list[Tensor]) -> list[Tensor]:
    """Trunk features of each group of augmented pictures, by one pass where that is the same.

    Under BatchNorm each group keeps statistics of its own, as published. In NCHW its samples are then interleaved
    with the others' (:class:`~stackgan.layers.BatchNormByGroup`); in channels-last order every group has its pass.
    """
    features, count = run.features[stage], len(groups)
    alike = [images.to(groups[0].dtype) for images in groups]
    if run.config.discriminator.block != "legacy":
        return list(features(torch.cat(alike)).chunk(count))
    if run.config.optim.channels_last:
        return [features(images) for images in alike]
    h = features(torch.stack(alike, 1).flatten(0, 1), count)
    return list(h.unflatten(0, (-1, count)).unbind(1))


def _feature_distance(run: Run, stage: int, ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean distance of reconstructions from pictures in discriminator features (arXiv:1512.09300, eq. 7–8)."""
    with _autocast(run):
        h = run.features[stage](ours)
        with torch.no_grad():
            wanted = run.features[stage](theirs)
    return (h.float() - wanted.float()).abs().mean()


def _variational(
    run: Run, style: Style, rebuilt: list[Tensor], real: list[Tensor], scalars: dict[str, Tensor]
) -> Tensor:
    """Reconstruction in pictures, and β · KL(q ‖ p) with free bits: −ELBO with G as the decoder.

    arXiv:1312.6114, eq. 2; :func:`_feature_distance` joins it.
    """
    latent = run.config.latent
    pixels = torch.stack([(a.float() - b).abs().mean() for a, b in zip(rebuilt, real, strict=True)]).mean()
    kl = style.kl(latent.free_bits)
    warm = min(1.0, run.progress.fraction(run.config) / latent.warm_up) if latent.warm_up else 1.0
    with torch.no_grad():
        per_dimension = style.q.kl_per_dimension().mean(0)
        scalars["vae/pixels"] = pixels.detach()
        scalars["vae/kl"] = style.plain_kl.mean().detach()
        scalars["vae/kl_most"], scalars["vae/kl_least"] = per_dimension.max(), per_dimension.min()
        scalars["vae/active_units"] = (style.q.mu.var(0) > ACTIVE).float().sum()
    return latent.reconstruction * pixels + warm * latent.beta * kl + style.prior_nll()


def _pictures(run: Run, images: Tensor) -> list[Tensor]:
    """uint8 (B, S, S, 3) -> (B, 3, s, s) a stage, in the memory order that the networks are in."""
    order = torch.channels_last if run.config.optim.channels_last else torch.contiguous_format
    return [x.contiguous(memory_format=order) for x in to_stages(images, run.config.tree.sizes, run.device)]


def _autocast(run: Run) -> torch.autocast:
    enabled = run.config.optim.precision == "bf16"
    return torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=enabled)


def _condition(run: Run, e: Tensor | None, q: DiagonalGaussian | None) -> Tensor | None:
    """What the discriminators' conditional heads see of embeddings e, without gradient; q is q(c | e) if known."""
    if e is None:
        return None
    with torch.no_grad():
        if run.config.discriminator.condition == "code":
            q = run.model.condition(e) if q is None else q
            return q.mu.detach()
        return run.model.standardise(e)


def _augment(run: Run, images: Tensor) -> Tensor:
    return diff_augment(images, run.config.augment.names, run.config.augment.probability)


def _penalty(net: Discriminator, real: Tensor, condition: Tensor | None, power: int) -> Tensor:
    """Gradient penalty at real pictures and true captions, in float32."""
    picture = real.detach().requires_grad_()
    if condition is None:
        return gradient_penalty(net.unconditional(net.features(picture)), (picture,), power)
    text = condition.detach().requires_grad_()
    logits = net.conditional(net.features(picture), text)
    return gradient_penalty(logits, (picture, text), power)


def _set_learning_rates(run: Run) -> None:
    """Constant, falling as 1 / √images from optim.decay_images on, and to 5 % of that from optim.decay_from on."""
    optim = run.config.optim
    scale = 1.0
    if optim.decay_images and run.progress.images > optim.decay_images:
        scale = (optim.decay_images / run.progress.images) ** 0.5
    if optim.decay_from < 1:
        late = (run.progress.fraction(run.config) - optim.decay_from) / (1 - optim.decay_from)
        scale *= 1 - 0.95 * min(max(late, 0.0), 1.0)
    for i, optimizer in enumerate(run.optimizers):
        for group in optimizer.param_groups:
            group["lr"] = scale * (optim.lr_discriminator if i else optim.lr_generator)


# --- before the first step ----------------------------------------------------------------------------------


def _check_data(prepared: PreparedFolder, config: Config) -> None:
    if "train" not in prepared.splits:
        raise ValueError(f"{prepared.path}: has no train split; prepare a folder that has one")
    if config.loss.contrast and config.text.encoder != "compact":
        raise ValueError(
            f"loss.contrast is {config.loss.contrast} and text.encoder {config.text.encoder!r}: only the compact "
            "encoder has an image half to read pictures with; use text.encoder=compact or loss.contrast=0"
        )
    if prepared.size != config.tree.sizes[-1]:
        stages = int(math.log2(max(prepared.size, 64) / 64)) + 1
        raise ValueError(
            f"{prepared.path}: prepared for {prepared.size} px, the tree ends at {config.tree.sizes[-1]} px; "
            f"prepare with --size {config.tree.sizes[-1]} or train with tree.stages={stages}"
        )


def prepare_text(
    run_folder: Path, split: PreparedSplit, config: Config
) -> tuple[TextEncoder | None, NDArray[np.float32] | None, Config]:
    """The run's text encoder (trained now, loaded, or None), all training embeddings, and text.dim filled in."""
    name = config.text.encoder
    encoder: TextEncoder | None = None
    if name == "none":
        return None, None, config
    if name.startswith("precomputed:"):
        embeddings: NDArray[np.float32] = split.embeddings(name.partition(":")[2])
    else:
        folder = run_folder / "text"
        if folder.is_dir():
            encoder = load_text_encoder(str(folder), config.text.pooling)
        else:
            if name == "compact":
                encoder = train_compact_encoder(split, config.compact, seed=config.train.seed, progress=True)
            else:
                encoder = load_text_encoder(name, config.text.pooling)
            partial = run_folder / "text.partial"
            encoder.save(partial)
            partial.replace(folder)
        embeddings = caption_embeddings(split, encoder)
    dim = int(embeddings.shape[1])
    if config.text.dim not in (0, dim):
        raise ValueError(f"text.dim is {config.text.dim}, but {name} gives {dim} dimensions: leave it at 0")
    return encoder, embeddings, replace(config, text=replace(config.text, dim=dim))


def _swapped_embeddings(
    split: PreparedSplit, encoder: TextEncoder | None, config: Config
) -> NDArray[np.float32] | None:
    """Embeddings of captions with two words swapped, where the run has a use for them and an encoder."""
    if encoder is None or config.loss.mismatch != "caption" or not config.loss.mismatch_hard:
        return None
    return caption_embeddings(split, encoder, swapped=True)


def _settle_config(run_folder: Path, prepared: PreparedFolder, config: Config) -> Config:
    """Save the resolved configuration, or compare it with the one this run was started with."""
    file = run_folder / "config.json"
    now = {"data": prepared.identity, **config.to_dict()}
    if file.exists():
        try:
            before = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: not valid JSON ({error}); start a new run folder") from None
        before = _with_defaults(before, now)
        changed = sorted(_flat(before).items() ^ _flat(now).items(), key=lambda item: item[0])
        changed = [item for item in changed if item[0] not in FREE_ON_RESUME]
        if changed:
            key = changed[0][0]
            raise ValueError(
                f"{run_folder}: this run was started with {key}={_flat(before).get(key)!r}, now it is "
                f"{_flat(now).get(key)!r}; give the same settings to resume, or another --run folder"
            )
    write_atomic(file, (json.dumps(now, indent=2) + "\n").encode())
    return config


def _with_defaults(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """``before`` with the defaults of keys that are younger than the run: they stand for what was done then."""
    defaults = Config().to_dict()
    return before | {
        section: {key: defaults[section][key] for key in keys} | before.get(section, {})
        for section, keys in now.items()
        if isinstance(keys, dict)
    }


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update({f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value})
    return flat


# --- what a run leaves behind -------------------------------------------------------------------------------


class SampleSheet:
    """The same captions and seeds painted by the average again and again, as RUN/samples/<images>.png.

    With a posterior, photos beside what it makes of them: as they are, and with the words of another photo.
    """

    def __init__(self, folder: Path, prepared: PreparedFolder, encoder: TextEncoder | None, config: Config) -> None:
        self.folder, self.encoder = folder, encoder
        split = prepared.splits.get("test") or prepared.splits["train"]
        rows = np.linspace(0, len(split) - 1, SAMPLE_CAPTIONS).astype(int)
        self.photos = centre_crops(split.images[rows[:SAMPLE_PHOTOS]], config.tree.sizes[-1])
        self.captions: list[str] = []
        self.embeddings: Tensor | None = None
        if config.text.conditional:
            places = split.offsets[rows]
            self.captions = [split.captions[place] for place in places]
            if encoder is not None:
                self.embeddings = encoder.encode(self.captions)
            else:
                stored = split.embeddings(config.text.encoder.partition(":")[2])
                self.embeddings = torch.from_numpy(np.array(stored[places]))

    def __call__(self, run: Run) -> Path:
        seeds = range(SAMPLE_SEEDS)
        pipe = StackGANPipeline(run.average, None)
        rows: list[tuple[str, Sequence[Any]]] = []
        if self.embeddings is None:
            rows = [(f"seeds {s}–{s + 3}", pipe(seeds=range(s, s + 4)).images) for s in range(0, 48, 4)]
        else:
            for caption, e in zip(self.captions, self.embeddings, strict=True):
                rows.append((caption, pipe(embeddings=e[None], seeds=seeds).images))
        if run.average.posterior is not None:
            rows += self._photo_rows(run.average)
        self.folder.mkdir(exist_ok=True)
        file = self.folder / f"{run.progress.images:010d}.png"
        caption_sheet(rows, side=min(run.config.tree.sizes[-1], 128)).save(file)
        return file

    @torch.inference_mode()
    def _photo_rows(self, model: StackGAN) -> list[tuple[str, Sequence[Any]]]:
        x = self.photos.to(next(model.parameters()).device)
        c = model.no_code(len(x))
        if self.embeddings is not None:
            c = model.condition(self.embeddings[: len(x)].to(x.device)).mu
        assert model.posterior is not None
        z = model.posterior(x, c).mode
        shown = [("photos", x), ("the same, painted", model.generator(z, c)[-1])]
        if self.embeddings is not None:
            shown.append(("with the words of the photo before", model.generator(z, c.roll(1, 0))[-1]))
        return [(label, to_pil(images)) for label, images in shown]


class Evaluator:
    """The average, measured while it is being trained; on the test split where there is one."""

    def __init__(self, prepared: PreparedFolder, encoder: TextEncoder | None, config: Config) -> None:
        self.encoder, self.config = encoder, config
        self.split = prepared.splits.get("test") or prepared.splits["train"]
        self.network = load_features(Path(config.eval.features)) if config.eval.features else None

    def __call__(self, run: Run) -> tuple[dict[str, float], bool]:
        """The figures, and whether the distance is the least so far, which the run remembers."""
        pipe = StackGANPipeline(run.average, self.encoder)
        figures = quick_figures(pipe, self.split, self.network, self.config.eval.count, self.config.train.seed)
        distance = figures["kernel_distance" if self.network is not None else "pyramid_distance"]
        best = distance < run.progress.best
        run.progress.best = min(distance, run.progress.best)
        return figures, best


class Log:
    """Scalars to RUN/log.jsonl, the progress bar and TensorBoard; read back from the device only when logged."""

    def __init__(self, folder: Path, first_step: int, health: Health) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.health = health

        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
        self.file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self.began = time.perf_counter()
        self.since = (time.perf_counter(), -1)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.board.close()

    def __call__(self, progress: Progress, scalars: dict[str, Tensor], bar: tqdm[Any]) -> None:
        values = {name: float(value) for name, value in scalars.items()}
        try:
            troubles = self.health(values)
        except ValueError as error:
            raise ValueError(f"step {progress.step}: {error}") from None
        for trouble in troubles:
            tqdm.write(f"step {progress.step}: {trouble}", file=sys.stderr)
        now, images = time.perf_counter(), progress.images
        if self.since[1] >= 0:
            values["images_per_second"] = (images - self.since[1]) / (now - self.since[0])
        self.since = (now, images)
        line: dict[str, Any] = {"step": progress.step, "images": images, "seconds": round(progress.seconds, 1)}
        line |= {k: round(v, 5) for k, v in values.items()}
        if troubles:
            line["troubles"] = troubles
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, progress.step)
        d = sum(v for k, v in values.items() if k.startswith("d") and k.endswith("/loss"))
        g = sum(v for k, v in values.items() if k.startswith("g") and k.endswith("/loss"))
        shown = {"D": f"{d:.2f}", "G": f"{g:.2f}"}
        if "g/kl" in values:
            shown["KL"] = f"{values['g/kl']:.3f}"
        bar.set_postfix(shown, refresh=False)

    def figures(self, progress: Progress, figures: dict[str, float]) -> None:
        """An evaluation, on a line of its own."""
        values = {f"eval/{name}": value for name, value in figures.items()}
        line = {"step": progress.step, "images": progress.images, "seconds": round(progress.seconds, 1)}
        self.file.write(json.dumps(line | {name: round(value, 5) for name, value in values.items()}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, progress.step)
        tqdm.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items()), file=sys.stderr)
        self.since = (time.perf_counter(), -1)

    def image(self, step: int, file: Path) -> None:
        from PIL import Image

        self.board.add_image("samples", np.asarray(Image.open(file)), step, dataformats="HWC")
        self.since = (time.perf_counter(), -1)  # painting is not training: do not count it in images/s


class _Publisher:
    """Writes the average as RUN/checkpoint, with its card."""

    def __init__(
        self, folder: Path, prepared: PreparedFolder, encoder: TextEncoder | None, start: Start | None
    ) -> None:
        self.folder, self.prepared, self.encoder, self.start = folder, prepared, encoder, start

    def __call__(self, run: Run, folder: Path | None = None) -> None:
        split = self.prepared.splits["train"]
        data = {
            "kind": self.prepared.kind,
            "identity": self.prepared.identity,
            "images": len(split),
            "captions": len(split.captions),
        }
        trained = {
            "steps": run.progress.step,
            "images": run.progress.images,
            "seconds": round(run.progress.seconds),
        }
        facts = {"examples": self._examples(run.config), "data": data, "trained": trained}
        if self.start is not None:
            facts["started_from"] = dict(self.start.trained)
        weights = run.average.state_dict()
        publish(folder or self.folder, run.config, weights, self.encoder, facts=facts, card=_card(run, data))

    def _examples(self, config: Config) -> list[str]:
        if not config.text.conditional or self.encoder is None:
            return []
        if self.prepared.kind == "cub":
            return list(BIRD_EXAMPLES)
        split = self.prepared.splits.get("test") or self.prepared.splits["train"]
        return [split.captions[split.offsets[i]] for i in np.linspace(0, len(split) - 1, 6).astype(int)]


def _card(run: Run, data: dict[str, Any]) -> str:
    config, progress = run.config, run.progress
    minutes = f"{progress.seconds / 60:.0f} minutes on {run.device.type}"
    sizes = ", ".join(f"{size}" for size in config.tree.sizes)
    return f"""# {config.preset} checkpoint

Averaged generator of a StackGAN++ tree ({sizes} px), written by `stackgan train`.

| | |
|---|---|
| data | {data["images"]} images, {data["captions"]} captions ({data["kind"]}), identity `{data["identity"][:16]}` |
| text | `{config.text.encoder}`, {config.text.dim} dimensions |
| recipe | preset `{config.preset}`; the whole configuration is in `config.json` |
| trained | {progress.images} images seen in {progress.step} steps, {minutes} |
| metrics | none measured yet |

The licence and the limits of use are those of the training data.
"""


# --- process ------------------------------------------------------------------------------------------------


class _Stop:
    """Set by the first Ctrl-C or SIGTERM; the step in hand is finished and everything saved."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def _interruptible() -> Iterator[_Stop]:
    stop = _Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:  # the second time, at once
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress_bar(run: Run) -> tqdm[Any]:
    config = run.config.train
    return tqdm(total=config.images, initial=run.progress.images, unit="img", smoothing=0.05, dynamic_ncols=True)

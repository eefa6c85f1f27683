"""Import of the published StackGAN-v2 weights (``netG_<count>.pth``, ``netD0.pth`` …) as a checkpoint, and back.

Every name must be known, every shape must match, and every weight of the model must be set; sizes are derived from
the shapes. Files are read as tensors only: a pickle with other objects is rejected, and no code in it is executed.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from stackgan.checkpoint import DISCRIMINATORS, load_checkpoint, save_checkpoint, stored_discriminators
from stackgan.config import PRESETS, CompactConfig, Config
from stackgan.config.facts import CheckpointFacts
from stackgan.data.prepared import PreparedFolder
from stackgan.io.files import atomic_folder
from stackgan.model import StackGAN, build_discriminators
from stackgan.text.compact import CompactEncoder
from stackgan.text.contrastive import train_compact_encoder
from stackgan.text.precomputed import stored_name

__all__ = ["convert", "convert_back", "read_weights"]

TEXT = "precomputed:char-cnn-rnn"
PREFIX = "module."  # of every published name, as the networks were saved inside DataParallel
MAX_STAGES = 5

CONV = ("weight",)
AFFINE = ("weight", "bias")
NORM = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"  # of BatchNorm, optional: it was introduced after the published files

Modules = Mapping[str, tuple[str, tuple[str, ...]]]  # published module -> ours, and the tensors in it


def convert(netg: Path, netd: Sequence[Path], out: Path, text_from: Path | None = None) -> None:
    """Write the published generator, and discriminators if given, as a checkpoint with the preset ``legacy``.

    The checkpoint has no text encoder: it takes embeddings of the kind it was trained on (char-CNN-RNN). With
    ``text_from`` it gets a compact encoder that predicts them from captions.

    Args:
        netg: ``netG_<count>.pth``, or a ZIP that contains it.
        netd: none, or one file per stage in any order, stored beside the model as ``discriminators.safetensors``.
        out: folder to create.
        text_from: prepared folder with captions and stored embeddings ``char-cnn-rnn``, on whose training split the
            compact encoder is trained.

    Raises:
        FileNotFoundError: a file is missing, or ``text_from`` has no such embeddings.
        FileExistsError: ``out`` exists and is not empty.
        ValueError: not such a checkpoint, or an unexpected name, shape or value; the message names the key.
    """
    _check_empty(out)
    theirs = read_weights(netg, "netG")
    modules, config = _generator(netg, theirs)
    discriminators = None
    if netd:
        config, discriminators = _discriminators(netd, config)
    weights = _map(netg, theirs, modules, _shapes(config))
    weights["standardise.mean"], weights["standardise.scale"] = torch.zeros(config.text.dim), torch.ones(())
    imported = {file.name: _sha256(file) for file in (netg, *netd)}
    facts = CheckpointFacts(imported=imported)
    encoder = None if text_from is None else _taught_encoder(text_from, config.text.dim)
    card = _card(config, imported, encoder)
    save_checkpoint(out, config, weights, encoder, facts=facts, card=card, discriminators=discriminators)


def _taught_encoder(data: Path, dim: int) -> CompactEncoder:
    split = PreparedFolder.open(data).train
    found = split.embeddings(stored_name(TEXT)).shape[1]
    if found != dim:
        raise ValueError(f"{data}: its embeddings have {found} dimensions, the generator takes {dim}")
    return train_compact_encoder(split, CompactConfig(teacher=TEXT), seed=0, progress=True)


def convert_back(checkpoint: Path, out: Path) -> None:
    """Write a ``legacy`` checkpoint in the published format: ``netG_<count>.pth``, ``netD0.pth`` ….

    The tensors are those of the checkpoint, bit for bit, under the published names, so that :func:`convert` followed
    by this function gives the tensors of the published files. BatchNorm's counters are written if one of a network is
    not 0: PyTorch before 0.4.1, which wrote the published files, has none. Every version of PyTorch reads the files.

    Args:
        checkpoint: a folder. The count in the name of ``netG`` is that of the imported file, or the steps of the
            training.
        out: folder to create.

    Raises:
        FileNotFoundError: no such checkpoint.
        FileExistsError: ``out`` exists and is not empty.
        ValueError: the checkpoint has something that StackGAN-v2 has not; the message names it.
    """
    _check_empty(out)
    loaded = load_checkpoint(checkpoint)
    config, file = loaded.config, loaded.folder / "model.safetensors"
    if config.generator.block != "legacy" or not config.text.conditional:
        raise ValueError(f"{checkpoint}: its generator is not StackGAN-v2's, which has legacy blocks and takes text")
    ours = dict(loaded.weights)
    mean, scale = ours.pop("standardise.mean", torch.zeros(1)), ours.pop("standardise.scale", torch.ones(1))
    if bool(mean.any()) or bool(scale != 1):
        raise ValueError(f"{checkpoint}: text.standardise is true, but StackGAN-v2 takes embeddings as they are")
    stages = config.tree.stages
    netg = _as_theirs(file, ours, _generator_modules(stages, config.generator.residuals), _shapes(config))
    networks = {_name_of_generator(loaded.facts): netg}
    discriminators = stored_discriminators(loaded.folder)
    for stage in range(stages if discriminators else 0):
        own = {
            name.removeprefix(f"{stage}."): tensor
            for name, tensor in (discriminators or {}).items()
            if name.startswith(f"{stage}.")
        }
        modules, shapes = _discriminator_modules(stage), _shapes(config, stage)
        networks[f"netD{stage}.pth"] = _as_theirs(loaded.folder / DISCRIMINATORS, own, modules, shapes)
    with atomic_folder(out) as partial:
        for name, network in networks.items():
            torch.save(network, partial / name, _use_new_zipfile_serialization=False)


def _name_of_generator(facts: CheckpointFacts) -> str:
    known = [name for name in facts.imported or {} if re.fullmatch(r"netG_\d+\.pth", name)]
    steps = facts.trained.steps if facts.trained else None
    return known[0] if known else f"netG_{steps or 0}.pth"


def _as_theirs(
    file: Path, ours: Mapping[str, Tensor], modules: Modules, shapes: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    """Our tensors under the published names; none may be left over, missing or of another shape."""
    names, counters = dict[str, str](), dict[str, str]()  # our name -> theirs
    for module, (our, leaves) in modules.items():
        names |= {f"{our}.{leaf}": f"{PREFIX}{module}.{leaf}" for leaf in leaves}
        if leaves is NORM:
            counters[f"{our}.{COUNTER}"] = f"{PREFIX}{module}.{COUNTER}"
    if any(bool(ours[name].any()) for name in counters if name in ours):
        names |= counters
    for name in ours:
        if name not in names and name not in counters:
            raise ValueError(f"{file}: {name} is not part of StackGAN-v2")
    for name in names:
        if name not in ours or ours[name].shape != shapes[name]:
            raise ValueError(f"{file}: {name} is missing, or has another shape than config.json describes")
    return {theirs: ours[our] for our, theirs in names.items()}


def _check_empty(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"{out}: exists and is not empty, so it is not replaced; name another folder with --out"
        )


# --- names: modules of the published networks, and their names here -----------------------------------------


def _generator_modules(stages: int, residuals: int) -> Modules:
    modules: dict[str, tuple[str, tuple[str, ...]]] = {
        "ca_net.fc": ("ca_net.linear", AFFINE),
        "h_net1.fc.0": ("generator.stages.0.linear", CONV),
        "h_net1.fc.1": ("generator.stages.0.norm", NORM),
    }
    for block in range(4):
        modules |= _pair(f"h_net1.upsample{block + 1}", 1, f"generator.stages.0.blocks.{block}", ".conv", ".norm")
    for stage in range(1, stages):
        their, our = f"h_net{stage + 1}", f"generator.stages.{stage}"
        modules |= _pair(f"{their}.jointConv", 0, f"{our}.joint", ".conv", ".norm")
        for r in range(min(residuals, 1) if stage >= 3 else residuals):
            modules |= _pair(f"{their}.residual.{r}.block", 0, f"{our}.residuals.{r}.gated", ".conv", ".norm")
            modules |= _pair(f"{their}.residual.{r}.block", 3, f"{our}.residuals.{r}", ".conv", ".norm")
        modules |= _pair(f"{their}.upsample", 1, f"{our}.up", ".conv", ".norm")
    for stage in range(stages):
        modules[f"img_net{stage + 1}.img.0"] = (f"generator.heads.{stage}.conv", CONV)
    return modules


def _discriminator_modules(stage: int) -> Modules:
    """Modules of the discriminator for 64 << stage px: down by 16, down to 4 × 4, reduction to 8 · width channels."""
    modules: dict[str, tuple[str, tuple[str, ...]]] = {"img_code_s16.0": ("trunk.0.0", CONV)}
    for block in range(1, 4):
        modules |= _pair("img_code_s16", 3 * block - 1, f"trunk.{block}", ".0", ".1")
    for i in range(stage):
        modules |= _pair(f"img_code_s{32 << i}", 0, f"trunk.{4 + i}", ".0", ".1")
        modules |= _pair(f"img_code_s{16 << stage}_{i + 1}", 0, f"trunk.{4 + stage + i}", ".0", ".1")
    modules |= _pair("jointConv", 0, "joint", ".0", ".1")
    return modules | {"logits.0": ("logit", AFFINE), "uncond_logits.0": ("plain_logit", AFFINE)}


def _pair(their: str, place: int, our: str, conv: str, norm: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """A convolution at index ``place`` of a published Sequential and the BatchNorm after it."""
    return {f"{their}.{place}": (our + conv, CONV), f"{their}.{place + 1}": (our + norm, NORM)}


@lru_cache(maxsize=8)
def _shapes(config: Config, stage: int | None = None) -> dict[str, torch.Size]:
    """Names and shapes of our generator with CA_NET, or of the discriminator of a stage; without allocating
    memory."""
    with torch.device("meta"):
        network = StackGAN(config) if stage is None else build_discriminators(config)[stage]
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return {name: shape for name, shape in shapes.items() if not name.startswith("standardise.")}


def _map(
    file: Path, theirs: Mapping[str, Tensor], modules: Modules, wanted: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    """Published tensors under our names, after :func:`_check_names`; shapes, types and values are checked."""
    weights: dict[str, Tensor] = {}
    for module, (our, leaves) in modules.items():
        for leaf in leaves:
            weights[f"{our}.{leaf}"] = _fitting(file, f"{PREFIX}{module}.{leaf}", theirs, wanted[f"{our}.{leaf}"])
        if leaves is NORM:
            counter = theirs.get(f"{PREFIX}{module}.{COUNTER}", torch.tensor(0))
            weights[f"{our}.{COUNTER}"] = counter.long().reshape(())
    unfilled = sorted(wanted.keys() - weights.keys())
    if unfilled:  # the table above does not match the model
        raise ValueError(f"{file}: there is no tensor for {unfilled[0]} of this program's model")
    return weights


def _fitting(file: Path, key: str, theirs: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
    tensor = theirs[key]
    if tensor.shape != shape:
        raise ValueError(
            f"{file}: {key} has shape {tuple(tensor.shape)}, by the other shapes it should be {tuple(shape)}"
        )
    if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
        raise ValueError(f"{file}: {key} does not hold finite real numbers; download the file again")
    return tensor.detach().to(torch.float32, copy=True)


def _check_names(file: Path, theirs: Mapping[str, Tensor], modules: Modules, network: str) -> None:
    needed = [f"{PREFIX}{module}.{leaf}" for module, (_, leaves) in modules.items() for leaf in leaves]
    counters = {f"{PREFIX}{module}.{COUNTER}" for module, (_, leaves) in modules.items() if leaves is NORM}
    known = counters.union(needed)
    unknown, missing = (
        [key for key in theirs if key not in known],
        [key for key in needed if key not in theirs],
    )
    complaints = [
        f"{keys[0]} {what}" + (f" (and {len(keys) - 1} more)" if len(keys) > 1 else "")
        for keys, what in ((unknown, f"is not a name of {network}"), (missing, "is missing"))
        if keys
    ]
    if complaints:
        raise ValueError(f"{file}: {'; '.join(complaints)}: not the published network, or a damaged copy")


# --- sizes: derived from names and shapes -------------------------------------------------------------------


def _generator(file: Path, theirs: Mapping[str, Tensor]) -> tuple[Modules, Config]:
    """The module table and the configuration of a published generator."""
    stages = _run_length(theirs, ("h_net{}.", "img_net{}."), first=1, limit=MAX_STAGES)
    if not stages:
        found = next(iter(theirs), "nothing")
        raise ValueError(f"{file}: not a StackGAN-v2 generator: it holds no {PREFIX}h_net1, but {found}")
    residuals = _run_length(theirs, ("h_net2.residual.{}.",), first=0, limit=16) if stages > 1 else 2
    modules = _generator_modules(stages, residuals)
    if not any(key.startswith(f"{PREFIX}ca_net.") for key in theirs):
        raise ValueError(
            f"{file}: {PREFIX}ca_net.fc.weight is missing: a generator trained without text is not imported"
        )
    _check_names(file, theirs, modules, "StackGAN-v2's generator")

    # Several tensors determine the same size; the majority is used, so that an error names the one that differs.
    shapes = {key.removeprefix(PREFIX): tensor.shape for key, tensor in theirs.items()}
    width = _majority(
        [
            *(_axis(shapes[f"img_net{s + 1}.img.0.weight"], 1) << s for s in range(stages)),
            *(_axis(shapes[f"h_net1.upsample{b}.2.{leaf}"], 0) << b >> 5 for b in range(1, 5) for leaf in NORM),
        ]
    )
    code = _majority(
        [
            *(_axis(shapes[f"ca_net.fc.{leaf}"], 0) // 4 for leaf in ("bias", "weight")),
            *(_axis(shapes[f"h_net{s + 1}.jointConv.0.weight"], 1) - (width >> (s - 1)) for s in range(1, stages)),
        ]
    )
    text, latent = _axis(shapes["ca_net.fc.weight"], 1), _axis(shapes["h_net1.fc.0.weight"], 1) - code
    legacy = PRESETS["legacy"]
    for key, size in (("ca_net.fc.weight", min(text, code)), ("h_net1.fc.0.weight", latent)):
        if size < 1:
            raise ValueError(
                f"{file}: {PREFIX}{key} has shape {tuple(shapes[key])}, which is not possible in StackGAN-v2"
            )
    try:
        return modules, replace(
            legacy,
            tree=replace(legacy.tree, stages=stages),
            text=replace(legacy.text, encoder=TEXT, dim=text, code_dim=code, standardise=False),
            latent=replace(legacy.latent, dim=latent),
            generator=replace(legacy.generator, width=width, residuals=residuals),
        )
    except ValueError as error:
        raise ValueError(f"{file}: {error} (as read from its shapes)") from None


def _discriminators(files: Sequence[Path], config: Config) -> tuple[Config, dict[str, Tensor]]:
    """The configuration with the discriminators' width, and their tensors under ``<stage>.<name>``."""
    read: dict[int, tuple[Path, dict[str, Tensor]]] = {}
    for file in files:
        theirs = read_weights(file, "netD")
        if not any(key.startswith(f"{PREFIX}img_code_s16.") for key in theirs):
            raise ValueError(f"{file}: not a StackGAN-v2 discriminator: it holds no {PREFIX}img_code_s16")
        names = tuple(f"img_code_s{32 << i}." for i in range(MAX_STAGES - 1))
        stage = next((i for i, name in enumerate(names) if _count(theirs, name) < 2), MAX_STAGES - 1)
        if stage in read:
            raise ValueError(f"{file}: a discriminator for {64 << stage} px, as {read[stage][0]} is: give each once")
        _check_names(file, theirs, _discriminator_modules(stage), f"StackGAN-v2's discriminator for {64 << stage} px")
        read[stage] = file, theirs
    wrong = sorted(read.keys() ^ set(range(config.tree.stages)))
    if wrong:
        size, sizes = 64 << wrong[0], ", ".join(map(str, config.tree.sizes))
        complaint = f"{read[wrong[0]][0]}: is" if wrong[0] in read else "--netd: there is none"
        raise ValueError(f"{complaint} for {size} px; this generator's tree takes one for each of {sizes} px")
    votes = [
        _axis(theirs[f"{PREFIX}img_code_s16.{place}.{leaf}"].shape, 0) >> block
        for _, theirs in read.values()
        for block, place in enumerate((0, 3, 6, 9))
        for leaf in (NORM if block else CONV)
    ]
    try:
        config = replace(config, discriminator=replace(config.discriminator, width=_majority(votes)))
    except ValueError as error:
        raise ValueError(f"{files[0]}: {error} (as read from its shapes)") from None
    weights: dict[str, Tensor] = {}
    for stage, (file, theirs) in sorted(read.items()):
        ours = _map(file, theirs, _discriminator_modules(stage), _shapes(config, stage))
        weights |= {f"{stage}.{name}": tensor for name, tensor in ours.items()}
    return config, weights


def _run_length(theirs: Iterable[str], patterns: Sequence[str], first: int, limit: int) -> int:
    """Number of consecutive numbers from ``first`` on in names; a single tensor is an error, not a module."""
    names = list(theirs)
    number = first
    while number < first + limit and sum(_count(names, pattern.format(number)) for pattern in patterns) >= 2:
        number += 1
    return number - first


def _count(theirs: Iterable[str], beginning: str) -> int:
    return sum(key.startswith(PREFIX + beginning) for key in theirs)


def _axis(shape: torch.Size, axis: int) -> int:
    return int(shape[axis]) if axis < len(shape) else 0


def _majority(votes: Iterable[int]) -> int:
    return Counter(votes).most_common(1)[0][0]


# --- files --------------------------------------------------------------------------------------------------


def read_weights(file: Path, kind: str = "") -> dict[str, Tensor]:
    """The tensors in a ``.pth`` file of any version, or in a ZIP that contains one; nothing else is unpickled.

    Args:
        kind: prefix of the file's name, for a ZIP with several files.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: another format, a damaged file, or one with other objects than tensors.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; the published one is netG_<count>.pth or the ZIP that contains it"
        )
    content: Path | BytesIO = file
    with file.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(b"PK\x03\x04"):
        content = _unzipped(file, kind)
    if head[257:262] == b"ustar":
        raise ValueError(f"{file}: written by PyTorch before 0.2 (tar), which is not read; save it with a newer one")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            raise ValueError(
                f"{file}: holds the Python object {found[1]} and not only tensors, so it was not loaded "
                "(no code in it was executed); a published checkpoint holds none"
            ) from None
        raise ValueError(f"{file}: not a PyTorch checkpoint, or a damaged one; download it again") from None
    state = _table(file, state, kind)
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{file}: holds a {type(state).__name__}, not a table of named tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise ValueError(f"{file}: {key!s:.100} is of type {type(value).__name__}, not a named plain tensor")
    return _as_published(state)


def _table(file: Path, state: object, kind: str) -> object:
    """The table of tensors inside what training scripts save: beside a step, optimizers and other networks."""
    if not isinstance(state, dict):
        return state
    tables = {
        str(key): value
        for key, value in state.items()
        if isinstance(value, dict) and value and all(isinstance(tensor, Tensor) for tensor in value.values())
    }
    named = [key for key in tables if key.casefold().startswith((kind or "netG").casefold())]
    if len(tables) > 1 and len(named) != 1:
        raise ValueError(f"{file}: holds several networks: {', '.join(tables):.200}; save the one you want alone")
    return tables[named[0]] if len(tables) > 1 else next(iter(tables.values()), state)


def _as_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names that begin with :data:`PREFIX`, instead of with those of other wrappers, if all have the same ones."""
    first, last = min(state), max(state)  # what these share, all names share
    shared = "" if first == last else os.path.commonprefix((first, last))  # noqa: RUF071  not of a path
    wrappers = shared[: shared.rfind(".") + 1]
    if not wrappers and any(key.startswith(PREFIX) for key in state):  # damaged: reported by name
        return dict(state)
    return {PREFIX + key.removeprefix(wrappers): tensor for key, tensor in state.items()}


def _unzipped(file: Path, kind: str) -> Path | BytesIO:
    """The file itself if PyTorch wrote it (its files are ZIPs since 1.6), otherwise the requested file in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            paths = {name: PurePosixPath(name) for name in archive.namelist()}
            if any(path.name == "data.pkl" for path in paths.values()):
                return file
            found = [n for n, p in paths.items() if p.suffix == ".pth" and not p.name.startswith("._")]
            if len(found) > 1:
                found = [name for name in found if paths[name].name.startswith(kind)]
            if len(found) != 1:
                several = ", ".join(paths[name].name for name in found)
                holds = f"several: {several}" if found else "none"
                raise ValueError(
                    f"{file}: a ZIP that should hold one {kind}*.pth holds {holds}; unpack the one you want"
                )
            return BytesIO(archive.read(found[0]))
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        raise ValueError(f"{file}: a ZIP that cannot be read ({error}); download it again") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_EMBEDDINGS = (
    "no text encoder",
    """It has no text encoder. Pass embeddings of the kind it was trained on:

```python
from stackgan import StackGANPipeline

pipe = StackGANPipeline.from_pretrained("this folder")
out = pipe(embeddings=e, seeds=[0, 1])  # e: (2, {dim})
```""",
)
_CAPTIONS = (
    "predicted from captions by a compact encoder",
    "The folder `text` has a compact encoder that was trained to predict these embeddings from captions. It is not\n"
    "the encoder that the generator was trained with; embeddings can be given as well (`pipe(embeddings=e)`).",
)


def _card(config: Config, imported: Mapping[str, str], encoder: CompactEncoder | None) -> str:
    sizes = ", ".join(map(str, config.tree.sizes))
    files = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in imported.items())
    text, use = _EMBEDDINGS if encoder is None else _CAPTIONS
    use = use.format(dim=config.text.dim)
    return f"""# StackGAN-v2, imported

Weights in the published format of StackGAN-v2 (arXiv:1710.10916), written by `stackgan convert`.

| | |
|---|---|
| images | {sizes} px |
| text | embeddings (char-CNN-RNN when published), {config.text.dim} dimensions; {text} |
| code, latent | {config.text.code_dim}, {config.latent.dim} |
| generator | width {config.generator.width}, {config.generator.residuals} residual blocks per stage |

{use}

| from | sha256 |
|---|---|
{files}

The BatchNorm statistics in published generators are those of the live weights, the other tensors are their
EMA; both are copied unchanged. The licence and the limits of use are those of the weights and of their
training data.
"""

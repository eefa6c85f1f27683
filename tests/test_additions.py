"""Extensions: an addition of every kind needs one file and one table row, and then works in the whole program.

Each test contains the code of the addition and only adds its row to the table before it runs commands.
:func:`test_names_occur_only_in_their_tables` checks that no other code depends on the names.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from stackgan.cli.main import main
from stackgan.config import PRESETS, preset, with_overrides
from stackgan.data.kinds import KINDS, DataKind
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.context import Context
from stackgan.evaluation.evaluate import SECTIONS, Section
from stackgan.evaluation.findings import Findings, NotMeasured, Table
from stackgan.io.files import atomic_folder
from stackgan.latent.flows import FAMILIES, ActNorm, Bijection, FlowFamily, Step
from stackgan.latent.priors import CODE_PRIORS, FLOW, PRIORS, CodePriorKind, PriorKind
from stackgan.model import check_choices
from stackgan.pipeline import StackGANPipeline
from stackgan.text.base import CaptionWarning, TextEncoder, write_json
from stackgan.text.load import ENCODERS, EncoderKind, load_text_encoder, new_text_encoder
from stackgan.training.loop import train
from tests.evaluation.command import command_for
from tests.tiny import TINY, save_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[1]


def _train(data: Path, run: Path, *overrides: str) -> StackGANPipeline:
    """Train for two steps and load the checkpoint."""
    config = preset("quickstart", [*TINY, "train.images=8", *overrides])
    assert train(data, run, config, device="cpu") == 0
    return StackGANPipeline.from_pretrained(run / "checkpoint", device="cpu")


def _imported_anew(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """The module imported afresh, so that lists that it derives from a table include the new row."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def _evaluate_alone(monkeypatch: pytest.MonkeyPatch, *sections: str) -> None:
    """Restrict the report to these sections, to save time."""
    monkeypatch.setattr("stackgan.evaluation.evaluate.SECTIONS", {name: SECTIONS[name] for name in sections})


# --- a flow family: stackgan/latent/flows/<file>.py, FAMILIES ------------------------------------------------


class Householder(Bijection):
    """u = x − 2 v vᵀx / vᵀv: a reflection, which is its own inverse; log |det| = 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x - 2 * (x @ self.v / self.v.dot(self.v))[:, None] * self.v, x.new_zeros(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.forward(u, c)


def _householder(s: Step) -> list[Bijection]:
    return [ActNorm(s.channels), Householder(s.channels)]


def test_a_flow_family(few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is trained as the prior, fitted to a finished checkpoint, and listed by the studies."""
    monkeypatch.setitem(FAMILIES, "householder", FlowFamily("Householder", _householder, images=False))
    pipe = _train(few_birds, tmp_path / "run", "latent.z=flow", "latent.family=householder", "latent.steps=2")
    assert sum(isinstance(module, Householder) for module in pipe.model.modules()) == 2
    assert len(pipe(["a red bird"], seeds=[0]).images) == 1

    fitted = tmp_path / "fitted"
    command = ["fit-prior", "--checkpoint", str(tmp_path / "run" / "checkpoint"), "--data", str(few_birds)]
    assert main([*command, "--out", str(fitted), "--steps", "2", "latent.family=householder"]) == 0
    pipe = StackGANPipeline.from_pretrained(fitted, device="cpu")
    assert len(pipe.sample([0, 1]).images) == 2  # p(c) has the same family

    pytest.importorskip("matplotlib")
    studies = {"flow_2d": "FAMILIES", "flow_digits": "SETTINGS", "latents": "FAMILIES"}
    modules = {study: _imported_anew(monkeypatch, f"stackgan.study.{study}") for study in studies}
    assert all(list(getattr(modules[study], listed))[-1] == "householder" for study, listed in studies.items())
    plane = modules["flow_2d"]
    monkeypatch.setattr(plane, "FAMILIES", {name: plane.FAMILIES[name] for name in ("nsf", "householder")})
    monkeypatch.setattr(plane, "SHAPES", {"moons": plane.SHAPES["moons"]})
    monkeypatch.setattr(plane, "find_spec", lambda name: None)  # no zuko
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    found = plane.run(tmp_path / "plane", steps=1)
    assert set(found["held_out_nats"]["moons"]) == {"gaussian", "nsf", "householder"}


# --- a latent prior: a module, PRIORS and CODE_PRIORS of stackgan/latent/priors.py ---------------------------


@dataclass(frozen=True)
class Laplace:
    """Independent Laplace distributions of scale 1 about mu (B, D)."""

    mu: Tensor

    @property
    def mode(self) -> Tensor:
        return self.mu

    def sample(self, generator: Generator | None = None, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            noise = torch.randn(self.mu.shape, generator=generator)
        centred = torch.special.ndtr(noise) - 0.5
        return self.mu - centred.sign() * torch.log1p(-2 * centred.abs())

    def log_prob(self, x: Tensor) -> Tensor:
        return (-(x - self.mu).abs() - math.log(2)).sum(-1)

    def to_noise(self, x: Tensor) -> Tensor:
        tail = torch.exp(-(x - self.mu).abs()) / 2
        return torch.special.ndtri(tail) * -(x - self.mu).sign()


class LaplacePrior(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(dim))

    def forward(self, c: Tensor) -> Laplace:
        return Laplace(self.mu.expand(len(c), -1))


def test_a_latent_prior(few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As prior of z with a posterior and of c, it is trained, stored, and used to encode photos and to sample."""
    monkeypatch.setitem(PRIORS, "laplace", PriorKind(lambda config, _: LaplacePrior(config.dim), posterior=True))
    monkeypatch.setitem(CODE_PRIORS, "laplace", CodePriorKind(lambda _, dim: LaplacePrior(dim), learned=True))
    pipe = _train(few_birds, tmp_path / "run", "latent.z=laplace", "latent.c=laplace")
    assert isinstance(pipe.model.prior, LaplacePrior) and pipe.model.prior.mu.any()  # trained
    assert isinstance(pipe.model.code_prior, LaplacePrior) and pipe.model.code_prior.mu.any()
    image = pipe(["a red bird"], seeds=[0]).images[0]
    assert len(pipe.reconstruct(image, "a red bird").images) == 1 and len(pipe.sample([0, 1]).images) == 2
    assert pipe.caption_log_prob("a red bird")[0].share is not None
    with pytest.raises(ValueError, match=r"latent\.c is 'laplace': it must be gaussian.* with optim"):
        check_choices(with_overrides(pipe.config, ["latent.z=gaussian", "optim.cuda_graphs=true"]))
    with pytest.raises(ValueError, match=r"with latent\.z=vae or .*latent\.z=laplace$"):
        plain = save_tiny_checkpoint(tmp_path / "plain", stages=1)
        StackGANPipeline.from_pretrained(plain, device="cpu").reconstruct(image, "a red bird")

    _evaluate_alone(monkeypatch, "posterior")
    assert main(command_for(tmp_path / "run" / "checkpoint", few_birds, tmp_path / "report")) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["sections"]["posterior"]["figures"]["kl"] != 0
    pytest.importorskip("matplotlib")
    models = _imported_anew(monkeypatch, "stackgan.study.latents").MODELS
    assert models == tuple(name for name, kind in PRIORS.items() if name != FLOW and not kind.fitted)


# --- a text encoder: a file of stackgan/text/, ENCODERS ------------------------------------------------------


class HashedWords(TextEncoder):
    """Every word is hashed to one of T indices; the embedding is their histogram."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    @property
    def identity(self) -> str:
        return f"hashed-{self.dim}"

    def encode(self, captions: Sequence[str]) -> Tensor:
        out = torch.zeros(len(captions), self.dim)
        for row, caption in zip(out, captions, strict=True):
            for word in caption.split():
                row[hashlib.sha256(word.encode()).digest()[0] % self.dim] += 1
        return out

    def warnings(self, captions: Sequence[str]) -> list[CaptionWarning]:
        return []

    def save(self, folder: Path) -> None:
        with atomic_folder(folder) as target:
            write_json(target / "config.json", {"hashed_words": {"dim": self.dim}})


HASHED = EncoderKind(
    create=lambda argument, split, config: HashedWords(int(argument)),
    load=lambda folder, pooling: HashedWords(12),
    section="hashed_words",
)


def test_a_text_encoder(few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is trained with it; it is saved in the checkpoint, published with it, and encodes captions."""
    monkeypatch.setitem(ENCODERS, "hashed", HASHED)
    config = preset("quickstart", [*TINY, "text.encoder=hashed:12", "train.images=8"])
    encoder = new_text_encoder(PreparedFolder.open(few_birds).train, config)
    assert isinstance(encoder, HashedWords)
    pipe = _train(few_birds, tmp_path / "run", "text.encoder=hashed:12")
    assert load_text_encoder(str(tmp_path / "run" / "text")).identity == encoder.identity
    assert isinstance(pipe.text_encoder, HashedWords) and pipe.config.text.dim == 12
    assert len(pipe(["a red bird"], seeds=[0]).images) == 1
    with pytest.raises(ValueError, match=r"loss\.contrast is"):
        _train(few_birds, tmp_path / "other", "text.encoder=hashed:12", "loss.contrast=1")

    published, out = tmp_path / "published", tmp_path / "images"
    assert main(["publish", str(tmp_path / "run" / "checkpoint"), str(published)]) == 0
    assert main(["generate", "a red bird", "--checkpoint", str(published), "--out", str(out), "--seeds", "0"]) == 0
    assert len(list(out.glob("*.png"))) == 1
    _evaluate_alone(monkeypatch, "diversity")
    assert main(command_for(published, few_birds, tmp_path / "report")) == 0


# --- a kind of data set: a file of data_prep/, KINDS of stackgan/data/kinds.py -------------------------------

SQUARES = """
import numpy as np

from stackgan.data.format import Record
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side


def add_arguments(parser):
    parser.add_argument("out")
    parser.add_argument("--count", type=int, help="squares")


def prepare_squares(out, *, count=3):
    side = load_side(64)
    with PreparedWriter(out, kind="squares", size=64, crop="none", source={}) as writer:
        for i in range(count):
            for split in ("train", "test"):
                record = Record(id=f"{split}{i}", captions=(f"a square of grey {i}",), species=f"{split}{i}")
                writer.add(split, np.full((side, side, 3), 20 * i, np.uint8), record)
"""


def test_a_kind_of_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prepared from the command line, trained on, and evaluated; further facts about it are in its row."""
    (tmp_path / "squares_kind.py").write_text(SQUARES)
    monkeypatch.syspath_prepend(tmp_path)
    row = DataKind(
        prepare="squares_kind:prepare_squares",
        summary="squares of one grey",
        title="squares",
        preset="quickstart",
        examples=("a black square",),
    )
    monkeypatch.setitem(KINDS, "squares", row)
    for name in ("data_prep", "stackgan.cli.prepare"):
        _imported_anew(monkeypatch, name)
    out = tmp_path / "out"
    for folder, count, options in ((tmp_path / "three", 3, []), (out, 8, ["--count", "8"])):
        assert main(["prepare", "squares", str(folder), *options]) == 0
        assert len(PreparedFolder.open(folder).train) == count
        shown = capsys.readouterr().out
        assert f"train: {count} photos, {count} captions" in shown and "next: stackgan train --data" in shown
        assert "--preset quickstart" in shown
    for words, text in (("prepare --help", row.summary), ("prepare squares --help", "squares (default: 3)")):
        with pytest.raises(SystemExit):
            main(words.split())
        assert text in capsys.readouterr().out

    assert PreparedFolder.open(out).kind == "squares"
    pipe = _train(out, tmp_path / "run")
    assert pipe.examples == ["a black square"]
    _evaluate_alone(monkeypatch, "samples", "colours")
    assert main(command_for(tmp_path / "run" / "checkpoint", out, tmp_path / "report")) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["kind"] == "squares" and list(report["sections"]) == ["samples"]
    assert "painted birds" in report["not_measured"]["colours"]


# --- a preset: PRESETS of stackgan/config/presets.py ---------------------------------------------------------


def test_a_preset(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train --preset` takes it and lists it; the checkpoint carries its name."""
    tiny = replace(preset("quickstart", [*TINY, "train.images=8"]), preset="tiny")
    monkeypatch.setitem(PRESETS, "tiny", tiny)
    run = tmp_path / "run"
    assert main(["train", "--data", str(few_birds), "--run", str(run), "--preset", "tiny", "--device", "cpu"]) == 0
    pipe = StackGANPipeline.from_pretrained(run / "checkpoint", device="cpu")
    assert pipe.config.preset == "tiny" and len(pipe(["a red bird"], seeds=[0]).images) == 1
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert ", tiny" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "--data", str(few_birds), "--run", str(run), "--preset", "nosuch"]) == 2
    assert f"choose from {', '.join(PRESETS)}" in capsys.readouterr().err


# --- a metric: a file of stackgan/evaluation/sections/, SECTIONS ---------------------------------------------


def brightness(context: Context) -> Findings:
    """A new metric needs this function in a file of sections/, and a row of the table."""
    values = torch.cat([chunk.mean((1, 2, 3)) for chunk in context.generated.chunks("brightness")])
    return Findings(
        figures={"brightness": float(values.mean())},
        protocol=f"Mean of all levels of {len(values)} images, from -1 to 1.",
        tables=[Table(("", "mean level"), [("brightness", f"{float(values.mean()):.3f}")])],
        headlines=[("mean brightness", f"{float(values.mean()):.2f}")],
    )


def impossible(context: Context) -> Findings:
    raise NotMeasured(f"it needs more than {context.count} images")


def test_a_metric(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A section added through the table appears in report.json, report.md, the page and on the screen."""
    checked = []
    check = lambda context: checked.append(context.cache)  # noqa: E731
    monkeypatch.setitem(SECTIONS, "brightness", Section("Brightness of images", brightness, check))
    monkeypatch.setitem(SECTIONS, "impossible", Section("An impossible metric", impossible))
    _evaluate_alone(monkeypatch, "diversity", "brightness", "impossible")
    out = tmp_path / "report"
    assert main(command_for(save_tiny_checkpoint(tmp_path / "tiny", stages=1), few_birds, out)) == 0
    assert checked == [out / "cache"]
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert list(report["sections"]) == ["diversity", "brightness"]
    value = report["sections"]["brightness"]["figures"]["brightness"]
    levels = np.concatenate([np.load(file) for file in (out / "cache").glob("painted-*.npy")])
    assert value == pytest.approx(levels.mean() / 127.5 - 1, abs=1e-5)
    assert report["not_measured"] == {"impossible": "it needs more than 60 images"}
    table = (out / "report.md").read_text("utf-8")
    assert "## Brightness of images" in table and f"| brightness | {value:.3f} |" in table
    page = (out / "report.html").read_text("utf-8")
    assert '<section id="brightness"><h2>Brightness of images</h2>' in page and "mean brightness" in page
    assert "it needs more than 60 images" in page
    assert f"brightness       {value:.3f}" in capsys.readouterr().out


# --- names occur only in their tables ------------------------------------------------------------------------

WORDS = {"none", "*"}  # rows whose names also occur in ordinary strings


@dataclass(frozen=True)
class Names:
    """Names of a table, its file, and files that may name a row; a new row requires no change of these files."""

    names: Mapping[str, object]
    home: str
    others: Mapping[str, str]


TABLES = {
    "flow families": Names(
        FAMILIES,
        "stackgan/latent/flows/families.py",
        {
            "stackgan/config/sections.py": "default",
            "stackgan/study/flow_2d.py": "zuko's counterparts",
            "stackgan/study/flow_digits.py": "settings of some; others have the defaults",
        },
    ),
    "priors": Names(
        {**PRIORS, **CODE_PRIORS},
        "stackgan/latent/priors.py",
        {
            "stackgan/config/sections.py": "defaults",
            "stackgan/latent/flows/__init__.py": "the function flow",
            "stackgan/latent/flows/families.py": "the function flow",
            "stackgan/study/figures.py": "colours; others get one by position",
            "stackgan/study/flow_2d.py": "the Gaussian that flows are compared with",
            "stackgan/study/flow_digits.py": "the Gaussian that flows are compared with",
            "stackgan/study/vae_digits.py": "the study's own autoencoder",
        },
    ),
    "text encoders": Names(
        ENCODERS,
        "stackgan/text/load.py",
        {
            "stackgan/config/sections.py": "default, unconditional, and text.reword",
            "stackgan/text/precomputed.py": "NAME of stored embeddings as a teacher",
            "stackgan/tools/convert.py": "of the published weights",
        },
    ),
    "kinds of data sets": Names(
        KINDS,
        "stackgan/data/kinds.py",
        {
            **{f"{row.prepare.partition(':')[0].replace('.', '/')}.py": "its own module" for row in KINDS.values()},
            "data_prep/listing.py": "a path that is a folder",
            "stackgan/evaluation/sections/text_agreement.py": "a key of report.json",
            "stackgan/cli/pack.py": "an argument",
            "stackgan/cli/unpack.py": "an argument",
            "stackgan/study/latents.py": "a folder's name",
        },
    ),
    "presets": Names(
        PRESETS,
        "stackgan/config/presets.py",
        {
            "stackgan/config/root.py": "default",
            "stackgan/config/sections.py": "values of generator.block and discriminator.block",
            "stackgan/data/kinds.py": "the preset for a kind",
            "stackgan/networks/discriminator.py": "a value of discriminator.block",
            "stackgan/networks/generator.py": "a value of generator.block",
            "stackgan/study/latents.py": "what it trains",
            "stackgan/study/recipe.py": "what it trains",
            "stackgan/tools/convert.py": "of the published weights",
            "stackgan/training/step.py": "a value of discriminator.block",
        },
    ),
}


def _literals(file: Path) -> set[str]:
    """String constants of a file; of ``name:argument`` the name."""
    constants = (node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Constant))
    return {node.value.partition(":")[0] for node in constants if isinstance(node.value, str)}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_names_occur_only_in_their_tables(table: Names) -> None:
    files = [*(ROOT / "stackgan").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py"), ROOT / "app.py"]
    naming = {file.relative_to(ROOT).as_posix() for file in files if _literals(file) & (table.names.keys() - WORDS)}
    assert naming == {table.home, *table.others}

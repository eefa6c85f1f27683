"""Wrong input at the command line: one line on stderr, exit code 2, and no files written."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stackgan.checkpoint import FORMAT
from stackgan.cli.main import main
from stackgan.data.format import Record
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side
from tests.tiny import CAPTIONS, save_tiny_checkpoint

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "prepared"
    side = load_side(64)
    with PreparedWriter(out, kind="painted", size=64, crop="none", source={}) as writer:
        for i, caption in enumerate(CAPTIONS):
            image = np.full((side, side, 3), 40 * i, np.uint8)
            writer.add("train", image, Record(id=f"{i}", captions=(caption,)))
    return out


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must fail; returns its one line on stderr."""

    def run(*arguments: object) -> str:
        try:
            code: object = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        assert code == 2
        assert said.out == ""
        assert said.err.count("\n") == 1, said.err
        assert said.err.endswith("\n")
        assert "Traceback" not in said.err
        return said.err.removesuffix("\n")

    return run


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    file = tmp_path / "captions.txt"
    file.write_text("\n".join(CAPTIONS), "utf-8")
    return file


# --- checkpoints --------------------------------------------------------------------------------------------


def test_a_missing_checkpoint(tmp_path: Path, captions: Path, refused: Refused) -> None:
    gone = tmp_path / "gone"
    said = (
        f"stackgan: {gone}: no checkpoint found: no such folder, no bundled checkpoint of this name (birds-256, "
        "birds-64, painted-64); give a checkpoint folder such as RUN/checkpoint, the name of a bundled checkpoint, "
        "or a hub repository user/name"
    )
    assert refused("generate", "a bird", "--checkpoint", gone, "--out", tmp_path / "out") == said
    assert refused("batch", captions, "--checkpoint", gone, "--out", tmp_path / "out") == said
    gone.mkdir()
    assert "config.json is missing" in refused("generate", "a bird", "--checkpoint", gone)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", [FORMAT + 1, 0, "1", None])
def test_a_checkpoint_of_another_format_version(
    tmp_path: Path, checkpoint: Path, refused: Refused, version: object
) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "other")
    header = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(header | {"format": version}))
    line = refused("generate", "a bird", "--checkpoint", other, "--out", tmp_path / "out")
    assert f"{other}/config.json: checkpoint format {version!r}, this version reads {FORMAT}" in line
    assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint(tmp_path: Path, checkpoint: Path, refused: Refused) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "other")
    command = ("generate", "a bird", "--checkpoint", other, "--out", tmp_path / "out")
    content = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert f"{other}/model.safetensors: damaged" in refused(*command)
    (other / "model.safetensors").write_bytes(content)
    header = json.loads((other / "config.json").read_text())
    header["config"]["generator"]["widht"] = 8
    (other / "config.json").write_text(json.dumps(header))
    line = refused(*command)
    assert "unknown config key 'generator.widht': did you mean 'generator.width'?" in line
    (other / "config.json").write_text("{")
    assert f"{other}/config.json: not valid JSON" in refused(*command)


def test_captions_for_a_checkpoint_without_text(tmp_path: Path, captions: Path, refused: Refused) -> None:
    plain = save_tiny_checkpoint(tmp_path / "plain", stages=1, text=False)
    command = ("--checkpoint", plain, "--out", tmp_path / "out")
    assert "without text: leave the captions out" in refused("generate", "a bird", *command)
    assert "without text: use generate" in refused("batch", captions, *command)


def test_no_caption_for_a_checkpoint_with_text(tmp_path: Path, checkpoint: Path, refused: Refused) -> None:
    command = ("--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert "generates from captions: pass one or more" in refused("generate", *command)
    assert "caption 2 is empty" in refused("generate", "a bird", "  ", *command)
    assert not (tmp_path / "out").exists()


CAPTIONS_THAT_ARE_NO_TEXT = {
    "a byte of another encoding": (
        "a caf\udce9 bird",
        "contains bytes that are not UTF-8 text ('a caf\\udce9 bird')",
    ),
    "UTF-8 read as ASCII": ("a caf\udcc3\udca9 bird", "contains bytes that are not UTF-8 text"),
    "half an emoji": ("a bird \ud83d", "contains bytes that are not UTF-8 text"),
    "an escape sequence": ("a \x1b[31mred bird", "has the control character U+001B"),
    "a zero byte": ("a red\0 bird", "has the control character U+0000"),
    "a byte of Windows-1252": ("a bird\x92s wing", "has the control character U+0092"),
    "zero-width spaces": ("\u200b\u200d", "is empty: describe the image"),
    "a byte-order mark": ("\ufeff", "is empty: describe the image"),
}


@pytest.mark.parametrize("case", CAPTIONS_THAT_ARE_NO_TEXT)
def test_captions_that_are_no_text(tmp_path: Path, checkpoint: Path, refused: Refused, case: str) -> None:
    caption, said = CAPTIONS_THAT_ARE_NO_TEXT[case]
    command = ("--checkpoint", checkpoint, "--out", tmp_path / "out.gif")
    for words in (("generate", "a red bird", caption), ("walk", "a red bird", caption)):
        assert f"caption 2 {said}" in refused(*words, *command)
    assert not (tmp_path / "out.gif").exists()


# --- captions files -----------------------------------------------------------------------------------------


def test_captions_files(tmp_path: Path, checkpoint: Path, refused: Refused) -> None:
    file, out = tmp_path / "captions.txt", tmp_path / "out"
    command = ("batch", file, "--checkpoint", checkpoint, "--out", out)
    assert refused(*command) == f"stackgan: {file}: no such file; give a text file with one caption per line"
    file.write_bytes(b"")
    assert refused(*command) == f"stackgan: {file}: holds no captions: write one per line"
    file.write_bytes(b"\n\n  \n")
    assert refused(*command) == f"stackgan: {file}: holds no captions: write one per line"
    file.write_bytes(b"# birds\n\x00\x01\x02")
    assert refused(*command) == f"stackgan: {file}:2: not a text file (it holds zero bytes)"
    file.write_bytes(bytes(range(128, 256)))
    line = f"stackgan: {file}:1: not UTF-8 text (byte 0x80); save the file as UTF-8"
    assert refused(*command) == line
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "standard input is closed: pipe captions to the command, or name a captions file"),
        (b"", "standard input: holds no captions"),
        (b"\n# nothing\n", "standard input: holds no captions"),
        (b"\xff\xfea\0", "standard input:1: not UTF-8 text"),
        (b'{"seed": 3}\n', "standard input:1: key 'caption' is missing"),
    ],
)
def test_captions_from_standard_input(
    tmp_path: Path,
    checkpoint: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    said: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", None if content is None else io.TextIOWrapper(io.BytesIO(content)))
    line = refused("batch", "-", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert line.startswith(f"stackgan: {said}") and not (tmp_path / "out").exists()


# --- numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "-1"], "seed -1 is out of range: seeds are integers from 0 to 9223372036854775807"),
        (["--seed=-1"], "seed -1 is out of range"),
        (["--count", "0"], "count 0 is too small: it is the number of images per caption, 1 or more"),
        (["--count", "-3"], "count -3 is too small"),
        (["--size", "100"], "size 100 is not in this checkpoint's tree: choose from 64, 128"),
        (["--size", "-64"], "size -64 is not in this checkpoint's tree"),
        (["--size", "256"], "size 256 is not in this checkpoint's tree"),
        (["--truncation", "-0.5"], "truncation -0.5 is out of range: it must be from 0 (the mean) to 2"),
        (["--truncation", "nan"], "truncation nan is out of range"),
        (["--batch-size", "0"], "batch_size 0 is too small: it must be 1 or more"),
        (["--device", "abacus"], "device 'abacus' is unknown: it must be cpu, cuda or cuda:N, mps, or xpu"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["--seed", "x"], "stackgan batch: argument --seed: invalid int value: 'x'; see --help"),
        (["--seed"], "stackgan batch: argument --seed: expected one argument; see --help"),
        (["--sede", "1"], "unrecognized arguments: --sede 1; see --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_numbers_of_a_batch(
    tmp_path: Path, checkpoint: Path, captions: Path, refused: Refused, arguments: list[str], said: str
) -> None:
    out = tmp_path / "out"
    assert said in refused("batch", captions, "--checkpoint", checkpoint, "--out", out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize("seeds", ["-1", "x", "", "3-1", "1,,2", "1.5", "0-3-5", "0-99999999999"])
def test_seeds_of_generate(tmp_path: Path, checkpoint: Path, refused: Refused, seeds: str) -> None:
    out = tmp_path / "out"
    line = refused("generate", "a bird", "--checkpoint", checkpoint, "--out", out, "--seeds", seeds)
    assert line.startswith(f"stackgan: --seeds {seeds!r}: ")
    assert not out.exists()


def test_a_seed_beyond_the_largest(tmp_path: Path, checkpoint: Path, refused: Refused) -> None:
    line = refused("generate", "a bird", "--checkpoint", checkpoint, "--seeds", str(2**63))
    assert f"seed {2**63} is out of range" in line


def test_size_and_device_of_generate(tmp_path: Path, checkpoint: Path, refused: Refused) -> None:
    command = ("generate", "a bird", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert "size 32 is not in this checkpoint's tree: choose from 64, 128" in refused(*command, "--size", "32")
    assert "device 'abacus' is unknown" in refused(*command, "--device", "abacus")
    assert not (tmp_path / "out").exists()


def test_commands(refused: Refused) -> None:
    assert "the following arguments are required: COMMAND; see --help" in refused()
    assert "invalid choice: 'paint'" in refused("paint")
    assert "invalid choice: 'genrate' (did you mean 'generate'?); see --help" in refused("genrate", "a bird")
    assert "invalid choice: 'xyz' (choose from prepare, train, config, fit-prior, " in refused("xyz")
    assert "invalid choice: 'cubs'" in refused("prepare", "cubs")
    assert "the following arguments are required: --out" in refused("batch")


# --- folders that cannot be written -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["generate", "batch"])
def test_an_output_folder_that_cannot_be(
    tmp_path: Path, checkpoint: Path, captions: Path, refused: Refused, command: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    given = ("a bird",) if command == "generate" else (captions,)
    for out, why in ((tmp_path / "file" / "out", "Not a directory"), (tmp_path / "file", "File exists")):
        line = refused(command, *given, "--checkpoint", checkpoint, "--out", out)
        assert line == f"stackgan: {out}: cannot write there ({why}); name another folder with --out"
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("command", ["generate", "batch"])
def test_an_output_folder_that_may_not_be_written(
    tmp_path: Path,
    checkpoint: Path,
    captions: Path,
    refused: Refused,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:  # permissions do not apply to root, so the error is raised directly

        def denied(*arguments: object, dir: Path, **named: object) -> None:
            raise PermissionError(13, "Permission denied", str(dir))

        monkeypatch.setattr("stackgan.generation.writer.tempfile.TemporaryFile", denied)
    given = ("a bird",) if command == "generate" else (captions,)
    line = refused(command, *given, "--checkpoint", checkpoint, "--out", closed)
    said = f"{closed}: cannot write there (Permission denied); name another folder with --out"
    assert line == f"stackgan: {said}"
    assert not list(closed.iterdir())


def test_a_run_folder_that_cannot_be(tmp_path: Path, prepared: Path, refused: Refused) -> None:
    (tmp_path / "file").write_text("in the way")
    run = tmp_path / "file" / "run"
    line = refused(
        "train", "--data", prepared, "--run", run, "--preset", "modern", "text.encoder=none", "optim.batch_size=2"
    )
    assert str(tmp_path / "file") in line


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "nosuch"], "unknown preset 'nosuch': choose from legacy, quickstart, modern"),
        (["optim.batchsize=8"], "unknown config key 'optim.batchsize': did you mean 'optim.batch_size'?"),
        (["nonsense.key=8"], "unknown config key 'nonsense.key'"),
        (["optim.batch_size=many"], "optim.batch_size is 'many': it must be a whole number"),
        (["optim.batch_size=2.5"], "optim.batch_size is '2.5': it must be a whole number"),
        (["optim.channels_last=maybe"], "optim.channels_last is 'maybe': it must be true or false"),
        (["optim.batch_size=1"], "optim.batch_size is 1: it must be 2 or more"),
        (["optim.batch_size"], "cannot read 'optim.batch_size': overrides look like section.key=value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_presets_and_config_keys(
    tmp_path: Path, prepared: Path, refused: Refused, arguments: list[str], said: str
) -> None:
    run = tmp_path / "run"
    assert said in refused("train", "--data", prepared, "--run", run, "--dry-run", *arguments)
    assert not run.exists()


def test_prepared_folders(tmp_path: Path, prepared: Path, refused: Refused) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    command = ("train", "--data", data, "--run", run, "--preset", "quickstart", "--dry-run")
    assert str(data) in refused(*command)
    shutil.copytree(prepared, data)
    array = data / "train" / "images.npy"
    array.write_bytes(array.read_bytes()[:-1000])
    line = refused(*command)
    assert str(array) in line
    array.unlink()
    assert str(data) in refused(*command)
    assert not run.exists()

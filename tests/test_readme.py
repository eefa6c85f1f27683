"""The README pages: names exist, and commands run, or are listed here with a reason and parse.

The commands and Python blocks of README.md run in a temporary folder, word for word and in order, with small
substitutes at the paths of the user's data. A command that is neither run nor a key of :data:`NOT_RUN` fails.
On the other pages every `stackgan` command must parse.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.distributed.run import parse_args as torchrun_arguments

from data_prep import KINDS
from stackgan.cli.main import COMMANDS, command_parser, main
from stackgan.config import PRESETS, preset, with_overrides
from stackgan.evaluation.evaluate import SECTIONS
from stackgan.study import STUDIES
from tests.data_prep.test_cub import make_cub

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted(
        page
        for room in ("checkpoints", "data_prep", "stackgan", "tests")
        for page in (ROOT / room).rglob("README.md")
    ),
]

# Commands of README.md that are not run, each with the reason.
NOT_RUN = {
    "python3 -m venv .venv": "only of use to the next command",
    '.venv/bin/pip install -e ".[app,train]"': "downloads packages; tests/test_wheel.py installs without them",
    '.venv/bin/pip install -e ".[dev]"': "downloads packages; .ci/run runs it",
    ".venv/bin/python -m pytest -n auto --dist loadfile": "runs this file",
    "source .venv/bin/activate": "the tests run in an environment already",
    "python app.py": "serves until Ctrl-C; tests/app starts and stops the page",
    "stackgan prepare painted data/painted --count 6000 --seed 0": "84 seconds on one core",
    "stackgan train --data data/painted --run runs/painted --preset quickstart": "8 minutes",
    'stackgan generate "a small red bird with black wings" --checkpoint runs/painted/checkpoint': "needs that run",
    "stackgan train --data data/cub-64 --run runs/cub --preset modern text.reword=0.3": "an hour",
    "stackgan evaluate --checkpoint runs/cub/checkpoint --data data/cub-64 --out reports/cub": "needs that run",
}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"(?:stackgan|data_prep|checkpoints|tests|\.ci)/[\w./-]*")
OVERRIDE = re.compile(r"([a-z]+)\.([a-z_]+)(?:=\S*)?")
SEPARATORS = {";", "&&", "||", "|"}
RESERVED = {"while", "do", "done"}


def blocks(page: Path, language: str) -> list[str]:
    return [code for name, code in FENCE.findall(page.read_text("utf-8")) if name == language]


def commands(page: Path) -> list[list[str]]:
    """Every simple command of the page's shell blocks, as words."""
    found: list[list[str]] = []
    for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        found.append([])
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for word in lexer:
            if word in SEPARATORS:
                found.append([])
            elif found[-1] or word not in RESERVED:
                found[-1].append(word)
    return [words for words in found if words]


def code_spans(page: Path) -> list[str]:
    """Inline code, each span on one line."""
    prose = FENCE.sub("", page.read_text("utf-8"))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def is_stackgan(words: list[str]) -> bool:
    return Path(words[0]).name == "stackgan"


def check(words: list[str]) -> None:
    """Fail where a command has an unknown option, configuration key, study or row, or its module does not exist."""
    if words[:2] == ["python", "-m"]:
        assert find_spec(words[2]) is not None, words
    if words[0] == "torchrun":
        try:
            launcher = torchrun_arguments(words[1:])
        except SystemExit:
            pytest.fail(f"torchrun does not parse: {shlex.join(words)}")
        assert launcher.module, words
        words = [launcher.training_script, *launcher.training_script_args]
    if not is_stackgan(words):
        return
    assert words[1] in COMMANDS, words
    try:
        args = command_parser(words[1]).parse_args(words[2:])
    except SystemExit:
        pytest.fail(f"does not parse: {shlex.join(words)}")
    if "overrides" in args:
        start = (
            PRESETS["modern"]
            if words[1] == "fit-prior" or "start_from" in args
            else preset(getattr(args, "preset", "modern"))
        )
        with_overrides(start, args.overrides)
    if words[1] == "study":
        module = import_module(STUDIES[args.name])
        assert set(args.rows.split(",") if "rows" in args else []) <= set(getattr(module, "ROWS", ())), words


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to the page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def options() -> set[str]:
    """Every option of every command."""
    parsers = [command_parser(name) for name in COMMANDS]
    kinds = next(action.choices for action in command_parser("prepare")._actions if action.dest == "kind")
    assert isinstance(kinds, Mapping) and kinds.keys() == KINDS.keys()
    return {option for parser in [*parsers, *kinds.values()] for option in parser._option_string_actions}


# --- README.md ----------------------------------------------------------------------------------------------


def test_the_readme_is_short_and_its_first_screen_has_an_image_and_two_commands() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 180
    assert next(i for i, line in enumerate(lines, 1) if line.startswith("![")) <= 10
    starts = [i for i, line in enumerate(lines, 1) if line == "```sh"]
    assert starts[1] <= 20
    first, second = blocks(README, "sh")[:2]
    assert "stackgan generate" in first and "python -m pytest" in second


def test_the_map_names_every_package() -> None:
    before, _, after = README.read_text("utf-8").partition("\n## Map\n")
    assert before.count("\n") + 2 <= 50
    named = set(re.findall(r"\b(\w+)(?:/|\.py)", after.partition("\n## ")[0]))
    folders = {folder.name for folder in (ROOT / "stackgan").iterdir() if (folder / "__init__.py").is_file()}
    files = {file.stem for file in (ROOT / "stackgan").glob("*.py")} - {"__init__", "__main__", "version"}
    assert folders | files <= named


def test_the_tables_that_are_extended_are_there() -> None:
    section = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8").partition("\n## Add a")[2]
    found = []
    for row in table_rows(section.partition("\n## ")[0]):
        cell = row[2] if len(row) == 4 else ""
        *names, file = re.findall(r"`([^`]+)`", cell) or [""]
        for name in names:
            table = getattr(import_module(file.removesuffix(".py").replace("/", ".")), name)
            assert isinstance(table, Mapping) and table, name
            found.append(name)
    assert found == [
        "FAMILIES",
        "PRIORS",
        "CODE_PRIORS",
        "ENCODERS",
        "KINDS",
        "PRESETS",
        "SECTIONS",
        "TABS",
        "COMMANDS",
    ]


def test_every_command_of_the_readme_runs_or_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [shlex.split(command) for command in NOT_RUN]
    found = commands(README)
    assert all(words in found for words in listed), "NOT_RUN lists a command that the README has no longer"
    before = {path.name for path in ROOT.iterdir()}
    stand_ins(tmp_path)
    monkeypatch.chdir(tmp_path)
    for words in found:
        check(words)
        if words in listed:
            continue
        assert is_stackgan(words), f"neither run nor listed in NOT_RUN: {shlex.join(words)}"
        assert main(words[1:]) == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"
    for code in blocks(README, "python"):
        exec(compile(code, str(README), "exec"), {})
    made = {"out", "sheet", "walk.gif", "free", "painted", "edited", "bird.png"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    shown = ROOT / LINK.findall(README.read_text("utf-8").partition("![")[2])[0]
    sheets = [
        np.asarray(Image.open(file).convert("RGB"), np.float32) for file in (shown, tmp_path / "sheet" / "grid.png")
    ]
    assert sheets[0].shape == sheets[1].shape and np.abs(sheets[0] - sheets[1]).mean() < 1, (
        "not the image of the README"
    )
    assert {path.name for path in ROOT.iterdir()} <= before | {".pytest_cache"}


def stand_ins(folder: Path) -> None:
    """The repository's own files, and small data at the paths of the user's data."""
    for name in ("checkpoints", "app.py"):
        (folder / name).symlink_to(ROOT / name)
    photos = folder / "path" / "to" / "photos"
    make_cub(folder / "path" / "to" / "birds", each=8)  # 16 for training, a batch
    photos.mkdir()
    for i in range(4):
        Image.fromarray(np.full((90, 80, 3), 50 * i, np.uint8)).save(photos / f"{i}.png")
        (photos / f"{i}.txt").write_text(f"a bird of number {i}\n")


# --- all pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_files_options_and_keys_exist(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if not target.startswith("https://"):
            name, _, fragment = target.partition("#")
            linked = page.parent / name if name else page
            assert linked.exists(), target
            assert not fragment or fragment in anchors(linked / "README.md" if linked.is_dir() else linked), target
    known, sections = options(), PRESETS["modern"].to_dict()
    for span in code_spans(page):
        if FILE.fullmatch(span):
            assert (ROOT / span).exists(), span
        for word in span.split():
            key = OVERRIDE.fullmatch(word)
            if key and isinstance(sections.get(key[1]), dict):
                assert key[2] in sections[key[1]], word
        if span.startswith("--"):
            assert span.split()[0] in known, span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page: Path) -> None:
    assert {name for name, _ in FENCE.findall(page.read_text("utf-8"))} <= {"", "sh", "python"}
    for words in commands(page):
        check(words)
    for span in code_spans(page):
        words = shlex.split(span) if span.startswith(("stackgan ", "python -m ")) else []
        if len(words) == 2 or (words[1:2] == ["prepare"] and len(words) == 3):  # the name of a command alone
            assert words[1] in COMMANDS and set(words[2:]) <= KINDS.keys(), span
        elif words:
            check(words)
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")


def test_the_python_block_about_prepared_folders_runs(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "painted").symlink_to(few_birds)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "data_prep" / "README.md", "python")
    exec(compile(code, "data_prep/README.md", "exec"), {})


def test_every_section_of_the_report_is_described() -> None:
    text = (ROOT / "stackgan" / "evaluation" / "README.md").read_text("utf-8")
    titles = [row[0].strip("| ") for row in table_rows(text)]
    assert {section.title for section in SECTIONS.values()} <= set(titles)

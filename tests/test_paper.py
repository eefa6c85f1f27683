"""stackgan/PAPER.md: every link points to the line where its symbol is defined.

After a change of the code ``python -m tests.test_paper`` sets the lines again.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from stackgan.config import PRESETS

PAGE = Path(__file__).resolve().parents[1] / "stackgan" / "PAPER.md"
SYMBOL = re.compile(r"\[`([\w.]+)`\]\(([\w/]+\.py)#L(\d+)\)")
LINK = re.compile(r"\]\((?!https://)([^)\s]+)\)")


@cache
def definitions(file: Path) -> dict[str, int]:
    """Lines of the functions, classes, methods and constants of a file, by dotted name."""

    def found(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, int]]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name, node.lineno
            if isinstance(node, ast.ClassDef):
                yield from found(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from ((prefix + target.id, node.lineno) for target in targets if isinstance(target, ast.Name))

    return dict(found(ast.parse(file.read_text("utf-8")).body, ""))


def updated(text: str) -> str:
    """The page with the lines of today's definitions; raises ``ValueError`` for a symbol that its file lacks."""

    def link(match: re.Match[str]) -> str:
        name, file = match[1], match[2]
        known = definitions(PAGE.parent / file) if (PAGE.parent / file).is_file() else {}
        if name not in known:
            raise ValueError(f"stackgan/{file} does not define {name}")
        return f"[`{name}`]({file}#L{known[name]})"

    return SYMBOL.sub(link, text)


def test_links_point_to_the_definitions() -> None:
    text = PAGE.read_text("utf-8")
    assert text == updated(text), "stale lines: run python -m tests.test_paper"
    links = LINK.findall(text)
    assert len(links) == len(SYMBOL.findall(text)) > 50  # every other link is to a paper


def test_a_stale_line_or_a_missing_symbol_is_found() -> None:
    stale = "[`CANet`](latent/conditioning.py#L1)"
    line = int(SYMBOL.findall(updated(stale))[0][2])
    defined = (PAGE.parent / "latent" / "conditioning.py").read_text("utf-8").splitlines()[line - 1]
    assert updated(stale) != stale and defined.startswith("class CANet(")
    for wrong in ("[`CAnet`](latent/conditioning.py#L1)", "[`CANet`](latent/none.py#L1)"):
        with pytest.raises(ValueError, match=r"does not define CA[nN]et"):
            updated(wrong)


def test_keys_of_the_page_exist() -> None:
    sections = PRESETS["modern"].to_dict()
    keys = re.findall(r"`([a-z]+)\.([a-z_]+)`", PAGE.read_text("utf-8"))
    assert len(keys) > 15
    for section, key in keys:
        assert key in sections[section], f"{section}.{key}"
    assert all(preset.loss.colour == 0 for preset in PRESETS.values()) and PRESETS["legacy"].loss.kl == 2


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")

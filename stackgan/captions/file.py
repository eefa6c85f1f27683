"""Caption files: plain text, JSON lines or CSV, read line by line, and checked completely before generation."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import cast

from stackgan.config import MAX_SEED
from stackgan.io.csv_reader import column_name, csv_delimiter, separator_line
from stackgan.io.json_reader import Fields, check_json, parse_json

__all__ = ["Line", "Rejected", "Survey", "is_blank", "read_captions", "survey"]

KINDS = (".txt", ".jsonl", ".csv")
KEYS = ("caption", "seed", "count")  # of a .jsonl object, and of a .csv header
SYNONYMS = {"text": "caption", "prompt": "caption"}  # as data sets and other programs call them
# Of a manifest of `stackgan batch`, which may be given as input again; they do not change what is generated.
RECORDED = frozenset({"file", "file_name", "line", "copy", "truncation", "checkpoint", "size", "notices", "reason"})
UNREADABLE = "content"  # key of a rejected line that gave no caption; refused until it is written as a caption
COMMENT = "#"  # first character of a line of a .txt file that is not a caption
MAX_LINE = 20_000  # characters; keeps memory bounded
NAMED_BLANKS = 20  # maximum number of blank lines listed in messages
ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, after errors="surrogateescape"
CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Line:
    """One caption of a file, with its line number, and ``seed`` and ``count`` if the line has them."""

    number: int
    caption: str
    seed: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Rejected:
    """A line that cannot be used.

    Attributes:
        number: of the line, or of the first line of a row.
        reason: what is wrong, and what to do.
        keys: what the line gave, as keys of a ``.jsonl`` captions file, or its text under the key ``content``.
    """

    number: int
    reason: str
    keys: Mapping[str, object]

    def to_json(self) -> str:
        """A line for a ``.jsonl`` captions file, which is refused for the same reason until it is mended."""
        return json.dumps({**self.keys, "line": self.number, "reason": self.reason}) + "\n"


Reject = Callable[[Rejected], object]
Refuse = Callable[[int, ValueError, Mapping[str, object]], None]


@dataclass
class Survey:
    """Summary of a caption file; the file is read again during generation, and not stored in memory."""

    digest: str
    first: str = ""
    images: int = 0
    last_line: int = 0
    most_copies: int = 1
    blank: int = 0
    first_blank: list[int] = field(default_factory=list)
    rejected: int = 0
    first_rejected: Rejected | None = None


def survey(file: Path, count: int) -> Survey:
    """Check the whole file before anything is generated.

    Raises:
        ValueError: the file has no caption that can be used; the message is about its first line that cannot.
    """
    blanks: list[int] = []
    found = Survey(_digest(file), first_blank=blanks)

    def count_blank(number: int) -> None:
        found.blank += 1
        if len(blanks) < NAMED_BLANKS:
            blanks.append(number)

    def count_rejected(line: Rejected) -> None:
        found.rejected += 1
        found.first_rejected = found.first_rejected or line

    for line in read_captions(file, count_blank, count_rejected, count):
        copies = line.count or count
        found.first = found.first or line.caption
        found.images += copies
        found.last_line, found.most_copies = line.number, max(found.most_copies, copies)
    if not found.images and found.first_rejected:
        raise ValueError(f"{file}:{found.first_rejected.number}: {found.first_rejected.reason}")
    if not found.images:
        raise ValueError(f"{file}: holds no captions: write one per line")
    return found


def read_captions(
    file: Path, blank: Callable[[int], None] | None = None, reject: Reject | None = None, count: int = 1
) -> Iterator[Line]:
    """The captions of a ``.txt``, ``.jsonl`` or ``.csv`` file; ``blank`` is called with the numbers of
    blank lines and, in a ``.txt`` file, of comments, which begin with ``#``.

    The caption may also be called ``text`` or ``prompt``, and a manifest of `stackgan batch` is read like any other
    file, with the captions and seeds that it records.

    Args:
        reject: called with every invalid line, which is then left out; None raises for the first.
        count: of the lines without a count, to check their seeds.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not UTF-8 text, or a line is invalid; the message begins with file and line.
    """
    kind = file.suffix.lower()
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give a text file with one caption per line")
    if kind not in KINDS:
        raise ValueError(f"{file}: the extension of a captions file is {', '.join(KINDS)}, not {kind or 'empty'}")
    refuse = _refusal(file, reject)
    if kind == ".csv":
        yield from _read_csv(file, blank, refuse, count)
        return
    for number, text in _lines(file, refuse):
        if not text.strip() or (kind == ".txt" and text.startswith(COMMENT)):
            if blank:
                blank(number)
            continue
        where, keys = f"{file}:{number}", {"caption": text.strip()}
        try:
            if kind == ".jsonl":
                keys = {UNREADABLE: text.strip()}
                keys = values = parse_json(text, where, Fields({}))
                line = _object(where, number, values, count)
            else:
                line = Line(number, _caption(where, text))
        except ValueError as error:
            refuse(number, error, keys)
        else:
            yield line


def _refusal(file: Path, reject: Reject | None) -> Refuse:
    """What to do with an invalid line, its error and its keys: raise the error, or call ``reject``."""

    def refuse(number: int, error: ValueError, keys: Mapping[str, object]) -> None:
        if reject is None:
            raise error from None
        reject(Rejected(number, str(error).removeprefix(f"{file}:{number}: "), keys))

    return refuse


def _lines(file: Path, refuse: Refuse) -> Iterator[tuple[int, str]]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline=None) as stream:
        number = 0
        while text := stream.readline(MAX_LINE + 2):
            number += 1
            wrong = _wrong_text(text)
            if wrong:
                shown = text.rstrip("\n").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                refuse(number, ValueError(f"{file}:{number}: {wrong}"), {UNREADABLE: shown})
                while text and not text.endswith("\n"):  # the rest of a long line
                    text = stream.readline(MAX_LINE)
            else:
                yield number, text


def _wrong_text(text: str) -> str | None:
    """Why a line of a file is no text; None if it is."""
    strange = ESCAPED.search(text)
    if strange:
        return f"not UTF-8 text (byte 0x{ord(strange[0]) - 0xDC00:02x}); save the file as UTF-8"
    if "\0" in text:
        return "not a text file (it holds zero bytes)"
    if len(text.rstrip("\n")) > MAX_LINE:
        return f"longer than {MAX_LINE} characters; write one caption per line"
    return None


_LINE = Fields({"caption": str}, {"seed": int, "count": int}, other=False)


def _object(where: str, number: int, values: Mapping[str, object], copies: int) -> Line:
    if UNREADABLE in values:
        raise ValueError(f"{where}: has {UNREADABLE!r}, a line without a caption: write its caption as 'caption'")
    named: dict[str, object] = {}
    for key, value in values.items():
        name = SYNONYMS.get(key, key)
        if name in named:
            raise ValueError(f"{where}: gives the caption twice, as {key!r} and by another name")
        if key not in RECORDED:
            named[name] = value
    check_json(named, where, _LINE)
    seed, count = (cast("int | None", named.get(key)) for key in KEYS[1:])
    return _line(where, number, str(named["caption"]), seed, count, copies)


def _read_csv(file: Path, blank: Callable[[int], None] | None, refuse: Refuse, count: int) -> Iterator[Line]:
    header: list[str] | None = None
    taken: list[tuple[int, str]] = []  # numbers and texts of the lines of the current row

    def refuse_row(number: int, error: ValueError, keys: Mapping[str, object]) -> None:
        if header is None:  # without which no row can be read
            raise error from None
        refuse(number, error, keys)

    def record() -> Iterator[str]:
        for number, text in lines:
            taken.append((number, text))
            yield text

    def unread() -> dict[str, object]:
        return {UNREADABLE: "".join(text for _, text in taken).rstrip("\n")[:MAX_LINE]}

    lines = _lines(file, refuse_row)
    first, delimiter = (0, ""), None  # the header's line, after blank ones and sep=
    for first in lines:
        mark = separator_line(first[1])
        if mark:
            delimiter = mark
        elif first[1].strip():
            break
        elif blank:
            blank(first[0])
    lines = chain([first], lines)
    delimiter = delimiter or csv_delimiter(first[1], (*KEYS, *SYNONYMS))
    reader = csv.reader(record(), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        taken.clear()
        try:
            row = next(reader, None)
        except csv.Error as error:
            number = taken[0][0]
            refuse_row(number, ValueError(f"{file}:{number}: not CSV ({error})"), unread())
            continue
        if row is None:
            return
        number = taken[0][0]
        where = f"{file}:{number}"
        if not any(cell.strip() for cell in row):
            if blank:
                blank(number)
        elif header is None:
            names = [SYNONYMS.get(column_name(cell), column_name(cell)) for cell in row]
            header = [name if name in KEYS else cell.strip() for name, cell in zip(names, row, strict=True)]
            _check_keys(where, header)
        elif len(row) != len(header):
            wrong = f"{where}: has {len(row)} cells, the header has {len(header)}; quote captions with commas"
            refuse(number, ValueError(wrong), unread())
        else:
            cells = dict(zip(header, row, strict=True))
            try:
                seed, copies = (_number(where, key, cells.get(key)) for key in KEYS[1:])
                line = _line(where, number, cells["caption"], seed, copies, count)
            except ValueError as error:
                refuse(number, error, _keys_of_row(cells))
            else:
                yield line


def _keys_of_row(cells: Mapping[str, str]) -> dict[str, object]:
    """Cells of a row with a header as values of JSON: numbers where they can be read, no empty ones."""
    keys: dict[str, object] = {"caption": cells["caption"].strip()}
    for key in KEYS[1:]:
        text = cells.get(key, "").strip()
        if text:
            keys[key] = int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else text
    return keys


def _check_keys(where: str, keys: Sequence[str]) -> None:
    known = "known are " + ", ".join(KEYS)
    if "caption" not in keys:
        raise ValueError(f"{where}: there is no caption among {', '.join(keys)[:200] or 'nothing'}; {known}")
    for key in keys:
        if key not in KEYS and key not in RECORDED:
            raise ValueError(f"{where}: unknown column {key!r}; {known}")
        if keys.count(key) > 1:
            raise ValueError(f"{where}: column {key!r} appears twice")


def _number(where: str, key: str, cell: str | None) -> int | None:
    """An integer in a cell of a CSV file; None for an empty cell, which stands for the command's default."""
    text = (cell or "").strip()
    if not text:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,25}", text):
        raise ValueError(f"{where}: {key} is {_shown(text)}: it must be an integer")
    return int(text)


def _line(where: str, number: int, caption: str, seed: int | None, count: int | None, copies: int) -> Line:
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise ValueError(f"{where}: seed {seed} is out of range: seeds are integers from 0 to {MAX_SEED}")
    if count is not None and count < 1:
        raise ValueError(f"{where}: count {count} is too small: it must be 1 or more")
    if seed is not None and seed + (count or copies) - 1 > MAX_SEED:
        raise ValueError(f"{where}: seed {seed} is too large: seeds go up to {MAX_SEED}")
    return Line(number, _caption(where, caption), seed, count)


def is_blank(text: str) -> bool:
    """Whether nothing of a text is seen: spaces and invisible marks, such as zero-width spaces, alone.

    >>> is_blank(" \\u200b\\ufeff"), is_blank("a \\u200b")
    (True, False)
    """
    return all(mark.isspace() or unicodedata.category(mark) == "Cf" for mark in text)


def _caption(where: str, text: str) -> str:
    caption = text.strip()
    if is_blank(caption):
        raise ValueError(f"{where}: the caption is empty: describe the image")
    control = CONTROL.search(caption)
    if control:
        what = "a line break" if control[0] in "\r\n" else f"the control character U+{ord(control[0]):04X}"
        raise ValueError(f"{where}: the caption holds {what}; a caption is one line of text")
    return caption


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _digest(file: Path) -> str:
    """sha256 of the captions file and of how it is read; a missing file is reported by :func:`read_captions`."""
    digest = hashlib.sha256(file.suffix.lower().encode() + b"\0")
    if file.is_file():
        with file.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()

"""Captions of own photos: from metadata.jsonl, metadata.csv or metadata.tsv, or from text files beside the photos."""

from __future__ import annotations

import io
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from data_prep.captions import read_captions, tidy
from data_prep.entries import Entries
from data_prep.listing import Listing, Names, suffix
from data_prep.splits import SPLITS, named_split
from data_prep.writing import Problem
from stackgan.io.csv_reader import column_name, csv_delimiter, csv_rows, separator_line
from stackgan.io.json_reader import parse_json, split_lines
from stackgan.io.spool import StringSpool

__all__ = ["find_entries", "is_metadata", "is_text"]

FILE_KEYS = ("file_name", "filename")
TEXT_KEYS = ("text", "caption", "captions")
SPECIES_KEYS = ("species", "label")
SPLIT_KEY = "split"
NOT_CAPTIONS = frozenset({"readme", "license", "licence", "notice"})  # .txt files without a photo

Row = Mapping[str, object]


def is_metadata(path: str) -> bool:
    """Whether a file is a table of captions, by its name."""
    return PurePosixPath(path).name.casefold() in _TABLES


def is_text(path: str) -> bool:
    """Whether a file may hold the captions of a photo beside it, by its extension."""
    return suffix(path) == ".txt"


def find_entries(src: Path, listing: Listing, photos: Sequence[str], problems: list[Problem]) -> tuple[Entries, str]:
    """The photos with captions, in the order of `photos`, and the source of the captions; appends to `problems`.

    Raises:
        ValueError: there are no captions, or a table is not readable at all.
    """
    entries = Entries(photos, listing.names)
    tables = [file for file in listing.files if is_metadata(file)]
    texts = StringSpool() if tables else StringSpool(filter(is_text, listing.files))
    pairs = _text_files(listing, texts, photos, problems)
    if tables:
        _from_tables(src, listing, tables, photos, entries, problems)
    elif any(text >= 0 for text in pairs):
        _from_text_files(src, texts, pairs, photos, entries, problems)
    else:
        raise ValueError(
            f"{src}: no captions: neither metadata.jsonl nor metadata.csv nor a .txt beside a photo"
            f"{_others(listing.files, photos)}; pass --no-captions to train without text"
        )
    entries.close()
    return entries, ", ".join(tables) or "text files"


def _others(files: Sequence[str], photos: Sequence[str]) -> str:
    """The extensions of the files that are not photos, for a message: perhaps they hold the captions."""
    counts = Counter(suffix(file) or "no extension" for file in files)
    counts.subtract(map(suffix, photos))
    listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()) if count)
    return f" (files that are not read: {listed})" if listed else ""


# --- text files ---------------------------------------------------------------------------------


def _text_files(listing: Listing, texts: Sequence[str], photos: Sequence[str], problems: list[Problem]) -> array[int]:
    """For each photo the number of its text file, `a.txt` or `a.jpg.txt` beside `a.jpg`; −1 without one."""
    known = Names(texts, lambda file: [name[: -len(".txt")] + ".txt" for name in listing.names(file)])
    pairs = array("q")
    for photo in photos if len(texts) else ():
        pairs.append(-1)
        try:
            for wanted in (text for name in listing.names(photo) for text in (_beside(name), f"{name}.txt")):
                text = known.find(wanted)
                if text is not None:
                    pairs[-1] = text
                    break
        except ValueError as error:
            problems.append(Problem(photo, str(error)))
    return pairs


def _beside(photo: str) -> str:
    return str(PurePosixPath(photo).with_suffix(".txt"))


def _from_text_files(
    src: Path,
    texts: Sequence[str],
    pairs: Sequence[int],
    photos: Sequence[str],
    entries: Entries,
    problems: list[Problem],
) -> None:
    named = {problem.path for problem in problems}
    used = bytearray(len(texts))
    for number, (photo, text) in enumerate(zip(photos, pairs, strict=True)):
        file = texts[text] if text >= 0 else _beside(photo)
        if text >= 0:
            used[text] = True
        try:
            entries.add(number, read_captions(src / file))
        except ValueError as error:
            if photo not in named:
                problems.append(Problem(file, f"{error}; the photo {photo} is left out"))
    for file, paired in zip(texts, used, strict=True):
        if not paired and PurePosixPath(file).stem.lower() not in NOT_CAPTIONS:
            problems.append(Problem(file, "no photo of this name"))


# --- tables -------------------------------------------------------------------------------------


def _from_tables(
    src: Path,
    listing: Listing,
    tables: Sequence[str],
    photos: Sequence[str],
    entries: Entries,
    problems: list[Problem],
) -> None:
    """Entries from the rows of all tables; several rows of one photo are joined."""
    _check_tables(src, tables)
    known, files = Names(photos, listing.names), Names(listing.files, listing.names)
    named = bytearray(len(photos))  # by rows that may be rejected; these photos are not listed twice
    for table in tables:
        for line, row in _TABLES[PurePosixPath(table).name.casefold()](src / table):
            where = f"{table}, line {line}"
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                name = _photo_path(row, table)
                photo = known.find(name)
                if photo is None:
                    other = files.find(name)
                    raise ValueError(
                        f"{name}: there is no such photo"
                        if other is None
                        else f"{name}: the extension {suffix(listing.files[other])!r} is not read"
                    )
                named[photo] = True
                entries.add(photo, _row_captions(row), _row_species(row), _row_split(row), where)
            except ValueError as error:
                problems.append(Problem(where, str(error)))
    problems.extend(
        Problem(photo, "no row in the metadata") for photo, row in zip(photos, named, strict=True) if not row
    )


def _check_tables(src: Path, tables: Sequence[str]) -> None:
    first: dict[PurePosixPath, str] = {}
    for table in tables:
        other = first.setdefault(PurePosixPath(table).parent, table)
        if other != table:
            raise ValueError(f"{src / table}: {PurePosixPath(other).name} is beside it; keep one of the two")


def _read_jsonl(file: Path) -> Iterator[tuple[int, Row | str]]:
    """Yield line numbers with rows, or with an error message."""
    with _open(file) as stream:
        for number, line in enumerate(split_lines(stream), 1):
            if b"\0" in line:
                yield number, "holds null characters, so it is not UTF-8 text"
            elif line.strip() not in (b"", b"\xef\xbb\xbf"):
                try:
                    yield number, parse_json(line, "")
                except ValueError as error:
                    yield number, str(error).removeprefix(": ").removeprefix("line 1: ")


def _read_csv(file: Path) -> Iterator[tuple[int, Row | str]]:
    """As :func:`_read_jsonl`, of a table separated by commas, semicolons or tabs."""
    with _open(file) as stream:
        text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
        lines = StringSpool(text)
    keys = {*FILE_KEYS, *TEXT_KEYS, *SPECIES_KEYS, SPLIT_KEY}
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    delimiter = separator_line(lines[first]) if lines else None
    if delimiter:
        first += 1
    else:
        delimiter = csv_delimiter(lines[first] if lines else "", keys)
    rows = csv_rows(lines, delimiter, first)
    number, cells = next(rows, (0, ""))
    if isinstance(cells, str) and cells:
        raise ValueError(f"{file}, line {number + 1}: {cells}")
    strange = [reason for cell in cells if (reason := _not_text(cell))]
    if strange:
        raise ValueError(f"{file}, line {number + 1}: {strange[0]}")
    header = [column_name(cell) for cell in cells]
    if not any(key in header for key in FILE_KEYS) or not any(key in header for key in TEXT_KEYS):
        raise ValueError(f"{file}: the first line is {', '.join(cells)!r}; it must name file_name and text")
    twice = [name for name in keys if header.count(name) > 1]
    if twice:
        raise ValueError(f"{file}: the first line names {min(twice)!r} twice; keep one of the columns")
    for number, row in rows:
        strange = [reason for cell in row if (reason := _not_text(cell))]
        if isinstance(row, str):
            yield number + 1, row
        elif strange:
            yield number + 1, strange[0]
        elif len(row) > len(header):
            yield number + 1, "more fields than in the first line; a text with commas needs quotes"
        else:
            yield number + 1, dict(zip(header, row, strict=False))


# Names of tables, in lower case, with their readers.
_TABLES: dict[str, Callable[[Path], Iterator[tuple[int, Row | str]]]] = {
    "metadata.jsonl": _read_jsonl,
    "metadata.csv": _read_csv,
    "metadata.tsv": _read_csv,
}


def _open(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None


def _not_text(cell: str) -> str | None:
    """Why a cell, decoded with surrogate escapes, is not text; None if it is."""
    if "\0" in cell:
        return "holds null characters, so it is not UTF-8 text"
    strange = next((mark for mark in cell if "\udc80" <= mark <= "\udcff"), None)
    return f"byte 0x{ord(strange) - 0xDC00:02x} is not UTF-8; save it as UTF-8" if strange else None


# --- rows ---------------------------------------------------------------------------------------


def _photo_path(row: Row, table: str) -> str:
    """The photo of a row, as a path relative to SRC."""
    name = next((row[key] for key in FILE_KEYS if key in row), None)
    if not isinstance(name, str) or not name.strip():
        raise ValueError("no 'file_name'")
    name = name.strip()
    parts: list[str] = list(PurePosixPath(table).parent.parts)
    for part in PurePosixPath(name.replace("\\", "/")).parts:
        if part == "/" or (part == ".." and not parts):
            raise ValueError(f"{name}: leads out of the folder")
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _row_captions(row: Row) -> tuple[str, ...]:
    keys = [key for key in TEXT_KEYS if key in row]
    if len(keys) != 1:
        found = " and ".join(keys) if keys else f"only {', '.join(sorted(row))}"
        raise ValueError(f"one of {', '.join(TEXT_KEYS)} is needed; found {found}")
    value = row[keys[0]]
    listed = value if isinstance(value, list) else [value]
    texts = [text for text in listed if isinstance(text, str)]
    if len(texts) != len(listed):
        raise ValueError(f"{keys[0]!r} is neither a string nor a list of strings")
    captions = tuple(caption for text in texts if (caption := tidy(text)))
    if not captions:
        raise ValueError(f"{keys[0]!r} is empty")
    return captions


def _row_species(row: Row) -> str | None:
    keys = [key for key in SPECIES_KEYS if key in row]
    if len(keys) > 1:
        raise ValueError("both 'species' and 'label' are given; keep one")
    value = row[keys[0]] if keys else None
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{keys[0]!r} is {value!r}, neither a name nor a number")
    return tidy(str(value)) or None


def _row_split(row: Row) -> str | None:
    value = row.get(SPLIT_KEY)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    split = named_split(value) if isinstance(value, str) else None
    if split is None:
        raise ValueError(f"{SPLIT_KEY!r} is {value!r}, not one of {', '.join(SPLITS)}")
    return split

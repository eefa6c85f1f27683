"""Captions of own photos: from metadata.jsonl, metadata.csv or metadata.tsv, or from text files beside the photos."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.captions import read_captions, tidy
from data_prep.listing import Listing, Names, suffix
from data_prep.splits import SPLITS, named_split
from data_prep.writing import Problem
from stackgan.io.csv_reader import column_name, csv_delimiter, csv_rows, separator_line
from stackgan.io.json_reader import NEW_LINE, parse_json

__all__ = ["Entry", "find_entries", "is_metadata", "is_text"]

FILE_KEYS = ("file_name", "filename")
TEXT_KEYS = ("text", "caption", "captions")
SPECIES_KEYS = ("species", "label")
SPLIT_KEY = "split"
NOT_CAPTIONS = frozenset({"readme", "license", "licence", "notice"})  # .txt files without a photo

Row = Mapping[str, object]


@dataclass(frozen=True)
class Entry:
    """A photo with its captions.

    Attributes:
        path: relative to SRC.
        names: all paths by which it is reached through links, its own first.
        split: as the metadata say.
    """

    path: str
    names: tuple[str, ...]
    captions: tuple[str, ...]
    species: str | None = None
    split: str | None = None


def is_metadata(path: str) -> bool:
    """Whether a file is a table of captions, by its name."""
    return PurePosixPath(path).name.casefold() in _TABLES


def is_text(path: str) -> bool:
    """Whether a file may hold the captions of a photo beside it, by its extension."""
    return suffix(path) == ".txt"


def find_entries(
    src: Path, listing: Listing, photos: Sequence[str], problems: list[Problem]
) -> tuple[list[Entry], str]:
    """The photos with captions, sorted by path, and the source of the captions; appends to `problems`.

    Raises:
        ValueError: there are no captions, or a table is not readable at all.
    """
    tables = [file for file in listing.names if is_metadata(file)]
    if tables:
        return _from_tables(src, listing, tables, photos, problems), ", ".join(tables)
    pairs = _text_files(listing, photos, problems)
    if pairs:
        return _from_text_files(src, listing, pairs, photos, problems), "text files"
    raise ValueError(
        f"{src}: no captions: neither metadata.jsonl nor metadata.csv nor a .txt beside a photo; "
        "pass --no-captions to train without text"
    )


# --- text files ---------------------------------------------------------------------------------


def _text_files(listing: Listing, photos: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    """Photo → its text file, `a.txt` or `a.jpg.txt` beside `a.jpg`."""
    texts = {file: names for file, names in listing.names.items() if is_text(file)}
    known = Names({file: [name[: -len(".txt")] + ".txt" for name in names] for file, names in texts.items()})
    pairs: dict[str, str] = {}
    for photo in photos:
        try:
            wanted = [text for name in listing.names[photo] for text in (_beside(name), f"{name}.txt")]
            found = next((file for text in wanted if (file := known.find(text))), None)
        except ValueError as error:
            problems.append(Problem(photo, str(error)))
            continue
        if found:
            pairs[photo] = found
    return pairs


def _beside(photo: str) -> str:
    return str(PurePosixPath(photo).with_suffix(".txt"))


def _from_text_files(
    src: Path, listing: Listing, pairs: Mapping[str, str], photos: Sequence[str], problems: list[Problem]
) -> list[Entry]:
    entries = []
    named = {problem.path for problem in problems}
    for photo in photos:
        try:
            captions = read_captions(src / pairs.get(photo, _beside(photo)))
        except ValueError as error:
            if photo not in named:
                text = pairs.get(photo, _beside(photo))
                problems.append(Problem(text, f"{error}; the photo {photo} is left out"))
        else:
            entries.append(Entry(photo, tuple(listing.names[photo]), captions))
    used = set(pairs.values())
    for text in listing.names:
        if is_text(text) and text not in used and PurePosixPath(text).stem.lower() not in NOT_CAPTIONS:
            problems.append(Problem(text, "no photo of this name"))
    return entries


# --- tables -------------------------------------------------------------------------------------


def _from_tables(
    src: Path, listing: Listing, tables: Sequence[str], photos: Sequence[str], problems: list[Problem]
) -> list[Entry]:
    """Entries from the rows of all tables; several rows of one photo are joined."""
    _check_tables(src, tables)
    known = Names({photo: listing.names[photo] for photo in photos})
    files = Names(listing.names)
    found: dict[str, Entry] = {}
    homes: dict[str, tuple[str, str]] = {}  # photo → its split and the row that names it
    bad: set[str] = set()  # photos with rejected rows, which are not listed twice
    contradictory: set[str] = set()
    for table in tables:
        for line, row in _TABLES[PurePosixPath(table).name.casefold()](src / table):
            where = f"{table}, line {line}"
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                name = _photo_path(row, table)
                path = known.find(name)
                if path is None:
                    other = files.find(name)
                    reason = f"the extension {suffix(other)!r} is not read" if other else "there is no such photo"
                    raise ValueError(f"{name}: {reason}")
                bad.add(path)
                captions, species, split = _row_captions(row), _row_species(row), _row_split(row)
                before = found.get(path)
                if before and before.species != species:
                    raise ValueError(f"{path}: species {species!r} here, {before.species!r} before")
                earlier, place = homes.setdefault(path, (split, where)) if split else (None, "")
                if earlier != split:
                    contradictory.add(path)
                    raise ValueError(f"{path}: split {split!r} here, {earlier!r} in {place}; the photo is left out")
            except ValueError as error:
                problems.append(Problem(where, str(error)))
            else:
                joined = (before.captions if before else ()) + captions
                home = homes[path][0] if path in homes else None
                found[path] = Entry(path, tuple(listing.names[path]), joined, species, home)
    problems.extend(
        Problem(photo, "no row in the metadata") for photo in photos if photo not in found and photo not in bad
    )
    return [found[photo] for photo in photos if photo in found and photo not in contradictory]


def _check_tables(src: Path, tables: Sequence[str]) -> None:
    first: dict[PurePosixPath, str] = {}
    for table in tables:
        other = first.setdefault(PurePosixPath(table).parent, table)
        if other != table:
            raise ValueError(f"{src / table}: {PurePosixPath(other).name} is beside it; keep one of the two")


def _read_jsonl(file: Path) -> Iterator[tuple[int, Row | str]]:
    """Yield line numbers with rows, or with an error message."""
    for number, line in enumerate(NEW_LINE.split(_data(file)), 1):
        if b"\0" in line:
            yield number, "holds null characters, so it is not UTF-8 text"
        elif line.strip() not in (b"", b"\xef\xbb\xbf"):
            try:
                yield number, parse_json(line, "")
            except ValueError as error:
                yield number, str(error).removeprefix(": ").removeprefix("line 1: ")


def _read_csv(file: Path) -> Iterator[tuple[int, Row | str]]:
    """As :func:`_read_jsonl`, of a table separated by commas, semicolons or tabs."""
    text = _data(file).decode("utf-8-sig", "surrogateescape")
    lines = list(io.StringIO(text, newline=""))
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


def _data(file: Path) -> bytes:
    try:
        return file.read_bytes()
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

"""Preparation of your own photos with captions.

Captions are in `metadata.jsonl` or `metadata.csv` (Hugging Face's ImageFolder convention: `file_name`, `text`), or in
a .txt file beside each photo, one caption per line.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from data_prep import arguments
from data_prep.captions import decode, read_captions, tidy
from data_prep.images import FITS, Fit, to_square
from data_prep.writing import Photo, Problem, check_folders, count_workers, hash_share, write_photos
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side
from stackgan.images.photos import open_rgb

__all__ = ["KIND", "add_arguments", "prepare_folder"]

KIND = "folder"  # the row of stackgan.data.kinds.KINDS

PHOTOS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif"})
NOT_READ = frozenset({".heic", ".heif", ".svg", ".psd", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw"})
METADATA = ("metadata.jsonl", "metadata.csv")
TEXT_KEYS = ("text", "caption", "captions")
SPECIES_KEYS = ("species", "label")
NOT_CAPTIONS = frozenset({"readme", "license", "licence", "notice"})  # .txt files without a photo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stackgan prepare folder``: parameters of :func:`prepare_folder`."""
    arguments.add_folders(parser, "photos with metadata.jsonl, metadata.csv, or a .txt beside each")
    arguments.add_size(parser)
    arguments.add_fit(parser, "photos that are not square")
    parser.add_argument("--test-fraction", type=float, metavar="SHARE", help="share of the photos for the test split")
    arguments.add_seed(parser, "of the split")
    parser.add_argument(
        "--no-captions", action="store_false", dest="captions", help="prepare for training without text"
    )
    arguments.add_overwrite(parser)
    arguments.add_workers(parser, "threads", "CPU cores, at most 4")


def prepare_folder(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 64,
    fit: Fit = "pad",
    test_fraction: float = 0.1,
    seed: int = 0,
    captions: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> PreparedFolder:
    """Pair the photos in `src` with captions, make them square, split them, and write `out`.

    The split is given by `train/` and `test/` if all photos are in these two; otherwise it is by species if given, so
    that no species is in both; otherwise by a hash of each photo's path, which does not change when photos are added.

    Args:
        src: folder of photos, including subfolders, except for names with a leading dot.
        out: the prepared folder to create, not inside `src`.
        size: side of the training images in pixels.
        fit: treatment of photos that are not square; see `data_prep.images.FITS`. "pad" keeps everything that
            captions may mention.
        test_fraction: share of the photos for the test split, at least 0 and below 1.
        seed: of the split.
        captions: False prepares all photos without captions, for unconditional training.
        overwrite: replace a prepared folder at `out`.
        workers: threads; by default the number of CPU cores, at most four.
        progress: show a progress bar on stderr.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no photos, no captions, invalid metadata, or `out` inside `src`.
        FileExistsError: `out` exists.
    """
    src, threads = Path(src), count_workers(workers)
    if not src.is_dir():
        raise FileNotFoundError(f"{src}: no such folder" if not src.exists() else f"{src}: is not a folder")
    check_folders(src, Path(out), apart=True)
    if not 0 <= test_fraction < 1:
        raise ValueError(f"--test-fraction {test_fraction}: must be at least 0 and below 1")
    files = sorted(_walk(src))
    photos = _photos(src, files)
    problems = [
        Problem(file, "this format is not read; save it as JPEG or PNG")
        for file in files
        if _suffix(file) in NOT_READ
    ]
    entries, origin = _find_captions(src, files, photos, problems, captions)
    homes, rule = _split(entries, test_fraction, seed)
    source: dict[str, object] = {
        "captions": origin,
        "photos_found": len(photos),
        "fit": fit,
        "split": rule,
        "test_fraction": test_fraction,
        "seed": seed,
    }
    with PreparedWriter(
        out,
        kind=KIND,
        size=size,
        crop=FITS[fit],
        source=source,
        overwrite=overwrite,
        species_disjoint=rule == "species",
    ) as writer:
        for problem in problems:
            writer.problem(problem.path, problem.reason)
        read = partial(_read, src, homes, load_side(size), fit)
        # the train split first; sorted() keeps the order of the paths within a split
        ordered = sorted(entries, key=lambda entry: homes[entry.path] != "train")
        write_photos(writer, ordered, read, workers=threads, progress=progress)
    return PreparedFolder.open(out)


@dataclass(frozen=True)
class _Entry:
    """A photo by its path relative to SRC, with its captions and species."""

    path: str
    captions: tuple[str, ...]
    species: str | None = None


def _read(src: Path, homes: Mapping[str, str], side: int, fit: Fit, entry: _Entry) -> Photo | Problem:
    """The photo as a square of ``side`` pixels, with its split and its captions."""
    try:
        image = open_rgb(src / entry.path, upright=True)
    except ValueError as error:
        return Problem(entry.path, str(error))
    record = Record(entry.path, entry.captions, entry.species)
    return Photo(homes[entry.path], to_square(image, side, fit), record, image.size)


# --- captions ----------------------------------------------------------------------------------


def _photos(src: Path, files: Sequence[str]) -> list[str]:
    photos = [file for file in files if _suffix(file) in PHOTOS]
    if not photos:
        raise ValueError(f"{src}: no photos in it ({', '.join(sorted(PHOTOS))} are read)")
    return photos


def _walk(src: Path) -> Iterator[str]:
    """Paths of all files in `src`, relative to it, with forward slashes."""
    for folder, subfolders, names in os.walk(src):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(src).as_posix()


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _find_captions(
    src: Path, files: Sequence[str], photos: Sequence[str], problems: list[Problem], captions: bool
) -> tuple[list[_Entry], str]:
    """The photos with captions, sorted by path, and the source of the captions."""
    if not captions:
        return [_Entry(photo, ()) for photo in photos], "none"
    tables = [file for file in files if PurePosixPath(file).name in METADATA]
    if tables:
        return _from_metadata(src, tables, photos, problems), ", ".join(tables)
    texts = {file for file in files if _suffix(file) == ".txt"}
    if any(_sidecar(photo) in texts for photo in photos):
        return _from_text_files(src, texts, photos, problems), "text files"
    raise ValueError(
        f"{src}: no captions: neither metadata.jsonl nor metadata.csv nor a .txt beside a photo; "
        "pass --no-captions to train without text"
    )


def _sidecar(photo: str) -> str:
    return str(PurePosixPath(photo).with_suffix(".txt"))


def _from_text_files(src: Path, texts: set[str], photos: Sequence[str], problems: list[Problem]) -> list[_Entry]:
    entries = []
    for photo in photos:
        try:
            entries.append(_Entry(photo, read_captions(src / _sidecar(photo))))
        except ValueError as error:
            problems.append(Problem(_sidecar(photo), f"{error}; the photo {photo} is left out"))
    for text in sorted(texts - {_sidecar(photo) for photo in photos}):
        if PurePosixPath(text).stem.lower() not in NOT_CAPTIONS:
            problems.append(Problem(text, "no photo of this name"))
    return entries


def _from_metadata(src: Path, tables: Sequence[str], photos: Sequence[str], problems: list[Problem]) -> list[_Entry]:
    """Entries from the rows of all metadata files; several rows of one photo are joined."""
    there = set(photos)
    found: dict[str, _Entry] = {}
    bad: set[str] = set()  # photos with rejected rows, which are not listed twice
    for table in tables:
        if table.endswith(".jsonl") and table.removesuffix("jsonl") + "csv" in tables:
            raise ValueError(f"{src / table}: metadata.csv is beside it; keep one of the two")
        rows = _read_jsonl if table.endswith(".jsonl") else _read_csv
        for line, row in rows(src / table):
            where = f"{table}, line {line}"
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                path = _photo_path(row, table)
                if path not in there:
                    raise ValueError(f"{path}: there is no such photo")
                bad.add(path)
                entry = _Entry(path, _row_captions(row), _row_species(row))
                before = found.get(path, entry)
                if before.species != entry.species:
                    raise ValueError(f"{path}: species {entry.species!r} here, {before.species!r} before")
            except ValueError as error:
                problems.append(Problem(where, str(error)))
            else:
                earlier = found[path].captions if path in found else ()
                found[path] = _Entry(path, earlier + entry.captions, entry.species)
    problems.extend(
        Problem(photo, "no row in the metadata") for photo in photos if photo not in found and photo not in bad
    )
    return [found[photo] for photo in photos if photo in found]


Row = Mapping[str, object]


def _read_jsonl(file: Path) -> Iterator[tuple[int, Row | str]]:
    """Yield line numbers with rows, or with an error message."""
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        try:
            text = decode(line)
        except ValueError as error:
            yield number, str(error).removeprefix("line 1: ")
            continue
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            yield number, f"not valid JSON: {error}"
            continue
        yield number, row if isinstance(row, dict) else "not a JSON object"


def _read_csv(file: Path) -> Iterator[tuple[int, Row | str]]:
    try:
        text = decode(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    line = 1  # first line of the row; quoted text may span several lines
    try:
        header = reader.fieldnames or []
        if "file_name" not in header or not any(key in header for key in TEXT_KEYS):
            found = ", ".join(header)
            raise ValueError(f"{file}: the first line is {found!r}; it must name file_name and text")
        line = reader.line_num + 1
        for row in reader:
            if None in row:
                yield line, "more fields than in the first line; a text with commas needs quotes"
            else:
                yield line, {key: value for key, value in row.items() if value is not None}
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{file}, line {line}: {error}") from None


def _photo_path(row: Row, table: str) -> str:
    """The photo of a row, as a path relative to SRC."""
    name = row.get("file_name")
    if not isinstance(name, str) or not name:
        raise ValueError("no 'file_name'")
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
    return str(value)


# --- split -------------------------------------------------------------------------------------


def _split(entries: Sequence[_Entry], fraction: float, seed: int) -> tuple[dict[str, str], str]:
    """The split of each photo, and the rule: "folders", "species" or "file names"."""
    tops = {entry.path: PurePosixPath(entry.path).parts[0] for entry in entries}
    if set(tops.values()) == {"train", "test"}:
        return tops, "folders"
    photos = Counter(entry.species for entry in entries if entry.species is not None)
    by_species = len(photos) > 1
    kept = _test_species(photos, fraction, seed) if by_species else set()
    homes = {}
    for entry in entries:
        if by_species and entry.species is not None:
            test = entry.species in kept
        else:
            test = hash_share(seed, entry.path) < fraction
        homes[entry.path] = "test" if test else "train"
    if entries and "train" not in homes.values():
        raise ValueError(f"--test-fraction {fraction}: leaves no photos for training; lower it")
    return homes, "species" if by_species else "file names"


def _test_species(photos: Counter[str], fraction: float, seed: int) -> set[str]:
    """Species for the test split, selected by their hashes until they have about `fraction` of the photos."""
    wanted = fraction * photos.total()
    taken: set[str] = set()
    count = 0
    for species in sorted(photos, key=lambda name: hash_share(seed, name)):
        if len(taken) < len(photos) - 1 and count + photos[species] / 2 <= wanted:
            taken.add(species)
            count += photos[species]
    if not taken and fraction > 0:
        taken.add(min(photos, key=lambda name: (photos[name], name)))
    return taken

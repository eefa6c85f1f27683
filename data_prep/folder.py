"""Preparation of your own photos with captions.

Captions are in `metadata.jsonl` or `metadata.csv` (Hugging Face's ImageFolder convention: `file_name`, `text`), or in
a .txt file beside each photo, one caption per line.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from data_prep import arguments
from data_prep.entries import Entries, Entry
from data_prep.images import FITS, Fit, to_square
from data_prep.listing import list_files, suffix
from data_prep.metadata import find_entries, is_metadata, is_text
from data_prep.splits import assign_splits
from data_prep.writing import Photo, Problem, check_folders, count_workers, write_photos
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side
from stackgan.images.photos import decoder_errors, open_rgb
from stackgan.io.spool import StringSpool

__all__ = ["KIND", "add_arguments", "prepare_folder"]

KIND = "folder"  # the row of stackgan.data.kinds.KINDS

# fmt: off
PHOTOS = frozenset((
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfi", ".jfif", ".jif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".pjp", ".pjpeg", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
))
NOT_READ = frozenset((
    ".heic", ".heif", ".hif", ".jxl", ".svg", ".psd", ".xcf", ".pdf", ".eps", ".raw", ".dng", ".cr2", ".cr3",
    ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef",
))
# fmt: on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stackgan prepare folder``: parameters of :func:`prepare_folder`."""
    arguments.add_folders(parser, "photos with metadata.jsonl, metadata.csv, or a .txt beside each")
    arguments.add_size(parser)
    arguments.add_fit(parser, "photos that are not square")
    parser.add_argument("--test-fraction", type=float, metavar="SHARE", help="share of the photos for the test split")
    arguments.add_seed(parser, "of the split")
    arguments.add_no_captions(parser)
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

    The split is given by folders such as `train/`, `Testing/` and `val/` or by the metadata
    (:mod:`data_prep.splits`); otherwise it is by species if given, so that no species is in both; otherwise by a hash
    of each photo's path, which does not change when photos are added.

    Args:
        src: folder of photos, including subfolders and linked folders, except for names with a leading dot.
        out: the prepared folder to create, not inside `src`.
        size: side of the training images in pixels.
        fit: treatment of photos that are not square; see `data_prep.images.FITS`. "pad" keeps everything that
            captions may mention.
        test_fraction: share of the photos for the test split, at least 0 and below 1; without effect on a split that
            is given.
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
    listing = list_files(src)
    photos = _photos(src, listing.files)
    problems = listing.problems
    problems += [
        Problem(file, "this format is not read; save it as JPEG or PNG")
        for file in listing.files
        if suffix(file) in NOT_READ
    ]
    if captions:
        entries, origin = find_entries(src, listing, photos, problems)
    else:
        entries, origin = Entries(photos, listing.names), "none"
        for number in range(len(photos)):
            entries.add(number, ())
        entries.close()
    splits = assign_splits(entries, test_fraction, seed)
    problems += splits.problems
    source: dict[str, object] = {
        "captions": origin,
        "photos_found": len(photos),
        "fit": fit,
        "split": splits.rule,
    }
    source |= {"split_names": splits.given} if splits.given else {"test_fraction": test_fraction, "seed": seed}
    source |= {"not_read": _not_read(listing.files, origin), "links_read_once": listing.read_once}
    with PreparedWriter(
        out,
        kind=KIND,
        size=size,
        crop=FITS[fit],
        source=source,
        overwrite=overwrite,
        species_disjoint=splits.rule == "species",
    ) as writer:
        for problem in problems:
            writer.problem(problem.path, problem.reason)
        # the train split first, and each in the order of the paths
        train = np.array([home == "train" for home in splits.homes], bool)
        usable = np.array([home is not None for home in splits.homes], bool)
        order = np.concatenate([np.flatnonzero(train), np.flatnonzero(usable & ~train)])
        items = ((splits.homes[place] or "", entries[place]) for place in order)
        read = partial(_read, src, load_side(size), fit)
        write_photos(writer, items, read, total=len(order), workers=threads, progress=progress)
    return PreparedFolder.open(out)


def _read(src: Path, side: int, fit: Fit, item: tuple[str, Entry]) -> Photo | Problem:
    """The photo of a split as a square of ``side`` pixels, with its captions."""
    split, entry = item
    try:
        image = open_rgb(src / entry.path, upright=True)
        with decoder_errors():
            square = to_square(image, side, fit)
    except ValueError as error:
        return Problem(entry.path, str(error))
    record = Record(entry.path, entry.captions, entry.species)
    return Photo(split, square, record, image.size)


def _photos(src: Path, files: Sequence[str]) -> StringSpool:
    photos = StringSpool(file for file in files if suffix(file) in PHOTOS)
    if not photos:
        raise ValueError(f"{src}: no photos in it ({', '.join(sorted(PHOTOS))} are read)")
    return photos


def _not_read(files: Iterable[str], origin: str) -> dict[str, int]:
    """Numbers of the other files by extension, which are neither photos nor captions nor listed as problems."""
    known = PHOTOS | NOT_READ
    others = (
        suffix(file) or "no extension"
        for file in files
        if suffix(file) not in known
        and (origin == "none" or not is_metadata(file))
        and (origin != "text files" or not is_text(file))
    )
    return dict(sorted(Counter(others).items()))

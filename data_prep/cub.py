"""Preparation of CUB-200-2011 with Reed's captions, in either of the two common layouts.

Photos: Wah, Branson, Welinder, Perona and Belongie, "The Caltech-UCSD Birds-200-2011 Dataset", 2011.
Captions and class-disjoint split: Reed, Akata, Schiele and Lee, arXiv:1605.05395, CVPR 2016.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import arguments
from data_prep.captions import decode, read_captions, tidy
from data_prep.download import CUB_MD5, CUB_URL, fetch_cub
from data_prep.images import FITS, Fit, crop_box, to_square
from data_prep.pickles import read_pickle
from data_prep.writing import Photo, Problem, check_folders, count_workers, relative, write_photos
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side
from stackgan.images.photos import decoder_errors, open_rgb

__all__ = ["EMBEDDINGS_NAME", "KIND", "add_arguments", "prepare_cub"]

KIND = "cub"  # the row of stackgan.data.kinds.KINDS
EMBEDDINGS_NAME = "char-cnn-rnn"
_EMBEDDINGS_FILE = "char-CNN-RNN-embeddings.pickle"
_CAPTIONS_HINT = (
    "the captions come from Reed et al., CVPR 2016 (cvpr2016_cub with text_c10/, linked from "
    "github.com/reedscot/cvpr2016) or in AttnGAN's birds/ (text/, linked from github.com/taoxugit/AttnGAN)"
)
_SPLITS = ("train", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stackgan prepare cub``: parameters of :func:`prepare_cub`."""
    arguments.add_folders(parser, "AttnGAN's birds/, or the folder of CUB_200_2011/ with text_c10/ in or beside it")
    arguments.add_size(parser, largest=256)
    arguments.add_fit(parser, "crops that are not square, as they are clipped at the photo's edge")
    parser.add_argument(
        "--allow-missing", action="store_true", help="prepare the available photos if any are missing"
    )
    parser.add_argument("--download", action="store_true", help="download the photos (1.1 GB) if they are missing")
    parser.add_argument("--archive-url", dest="url", metavar="URL", help="another source of CUB_200_2011.tgz")
    parser.add_argument("--archive-md5", dest="md5", metavar="MD5", help="expected digest of the archive")
    arguments.add_overwrite(parser)
    arguments.add_workers(parser, "threads", "CPU cores, at most 4")


def prepare_cub(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 64,
    fit: Fit = "stretch",
    allow_missing: bool = False,
    download: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    url: str = CUB_URL,
    md5: str = CUB_MD5,
    progress: bool = True,
) -> PreparedFolder:
    """Crop the photos around their boxes, pair them with captions, split by species, and write `out`.

    Args:
        src: AttnGAN's birds/ (CUB_200_2011/, text/, train/ and test/filenames.pickle), or a folder that contains
            CUB_200_2011/ with Reed's text_c10/ and class lists in it or beside it, or CUB_200_2011/ itself.
        out: the prepared folder to create.
        size: side of the training images in pixels.
        fit: treatment of crops that are not square, as they are clipped at the photo's edge; see
            `data_prep.images.FITS`.
        allow_missing: prepare the available photos if photos of the list are missing.
        download: download the photos from `url` if they are missing.
        overwrite: replace a prepared folder at `out`.
        workers: threads; by default the number of CPU cores, at most four.
        url, md5: of the archive.
        progress: show progress bars on stderr.

    Raises:
        FileNotFoundError: the list of photos, the captions or the split were not found; the message names the
            searched folders.
        ValueError: missing photos, a split with shared species or unknown names, a damaged table or pickle, or an
            `out` that contains `src`.
        FileExistsError: `out` exists.
    """
    src, threads = Path(src), count_workers(workers)
    check_folders(src, Path(out), apart=False)
    if not src.is_dir() and not download:
        raise FileNotFoundError(f"{src}: no such folder")
    text = _find_text(src)
    if download:
        _download(src, url, md5, progress)
    catalogue = _read_catalogue(src)
    splits, split_files = _find_splits(src, catalogue)
    photos = [photo for names in splits.values() for photo in names]
    there = _photos_there(catalogue.root, photos)
    missing = len(photos) - len(there)
    if missing and not allow_missing:
        raise ValueError(
            f"{src}: {missing:,} of {len(photos):,} photos are missing ({len(there):,} found in "
            f"{relative(catalogue.root / 'images', src)}); pass --allow-missing to prepare the available ones"
        )
    source: dict[str, object] = {
        "captions": text.name,
        "split": split_files,
        "photos_listed": len(photos),
        "photos_found": len(there),
        "fit": fit,
        "photos_in_no_split": len(catalogue.files) - len(photos),
        "terms": "research and education only; cite Wah et al. 2011 (photos) and Reed et al. 2016 (captions)",
    }
    crop = f"square of half side int(0.75 * max(w, h)) about the box centre, clipped to the photo; {FITS[fit]}"
    with PreparedWriter(out, kind=KIND, size=size, crop=crop, source=source, overwrite=overwrite) as writer:
        for path, reason in catalogue.problems:
            writer.problem(path, reason)
        job = _Job(src, text, catalogue, load_side(size), fit)
        todo = [(split, photo) for split, names in splits.items() for photo in names if photo in there]
        rows: dict[str, dict[str, int]] = {split: {} for split in splits}  # captions of each photo

        def count(photo: Photo) -> None:
            rows[photo.split][photo.record.id] = len(photo.record.captions)

        write_photos(writer, todo, job.prepare, total=len(todo), workers=threads, progress=progress, written=count)
        for split, counts in rows.items():
            _carry_embeddings(writer, src, split, splits[split], counts)
    return PreparedFolder.open(out)


# --- locating the files ------------------------------------------------------------------------


def _bases(src: Path) -> list[Path]:
    """Folders to search for captions and splits: in SRC, then beside it."""
    names = ("", "birds", "cvpr2016_cub", "cub_icml", "CUB_200_2011")
    src = Path(os.path.abspath(src))  # noqa: PTH100  not resolve(): beside a link is where the link is
    return [parent / name if name else parent for parent in (src, src.parent) for name in names]


def _find_text(src: Path) -> Path:
    for base in _bases(src):
        for name in ("text", "text_c10"):
            folder = base / name
            if folder.is_dir() and any(entry.name[:3].isdigit() for entry in folder.iterdir()):
                return folder
    raise FileNotFoundError(
        f"{src}: no captions: looked for text/<class>/ and text_c10/<class>/ in it and beside it, also in "
        f"birds/ and cvpr2016_cub/; {_CAPTIONS_HINT}"
    )


def _find_root(src: Path) -> Path | None:
    for folder in (src / "CUB_200_2011", src):
        if (folder / "images.txt").is_file():
            return folder
    return None


def _download(src: Path, url: str, md5: str, progress: bool) -> None:
    root = _find_root(src)
    if root is not None:
        files = _read_images(root)
        if len(_photos_there(root, list(files))) == len(files):
            return
    beside = root is not None and root.name == "CUB_200_2011"
    fetch_cub(root.resolve().parent if root and beside else src, url=url, md5=md5, progress=progress)


@dataclass(frozen=True)
class _Catalogue:
    """The official lists: photos in their order, by name without ".jpg", and their boxes."""

    root: Path
    files: dict[str, str]
    boxes: dict[str, tuple[int, int, int, int]]
    problems: list[tuple[str, str]]


def _read_catalogue(src: Path) -> _Catalogue:
    root = _find_root(src)
    if root is None:
        raise FileNotFoundError(
            f"{src}: no CUB_200_2011/images.txt and no images.txt in it; pass --download to download the "
            "photos, or name the folder that contains CUB_200_2011"
        )
    files = _read_images(root)
    boxes: dict[str, tuple[int, int, int, int]] = {}
    problems = []
    for number, words in _table(root / "bounding_boxes.txt"):
        try:
            identifier, x, y, w, h = words
            boxes[identifier] = (int(float(x)), int(float(y)), int(float(w)), int(float(h)))
        except (ValueError, OverflowError):
            where = f"{relative(root / 'bounding_boxes.txt', src)}, line {number}"
            problems.append((where, f"{' '.join(words)!r} is not 'id x y width height'"))
    named = {name: boxes[identifier] for name, identifier in files.items() if identifier in boxes}
    return _Catalogue(root, files, named, problems)


def _read_images(root: Path) -> dict[str, str]:
    """Name without ".jpg" → id, from images.txt."""
    files: dict[str, str] = {}
    for number, words in _table(root / "images.txt"):
        if len(words) != 2 or "/" not in words[1] or ".." in words[1].split("/"):
            found = " ".join(words)
            raise ValueError(f"{root / 'images.txt'}, line {number}: {found!r} is not 'id class/photo.jpg'")
        files[_photo_name(words[1])] = words[0]
    if not files:
        raise ValueError(f"{root / 'images.txt'}: empty")
    return files


def _table(file: Path) -> Iterator[tuple[int, list[str]]]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; it is part of CUB_200_2011")
    try:
        text = decode(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.split()


def _photo_name(path: str) -> str:
    return path.removesuffix(".jpg")


def _species(photo: str) -> str:
    return photo.partition("/")[0]


def _photos_there(root: Path, photos: Sequence[str]) -> set[str]:
    folders: dict[str, set[str]] = {}
    for species in {_species(photo) for photo in photos}:
        folder = root / "images" / species
        folders[species] = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    return {photo for photo in photos if f"{photo.partition('/')[2]}.jpg" in folders[_species(photo)]}


# --- splits ------------------------------------------------------------------------------------


def _find_splits(src: Path, catalogue: _Catalogue) -> tuple[dict[str, list[str]], str]:
    for base in _bases(src):
        pickles = [base / split / "filenames.pickle" for split in _SPLITS]
        if any(file.is_file() for file in pickles):
            splits = {split: _read_names(file) for split, file in zip(_SPLITS, pickles, strict=True)}
            return _check_splits(splits, catalogue, base), "train/filenames.pickle, test/filenames.pickle"
    for base in _bases(src):
        lists = _read_class_lists(base)
        if lists:
            splits = {
                split: [photo for photo in catalogue.files if _species(photo) in classes]
                for split, classes in lists.items()
            }
            _check_classes(lists, catalogue, base)
            return _check_splits(splits, catalogue, base), "trainvalclasses.txt, testclasses.txt"
    raise FileNotFoundError(
        f"{src}: no class-disjoint split: looked for AttnGAN's train/filenames.pickle and "
        "test/filenames.pickle and for Reed's trainvalclasses.txt and testclasses.txt, in it and beside "
        "it, also in birds/ and cvpr2016_cub/"
    )


def _read_names(file: Path) -> list[str]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing, although the file of the other split exists")
    names = read_pickle(file)
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file}: not a list of photo names")
    return [_photo_name(name) for name in names]


def _read_class_lists(base: Path) -> dict[str, set[str]]:
    train = [base / "trainvalclasses.txt"]
    if not train[0].is_file():
        train = [base / "trainclasses.txt", base / "valclasses.txt"]
    test = base / "testclasses.txt"
    if not test.is_file() or not all(file.is_file() for file in train):
        return {}
    return {"train": {name for file in train for name in _read_lines(file)}, "test": set(_read_lines(test))}


def _read_lines(file: Path) -> list[str]:
    return [" ".join(words) for _, words in _table(file)]


def _check_classes(lists: Mapping[str, set[str]], catalogue: _Catalogue, base: Path) -> None:
    known = {_species(photo) for photo in catalogue.files}
    listed = set().union(*lists.values())
    for name in sorted(listed - known):
        raise ValueError(f"{base}: class lists name {name!r}, which images.txt does not have")
    for name in sorted(known - listed):
        raise ValueError(f"{base}: class lists have {name!r} neither for training nor for the test")


def _check_splits(splits: dict[str, list[str]], catalogue: _Catalogue, base: Path) -> dict[str, list[str]]:
    home: dict[str, str] = {}
    for split, photos in splits.items():
        unknown = [photo for photo in photos if photo not in catalogue.files]
        if unknown:
            raise ValueError(
                f"{base}: {len(unknown):,} {split} photos are not in images.txt, among them {unknown[0]!r}"
            )
        if len(set(photos)) != len(photos):
            twice = next(photo for photo in photos if photos.count(photo) > 1)
            raise ValueError(f"{base}: {twice!r} is in the {split} split twice")
        for photo in photos:
            if home.setdefault(_species(photo), split) != split:
                raise ValueError(
                    f"{base}: species {_species(photo)!r} is in both splits; a class-disjoint split is needed"
                )
    return splits


# --- writing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """Everything that is needed to prepare a photo."""

    src: Path
    text: Path
    catalogue: _Catalogue
    side: int
    fit: Fit

    def prepare(self, item: tuple[str, str]) -> Photo | Problem:
        """Prepare one (split, photo): crop it and read its captions."""
        split, photo = item
        file = self.text / f"{photo}.txt"
        try:
            # some of Reed's files contain pairs of U+FFFD, which the published code replaces by a space
            captions = tuple(tidy(line.replace("\ufffd\ufffd", " ")) for line in read_captions(file))
            file = self.catalogue.root / "images" / f"{photo}.jpg"
            if photo not in self.catalogue.boxes:
                raise ValueError("no box in bounding_boxes.txt")
            image = open_rgb(file, upright=False)
            box = crop_box(self.catalogue.boxes[photo], *image.size)
            with decoder_errors():
                crop = image.crop(box)
                square = to_square(crop, self.side, self.fit)
        except ValueError as error:
            return Problem(relative(file, self.src), str(error))
        record = Record(photo, captions, _species(photo))
        return Photo(split, square, record, crop.size)


def _carry_embeddings(
    writer: PreparedWriter, src: Path, split: str, names: Sequence[str], rows: Mapping[str, int]
) -> None:
    """Copy the published char-CNN-RNN embeddings of the prepared photos if the source has them."""
    file = next((f for base in _bases(src) if (f := base / split / _EMBEDDINGS_FILE).is_file()), None)
    if file is None or not rows:
        return
    try:
        writer.embeddings(split, EMBEDDINGS_NAME, _pick_embeddings(read_pickle(file), names, rows))
    except ValueError as error:
        writer.problem(relative(file, src), f"not carried over: {str(error).removeprefix(f'{file}: ')}")


def _pick_embeddings(stored: Any, names: Sequence[str], rows: Mapping[str, int]) -> NDArray[np.float32]:
    if not isinstance(stored, list | tuple | np.ndarray) or len(stored) != len(names):
        raise ValueError(f"expected {len(names):,} entries as in filenames.pickle")
    picked = [np.asarray(array) for name, array in zip(names, stored, strict=True) if name in rows]
    for (name, captions), array in zip(((n, rows[n]) for n in names if n in rows), picked, strict=True):
        if array.ndim != 2 or array.shape[0] != captions or array.shape[1] != picked[0].shape[1]:
            raise ValueError(f"{name}: embeddings of shape {array.shape} for {captions} captions")
    return np.concatenate(picked).astype(np.float32, copy=False)

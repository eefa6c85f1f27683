"""Preparation of data sets that Hugging Face's package ``datasets`` reads: Parquet, WebDataset, folders, the hub.

Rows are streamed: memory use does not depend on their number, and nothing is downloaded before it is needed. Code of
a data set is never executed (``datasets`` 4 and later have no such option).
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep import arguments
from data_prep.captions import tidy
from data_prep.folder import KIND as OWN_PHOTOS
from data_prep.images import FITS, Fit, to_square
from data_prep.splits import named_split
from data_prep.writing import Photo, Problem, check_folders, count_workers, hash_share, write_photos
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side
from stackgan.images.photos import decoder_errors, open_rgb

__all__ = ["add_arguments", "prepare_datasets"]

CAPTIONS = ("text", "caption", "captions", "txt", "prompt", "sentences")  # columns, the first that exists
SPECIES = ("species", "label")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stackgan prepare datasets``: parameters of :func:`prepare_datasets`."""
    parser.add_argument(
        "src", metavar="SRC", help="folder with Parquet, WebDataset (.tar) or image files, or user/name on the hub"
    )
    arguments.add_out(parser)
    arguments.add_size(parser)
    arguments.add_fit(parser, "images that are not square")
    parser.add_argument("--config", metavar="NAME", help="configuration of a data set that has several")
    parser.add_argument(
        "--image-column", metavar="NAME", help="column of the images (default: the one that holds any)"
    )
    parser.add_argument(
        "--caption-column",
        metavar="NAME",
        help=f"column of the captions (default: the first of {', '.join(CAPTIONS)})",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="read only the first N rows of each split")
    parser.add_argument("--test-fraction", type=float, metavar="SHARE", help="share for the test, of a single split")
    arguments.add_seed(parser, "of the split")
    arguments.add_no_captions(parser)
    arguments.add_overwrite(parser)
    arguments.add_workers(parser, "threads", "CPU cores, at most 4")


def prepare_datasets(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 64,
    fit: Fit = "pad",
    config: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    limit: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    captions: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> PreparedFolder:
    """Stream the rows of a data set, make its images square, and write `out`.

    The id of an image is the name of its split and its row, ``train/000000041``. Several splits are used as they are,
    by their names (:func:`data_prep.splits.named_split`); a single one is divided by a hash of the ids. Equal values
    of a column ``species`` or ``label`` are one species.

    Args:
        src: what ``datasets.load_dataset`` accepts: a folder whose files it recognises, or a name on the hub.
        out: the prepared folder to create, not inside `src`.
        size: side of the training images in pixels.
        fit: treatment of images that are not square; see `data_prep.images.FITS`.
        config: name of the configuration, of a data set that has several.
        image_column, caption_column: by default, the only column of images, and the first of ``CAPTIONS``. Captions
            are strings or lists of strings.
        limit: number of rows to read of each split; by default all.
        test_fraction: share of the images for the test split, at least 0 and below 1, if there is a single split.
        seed: of the split.
        captions: False prepares all images without captions, for unconditional training.
        overwrite: replace a prepared folder at `out`.
        workers: threads; by default the number of CPU cores, at most four.
        progress: show a progress bar on stderr.

    Raises:
        FileNotFoundError: neither a folder nor a data set of that name.
        ValueError: the package ``datasets`` is not installed, or a column or split is missing or ambiguous.
        FileExistsError: `out` exists.
    """
    threads = count_workers(workers)
    if Path(src).is_dir():
        check_folders(Path(src), Path(out), apart=True)
    if not 0 <= test_fraction < 1:
        raise ValueError(f"--test-fraction {test_fraction}: must be at least 0 and below 1")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: must be 1 or more")
    streams = _open(os.fspath(src), config)
    homes = _homes(src, list(streams))
    divided = len(streams) == 1 and test_fraction > 0
    columns = _columns(src, next(iter(streams.values())), image_column, caption_column if captions else "")
    source: dict[str, object] = {
        "captions": columns.caption or "none",
        "images": columns.image,
        "fit": fit,
        "limit": limit,
    }
    if not Path(src).exists():
        source |= {"hub": os.fspath(src), "config": config}
    if divided:
        source |= {"split": "rows", "test_fraction": test_fraction, "seed": seed}
    else:
        given = {home: sorted(name for name in homes if homes[name] == home) for home in sorted(set(homes.values()))}
        source |= {"split": "the data set", "split_names": given}
    with PreparedWriter(
        out,
        kind=OWN_PHOTOS,
        size=size,
        crop=FITS[fit],
        source=source,
        overwrite=overwrite,
        species_disjoint=False,
    ) as writer:
        read = partial(_read, columns, load_side(size), fit, test_fraction if divided else None, seed)
        write_photos(writer, _rows(streams, homes, columns, limit), read, workers=threads, progress=progress)
        if "train" not in writer.split_names and writer.split_names:
            raise ValueError(f"{src}: no images for training: all are in {', '.join(sorted(writer.split_names))}")
    return PreparedFolder.open(out)


# --- the data set --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Names of the columns.

    Attributes:
        decoded: whether ``datasets`` would decode the images.
        names: of the species, if these are numbers in the rows.
    """

    image: str
    decoded: bool
    caption: str | None
    species: str | None
    names: Sequence[str] = ()

    @property
    def used(self) -> list[str]:
        return [name for name in (self.image, self.caption, self.species) if name]


def _open(src: str, config: str | None) -> Mapping[str, Any]:
    """The splits of a data set, by name, as streams of rows."""
    try:
        import datasets
    except ImportError:
        raise ValueError('prepare datasets needs the package datasets: pip install "stackgan[datasets]"') from None
    try:
        return dict(datasets.load_dataset(src, config, streaming=True))
    except FileNotFoundError as error:  # also of a name that is not on the hub
        raise FileNotFoundError(f"{src}: {_first_line(error)}") from None
    except (ValueError, OSError, RuntimeError) as error:
        raise ValueError(f"{src}: cannot be read as a data set: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _homes(src: str | os.PathLike[str], names: Sequence[str]) -> dict[str, str]:
    """The split of the prepared folder for each one of the data set; a single one is for training."""
    if len(names) == 1:
        return {names[0]: "train"}
    homes = {name: named_split(name) for name in names}
    unknown = [name for name, home in homes.items() if home is None]
    if unknown:
        raise ValueError(f"{src}: the split {unknown[0]!r} is neither for training nor for test or validation")
    return {name: home for name, home in homes.items() if home is not None}


def _columns(src: str | os.PathLike[str], stream: Any, image: str | None, caption: str | None) -> _Columns:
    """The columns to read; ``caption`` is "" for none."""
    features = stream.features or stream._resolve_features().features
    shown = ", ".join(features)
    images = [name for name, feature in features.items() if _is_image(feature)]
    for name in filter(None, (image, caption)):
        if name not in features:
            raise ValueError(f"{src}: there is no column {name!r}; it has {shown}")
    if image is None and len(images) != 1:
        found = f"several columns of images, {', '.join(images)}" if images else f"no column of images among {shown}"
        raise ValueError(f"{src}: {found}; name one with --image-column")
    image = image or images[0]
    if not _is_image(features[image]) and getattr(features[image], "dtype", "") not in ("binary", "large_binary"):
        raise ValueError(f"{src}: the column {image!r} holds {features[image]}, no images")
    if caption is None:
        caption = next((name for name in CAPTIONS if name in features), None)
        if caption is None:
            raise ValueError(
                f"{src}: none of the columns {shown} is one of {', '.join(CAPTIONS)}; name the captions with "
                "--caption-column, or pass --no-captions to train without text"
            )
    species = next((name for name in SPECIES if name in features), None)
    decoded = type(features[image]).__name__ == "Image"
    return _Columns(image, decoded, caption or None, species, getattr(features.get(species), "names", None) or ())


def _is_image(feature: object) -> bool:
    """Whether a column holds images, or objects with their bytes, as in Parquet files without a description."""
    import datasets

    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature)


def _rows(
    streams: Mapping[str, Any], homes: Mapping[str, str], columns: _Columns, limit: int | None
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The split and the id of each row, and the row; images are not decoded."""
    import datasets

    for name, stream in streams.items():
        raw = stream.select_columns(columns.used)
        if columns.decoded:
            raw = raw.cast_column(columns.image, datasets.Image(decode=False))
        for number, row in enumerate(islice(raw, limit)):
            yield homes[name], f"{name}/{number:09d}", row


# --- rows ------------------------------------------------------------------------------------------


def _read(
    columns: _Columns,
    side: int,
    fit: Fit,
    test_fraction: float | None,
    seed: int,
    item: tuple[str, str, Mapping[str, Any]],
) -> Photo | Problem:
    """The image of a row as a square of ``side`` pixels, with its captions."""
    split, name, row = item
    if test_fraction is not None:
        split = "test" if hash_share(seed, name) < test_fraction else "train"
    try:
        captions = _captions(row[columns.caption], columns.caption) if columns.caption else ()
        image = open_rgb(_file(row[columns.image]), upright=True)
        with decoder_errors():
            square = to_square(image, side, fit)
    except ValueError as error:
        return Problem(name, str(error))
    return Photo(split, square, Record(name, captions, _species(row, columns)), image.size)


def _file(value: Any) -> Path | io.BytesIO:
    """The file of an image, or its bytes."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, bytes) and data:
        return io.BytesIO(data)
    if isinstance(value, dict) and value.get("path"):
        return Path(value["path"])
    raise ValueError("no image")


def _captions(value: Any, column: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in listed]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{column!r} is neither a string nor a list of strings")
    captions = tuple(caption for text in texts if (caption := tidy(text)))
    if not captions:
        raise ValueError(f"{column!r} is empty")
    return captions


def _species(row: Mapping[str, Any], columns: _Columns) -> str | None:
    value = row[columns.species] if columns.species else None
    if value is None or value == "":
        return None
    if columns.names and isinstance(value, int) and 0 <= value < len(columns.names):
        value = columns.names[value]
    return tidy(str(value)) or None

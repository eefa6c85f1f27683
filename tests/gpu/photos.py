"""Conversion of the photos of a prepared folder to small files, for transfers of limited size, and back.

    python -m tests.gpu.photos pack data/cub-256 carry --side 152 --limit 60
    python -m tests.gpu.photos unpack carry data/cub-64 --size 64

``pack`` writes the train split as WebP files in numbered ZIP archives of at most ``--limit`` MiB, in the split's
order, with the captions. ``unpack`` decodes them on all processors and writes an ordinary prepared folder, resized to
the load side of ``--size``. The pixels are not those of the prepared folder (WebP loses detail), so its
identity differs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side

CAPTIONS = "captions.jsonl"


def pack(data: Path, out: Path, side: int, quality: int, limit: int) -> list[Path]:
    """Write the archives; returns their paths."""
    split = PreparedFolder.open(data).train
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        photos = list(pool.map(partial(_encoded, data, side, quality), range(len(split)), chunksize=64))
    paths: list[Path] = []
    archive: zipfile.ZipFile | None = None
    used = 0
    for index, photo in enumerate(photos):
        if archive is None or used + len(photo) > limit * 2**20 - 65_536:
            if archive is not None:
                archive.close()
            paths.append(out / f"photos-{side}-{len(paths)}.zip")
            archive, used = zipfile.ZipFile(paths[-1], "w", zipfile.ZIP_STORED), 0
            if len(paths) == 1:
                lines = "\n".join(json.dumps([r.id, r.captions, r.species]) for r in split.records)
                archive.writestr(CAPTIONS, lines, zipfile.ZIP_DEFLATED)
                used += archive.getinfo(CAPTIONS).compress_size
        archive.writestr(f"{index:06d}.webp", photo)
        used += len(photo) + 128
    if archive is not None:
        archive.close()
    return paths


def _encoded(data: Path, side: int, quality: int, index: int) -> bytes:
    image = Image.fromarray(_images(data)[index])
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=5)
    return file.getvalue()


def _images(data: Path) -> NDArray[np.uint8]:
    return np.load(data / "train" / "images.npy", mmap_mode="r")  # type: ignore[no-any-return]


def unpack(archives: list[Path], captions: Path, out: Path, size: int) -> int:
    """Write a prepared folder for ``size`` px of the photos in ``archives``; returns their number."""
    with zipfile.ZipFile(captions) as first:
        records = [json.loads(line) for line in first.read(CAPTIONS).decode().splitlines()]
    count = 0
    with PreparedWriter(out, kind="cub", size=size, crop="as packed", source={"packed": "WebP"}) as writer:
        for index, pixels in _decoded(archives, load_side(size)):
            name, texts, species = records[index]
            writer.add("train", pixels, Record(name, tuple(texts), species))
            count += 1
    return count


def _decoded(archives: list[Path], side: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for path in archives:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".webp")]
                files = (archive.read(name) for name in names)
                decoded = pool.map(partial(_pixels, side), files, chunksize=32)
                yield from zip((int(name[:6]) for name in names), decoded, strict=True)


def _pixels(side: int, file: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(file)).convert("RGB")
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("data", type=Path)
    packing.add_argument("out", type=Path)
    packing.add_argument("--side", type=int, default=152, help="pixels of the packed photos")
    packing.add_argument("--quality", type=int, default=88, help="of WebP")
    packing.add_argument("--limit", type=int, default=60, help="MiB of an archive")
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("packed", type=Path, nargs="+", help="archives; the first one holds the captions")
    unpacking.add_argument("--out", type=Path, required=True)
    unpacking.add_argument("--size", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.command == "pack":
        for path in pack(arguments.data, arguments.out, arguments.side, arguments.quality, arguments.limit):
            print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    else:
        print(unpack(arguments.packed, arguments.packed[0], arguments.out, arguments.size), "photos")


if __name__ == "__main__":
    main()

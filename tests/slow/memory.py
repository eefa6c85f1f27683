"""Memory of ``stackgan prepare`` and ``stackgan train`` with many records: it hardly grows with their number.

    python -m tests.slow.memory [--records 100000 300000] [--folder /tmp/…] [override …]

Makes folders of PNGs of 8 × 8 px (hard links to a few files), with two different captions each in metadata.jsonl,
prepares them for 64 px, from a Parquet file too if ``datasets`` is installed, trains tiny networks for a few steps
with the quickstart's kinds of losses (hard negatives, augmented captions, contrastive encoder), and prints the peak
memory of each command. With several numbers of records also the slope in bytes a record, between the smallest and the
largest. Needs 20 kB of disk a record.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from tests.slow.processes import Memory, watch
from tests.tiny import TINY

FILES = 64  # different images
PER_FOLDER = 10_000  # images in one subfolder
LIMIT = 1500  # MB that a command may use
NAMES = ("red", "blue", "green", "yellow", "black", "white", "brown", "grey", "small", "large", "long", "short")
PARTS = ("wing", "tail", "crown", "beak", "belly", "back", "throat", "breast", "leg", "eye", "head", "nape", "rump")


def write_photos(folder: Path, records: int) -> None:
    """Photos in subfolders, and metadata.jsonl with two different captions for each."""
    draws, pixels = random.Random(0), np.random.default_rng(0)
    (folder / "source").mkdir(parents=True)
    names = [folder / "source" / f"{number}.png" for number in range(FILES)]
    for name in names:
        Image.fromarray(pixels.integers(0, 256, (8, 8, 3), np.uint8)).save(name)
    words = [f"{a}{b}" for a in NAMES for b in PARTS]
    with (folder / "photos.jsonl").open("w") as stream:
        for number in range(records):
            name = f"{number // PER_FOLDER:03d}/photo-{number:07d}.png"
            if number % PER_FOLDER == 0:
                (folder / "photos" / name).parent.mkdir(parents=True)
            os.link(names[number * FILES // max(records, 1) % FILES], folder / "photos" / name)
            texts = []
            for _ in range(2):
                (a, b, c), (x, y), odd = draws.sample(NAMES, 3), draws.sample(PARTS, 2), draws.choice(words)
                texts.append(f"a {a} bird with a {b} {x}, a {c} {y} and {odd} number {number % 9973}")
            stream.write(json.dumps({"file_name": name, "text": texts}) + "\n")
    (folder / "photos.jsonl").rename(folder / "photos" / "metadata.jsonl")


def write_parquet(folder: Path) -> None:
    """The same photos and captions in a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": image, "text": pa.list_(pa.string())})
    (folder / "parquet").mkdir()
    with (folder / "photos" / "metadata.jsonl").open() as lines, \
         pq.ParquetWriter(folder / "parquet" / "train.parquet", schema) as writer:  # fmt: skip
        while part := list(islice(lines, 1000)):
            rows = [json.loads(line) for line in part]
            images = [{"bytes": (folder / "photos" / row["file_name"]).read_bytes(), "path": None} for row in rows]
            writer.write_table(pa.table({"image": images, "text": [row["text"] for row in rows]}, schema=schema))


def measure(folder: Path, records: int, overrides: list[str]) -> dict[str, Memory]:
    write_photos(folder, records)
    log, found = folder / "log.txt", {}
    train = ["train", "--data", folder / "data", "--run", folder / "run", "--preset", "quickstart", *TINY]
    train += ["compact.dim=64", "compact.steps=50", "train.images=2000", "train.minutes=0", "loss.mismatch_hard=0.5"]
    train += ["text.reword=0.5", "loss.contrast=1", *overrides]
    commands: dict[str, list[object]] = {}
    if find_spec("datasets"):
        write_parquet(folder)
        commands["prepare datasets"] = ["prepare", "datasets", folder / "parquet", folder / "data", "--size", "64"]
    usual = ["prepare", "folder", folder / "photos", folder / "data", "--size", "64"]
    commands["prepare folder"] = [*usual, "--overwrite"] if commands else usual
    commands["train"] = train
    for name, command in commands.items():
        memory, seconds = watch(command, log)
        found[name] = memory
        print(f"{name}, {records:,} records: {memory}, {seconds:,.0f} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 300_000])
    parser.add_argument("--folder", type=Path, help="for the files, which are kept (default: a temporary one)")
    parser.add_argument("overrides", nargs="*", help="of the training's configuration, after --")
    args = parser.parse_args()
    base = args.folder or Path(tempfile.mkdtemp(prefix="stackgan-memory-"))
    found = {}
    for records in sorted(args.records):
        found[records] = measure(base / f"{records}", records, args.overrides)
        if args.folder is None:
            shutil.rmtree(base / f"{records}")
    low, high = min(found), max(found)
    for name, most in found[high].items():
        if high > low:
            slope = (most.own - found[low][name].own) * 1e6 / (high - low)
            print(f"{name}: {slope:,.0f} bytes a record without mapped files, {low:,} to {high:,} records")
        assert most.resident < LIMIT, f"{name}: {most}, more than {LIMIT} MB"
    print(f"{high:,} records: each command below {LIMIT:,} MB")


if __name__ == "__main__":
    main()

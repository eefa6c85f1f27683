"""Speed of the loader compared with the published one, its share of a training step, and time to prepare CUB.

    python -m tests.benchmarks.data [--rounds 9] [--photos 1000]

Published, for every image of every batch: open the JPEG, crop the box, resize to 76/64 of the size, crop at random,
flip, scale to each stage, convert to floats in [−1, 1]. Ours: the prepared folder, memory-mapped. One thread each,
batches of 24, files in the page cache.

- "bytes": the finest stage's crops as a uint8 batch on the CPU, from :class:`stackgan.data.sampler.Sampler`.
- "stages": floats of every stage, which the published loader computes image by image with Pillow and the training
  step here for the whole batch on its device (:func:`stackgan.data.sampler.to_stages`), here on one thread too.

The photos are those of CUB if it is beside the repository, else generated JPEGs of the same size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_prep.images import crop_box, to_square
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.images.photos import open_rgb
from tests.benchmarks.harness import Candidate, print_table, print_versions, race

CUB = Path(__file__).resolve().parents[3] / "shared" / "cub" / "birds"
BATCH, REPEATS = 24, 4
Boxed = tuple[Path, tuple[int, int, int, int]]


# --- photos -------------------------------------------------------------------------------------------------


def photos(count: int, folder: Path) -> list[Boxed]:
    """JPEGs and their boxes: those of CUB, or generated ones of 500 x 375 in ``folder``."""
    root = CUB / "CUB_200_2011"
    if not root.is_dir():
        return [_made_up(folder, i) for i in range(count)]
    names = dict(line.split() for line in (root / "images.txt").read_text().splitlines())
    boxes = [line.split() for line in (root / "bounding_boxes.txt").read_text().splitlines()]
    found: list[Boxed] = []
    for number, x, y, w, h in boxes:
        file = root / "images" / names[number]
        if file.is_file():
            found.append((file, (int(float(x)), int(float(y)), int(float(w)), int(float(h)))))
    return found[:: max(1, len(found) // count)][:count]


def _made_up(folder: Path, number: int) -> Boxed:
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    fine = rng.normal(0, 6, (375, 500, 3))
    pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)) + fine
    file = folder / f"{number}.jpg"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=92)
    return file, (100, 75, 260, 220)


def prepared(files: list[Boxed], size: int, out: Path) -> Path:
    """The photos as a prepared folder, with the published crop."""
    with PreparedWriter(out, kind="folder", size=size, crop="benchmark", source={}) as writer:
        for number, (file, box) in enumerate(files):
            image = open_rgb(file, upright=False)
            square = to_square(image.crop(crop_box(box, *image.size)), writer.load_side, "stretch")
            writer.add("train", square, Record(str(number), (f"bird {number}",)))
    return out


# --- candidates --------------------------------------------------------------------------------------------


def make_published(files: list[Boxed], size: int, stages: bool) -> Callable[[], object]:
    """The published loader in its plain form: one image after the other."""
    rng = np.random.default_rng(0)
    load, sizes = size * 76 // 64, [s for s in (64, 128, 256) if s <= size]

    def picture(file: Path, box: tuple[int, int, int, int]) -> Image.Image:
        image = Image.open(file).convert("RGB")
        image = image.crop(crop_box(box, *image.size)).resize((load, load), Image.Resampling.BILINEAR)
        x, y = rng.integers(load - size + 1, size=2)
        image = image.crop((x, y, x + size, y + size))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image

    def scaled(image: Image.Image, side: int) -> torch.Tensor:
        small = image if side == size else image.resize((side, side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous().float().div(255).sub(0.5).div(0.5)

    def work() -> None:
        for _ in range(REPEATS):
            images = [picture(*files[i]) for i in rng.integers(len(files), size=BATCH)]
            if stages:
                [torch.stack([scaled(image, side) for image in images]) for side in sizes]
            else:
                torch.from_numpy(np.stack([np.asarray(image) for image in images]))

    return work


def make_ours(folder: Path, size: int, stages: bool) -> Callable[[], object]:
    """The sampler, and optionally the conversion of its batches to floats in the training step."""
    from stackgan.data.sampler import Sampler
    from stackgan.images.pixels import to_stages

    split = PreparedFolder.open(folder).splits["train"]
    sampler = Sampler(split, None, size=size, batch_size=BATCH, seed=0)
    sizes = tuple(s for s in (64, 128, 256) if s <= size)
    step = 0

    def work() -> None:
        nonlocal step
        for _ in range(REPEATS):
            batch = sampler.batch(step)
            if stages:
                to_stages(batch.real, sizes, torch.device("cpu"))
            step += 1

    return work


# --- tables -------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--photos", type=int, default=1000, help="to load from (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="of the training step's table")
    args = parser.parse_args()
    print_versions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = photos(args.photos, folder)
        rows = []
        for size in (256, 64):
            data = prepared(files, size, folder / str(size))
            rows += [_race(files, data, size, stages, args.rounds) for stages in (False, True)]
        header = ("size", "up to", "published, images/s", "ours, images/s", "times (quartiles)")
        print_table(f"Images a second on one thread, {len(files)} photos", header, rows)
        header = ("preset", "step", "a batch made alone", "waited for data", "share of the step waited")
        print_table("Data and the training step", header, [_step(folder / "64", "modern", args.steps)])
        if CUB.is_dir():
            header = ("size", "photos", "photos/s", "peak MiB")
            print_table("prepare cub", header, [_prepare(size, half) for size in (64, 256) for half in (True, False)])


def _race(files: list[Boxed], data: Path, size: int, stages: bool, rounds: int) -> list[object]:
    work = {"size": size, "stages": stages}
    units = BATCH * REPEATS
    times = race(
        [
            Candidate("published", make_published, work | {"files": files}, threads=1, units=units),
            Candidate("ours", make_ours, work | {"folder": data}, threads=1, units=units),
        ],
        rounds,
    )
    middle, low, high = times["ours"].faster_than(times["published"])
    rates = [f"{1 / times[name].median:,.0f}" for name in ("published", "ours")]
    return [size, "stages" if stages else "bytes", *rates, f"{middle:.1f} ({low:.1f} to {high:.1f})"]


def _step(data: Path, name: str, steps: int) -> list[object]:
    """Time of a training step of a preset, and the part of it spent waiting for the batch."""
    from stackgan.config import preset
    from stackgan.data.sampler import Sampler, WrongPairs
    from stackgan.runtime.allocator import keep_pages
    from stackgan.training.state import Run
    from stackgan.training.step import train_step

    keep_pages()
    config = preset(name, ["text.dim=256", "train.minutes=0", "loss.contrast=0"])
    split = PreparedFolder.open(data).splits["train"]
    rows = np.random.default_rng(0).standard_normal((len(split.captions), 256), dtype=np.float32)
    sampler = Sampler(
        split,
        rows,
        size=64,
        batch_size=config.optim.batch_size,
        seed=0,
        wrong=WrongPairs(config.loss.mismatch, config.loss.mismatch_hard),
    )
    run = Run.start(config, torch.device("cpu"))
    waited, stepped = [], []
    for step in range(steps):
        began = time.perf_counter()
        batch = sampler.batch(step)
        waited.append(time.perf_counter() - began)
        train_step(run, batch)
        run.progress.step += 1
        stepped.append(time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(50):
        step += 1
        sampler.batch(step)  # without a step in between, the whole time is waiting
    alone = (time.perf_counter() - began) / 50
    wait, whole = float(np.median(waited[2:])), float(np.median(stepped[2:]))
    return [name, f"{whole * 1e3:.0f} ms", f"{alone * 1e3:.2f} ms", f"{wait * 1e3:.2f} ms", f"{wait / whole:.2%}"]


# Peak memory from /proc, as getrusage would include the parent process that it was forked from.
_PREPARE = r"""
import re, sys, time
from data_prep.cub import prepare_cub
began = time.perf_counter()
folder = prepare_cub(sys.argv[1], sys.argv[2], size=int(sys.argv[3]), allow_missing=True, progress=False)
seconds = time.perf_counter() - began
count = sum(len(split) for split in folder.splits.values())
print(count, count / seconds, int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


def _prepare(size: int, half: bool) -> list[object]:
    """``stackgan prepare cub`` of all photos, or of every other species only, in a separate process."""
    with tempfile.TemporaryDirectory() as name:
        source = _half(Path(name) / "birds") if half else CUB
        command = [sys.executable, "-c", _PREPARE, str(source), str(Path(name) / "out"), str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, rate, peak = map(float, done.stdout.split())
        return [size, f"{count:,.0f}", f"{rate:,.0f}", f"{peak:.0f}"]


def _half(folder: Path) -> Path:
    """CUB's folder with links to every other species' photos."""
    root = folder / "CUB_200_2011"
    (root / "images").mkdir(parents=True)
    for file in CUB.iterdir():
        if file.name != root.name:
            (folder / file.name).symlink_to(file)
    for file in (CUB / root.name).iterdir():
        if file.name != "images":
            (root / file.name).symlink_to(file)
    for species in sorted((CUB / root.name / "images").iterdir())[::2]:
        (root / "images" / species.name).symlink_to(species)
    return folder


if __name__ == "__main__":
    main()

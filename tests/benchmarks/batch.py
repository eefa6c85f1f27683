"""``stackgan batch`` end to end, compared with the generator alone; and its memory over time.

    python -m tests.benchmarks.batch [--rounds 7] [--pictures 240] [--threads N]

The checkpoints are painted-64 and an untrained one of the published size (width 64, three stages, 256 px) with
painted-64's caption encoder: the time per image does not depend on the weights. "Generator alone" generates the same
captions and seeds in batches of the same size and discards the images; ``batch`` does everything that the command
does except loading the checkpoint, whose time does not depend on the number of images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from stackgan.images.png import png_bytes
from tests.benchmarks.harness import Candidate, Times, print_table, print_versions, race
from tests.tiny import calibrate

ROOT = Path(__file__).resolve().parents[2]
PAINTED = ROOT / "checkpoints" / "painted-64"
PHOTOS = ROOT.parent / "shared" / "cub" / "birds"
BATCH = 16
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "grey", "orange", "purple")


def captions(count: int) -> list[str]:
    """Distinct captions of birds, in the vocabulary of the training captions."""
    texts = [
        f"a small {body} bird with {wing} wings and a {crown} crown"
        for body in COLOURS
        for wing in COLOURS
        for crown in COLOURS
    ]
    return texts[:count]


def save_legacy(folder: Path) -> Path:
    """A checkpoint of the published size with random weights and painted-64's caption encoder."""
    from stackgan.config import preset
    from stackgan.model import StackGAN
    from stackgan.pipeline import StackGANPipeline

    encoder = StackGANPipeline.from_pretrained(PAINTED).text_encoder
    assert encoder is not None
    torch.manual_seed(0)
    model = StackGAN(preset("legacy", [f"text.dim={encoder.dim}", "text.encoder=compact"]))
    calibrate(model)  # otherwise images are nearly uniform and their PNGs unrealistically small
    StackGANPipeline(model, encoder).save_pretrained(folder)
    return folder


# --- candidates --------------------------------------------------------------------------------------------


def make_bare(checkpoint: Path, pictures: int, precision: str) -> Callable[[], object]:
    """Generation alone: codes, latents and the finest stage of the tree."""
    from stackgan.pipeline import StackGANPipeline

    pipe = StackGANPipeline.from_pretrained(checkpoint, precision=precision)
    embeddings = pipe.encode(captions(pictures))

    @torch.inference_mode()
    def work() -> None:
        for start in range(0, pictures, BATCH):
            seeds = range(start, min(start + BATCH, pictures))
            pipe.generate(embeddings[start : start + BATCH], seeds, stages=[len(pipe.sizes) - 1])

    return work


def make_batch(checkpoint: Path, pictures: int, precision: str) -> Callable[[], object]:
    """``stackgan batch`` into an empty folder, with the checkpoint loaded before."""
    from stackgan.generation.batch import batch
    from stackgan.pipeline import StackGANPipeline

    pipe = StackGANPipeline.from_pretrained(checkpoint, precision=precision)
    StackGANPipeline.from_pretrained = lambda *_, **__: pipe  # type: ignore[method-assign,assignment]

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            file = Path(folder) / "captions.txt"
            file.write_text("\n".join(captions(pictures)))
            with contextlib.redirect_stdout(io.StringIO()):
                batch(file, checkpoint=checkpoint, out=Path(folder) / "out", batch_size=BATCH, precision=precision)

    return work


# --- tables -------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pictures", type=int, default=240, help="a round (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--memory", type=int, nargs=2, default=(200, 1000), help="images (default: 200 1000)")
    args = parser.parse_args()
    print_versions()
    with tempfile.TemporaryDirectory() as folder:
        legacy = save_legacy(Path(folder) / "legacy")
        rows = [
            _speed("published size, 256 px, fp32", legacy, "fp32", args),
            _speed("published size, 256 px, bf16", legacy, "bf16", args),
            _speed("painted-64, 64 px, fp32", PAINTED, "fp32", args),
        ]
        print_table("Milliseconds per image", ("checkpoint", "bare", "batch", "bare / batch (quartiles)"), rows)
        print_table(
            "Milliseconds and kB per PNG, one thread", ("images", "here", "Pillow 1", "Pillow 6"), _pngs(legacy)
        )
        rows = [
            _memory("published size, 256 px", legacy, *args.memory),
            _memory("painted-64, 64 px", PAINTED, *args.memory),
        ]
        header = ("checkpoint", *(f"{count} images" for count in args.memory), "difference")
        print_table("Peak memory, MiB", header, rows)


def _speed(name: str, checkpoint: Path, precision: str, args: argparse.Namespace) -> list[str]:
    work = {"checkpoint": checkpoint, "pictures": args.pictures, "precision": precision}
    candidates = [
        Candidate("bare", make_bare, work, units=args.pictures, threads=args.threads),
        Candidate("batch", make_batch, work, units=args.pictures, threads=args.threads),
    ]
    times = race(candidates, rounds=args.rounds, warm_up=1)
    middle, low, high = times["batch"].faster_than(times["bare"])
    return [name, _ms(times["bare"]), _ms(times["batch"]), f"{middle:.1%} ({low:.1%} to {high:.1%})"]


def _pngs(legacy: Path) -> list[list[str]]:
    """Time and size of a PNG: of an untrained generator's images, and of real photos."""
    from stackgan.pipeline import StackGANPipeline

    untrained = StackGANPipeline.from_pretrained(legacy)(captions(BATCH), seeds=list(range(BATCH))).images
    rows = [_png_row("untrained generator, 256 px", untrained)]
    photos = sorted(PHOTOS.rglob("*.jpg"))[:: 5000 // BATCH] if PHOTOS.is_dir() else []
    if photos:
        opened = [Image.open(file).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR) for file in photos]
        rows.append(_png_row("photos, 256 px", opened))
    return rows


def _png_row(name: str, images: list[Image.Image]) -> list[str]:
    ways: list[Callable[[Image.Image], bytes]] = [
        lambda image: png_bytes(image, {"caption": "a bird"}),
        lambda image: _pillow(image, 1),
        lambda image: _pillow(image, 6),
    ]
    row = [name]
    for way in ways:
        seconds = []
        for image in images * 3:
            began = time.perf_counter()
            way(image)
            seconds.append(time.perf_counter() - began)
        size = sum(len(way(image)) for image in images)
        row.append(f"{statistics.median(seconds) * 1e3:.1f} ms, {size / len(images) / 1e3:.0f} kB")
    return row


def _pillow(image: Image.Image, level: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=level)
    return content.getvalue()


def _ms(times: Times) -> str:
    return f"{times.median * 1e3:.2f}"


def _memory(name: str, checkpoint: Path, *counts: int) -> list[str]:
    peaks = []
    for count in counts:
        one = Candidate("batch", make_batch, {"checkpoint": checkpoint, "pictures": count, "precision": "fp32"})
        peaks.append(race([one], rounds=1, warm_up=0)["batch"].peak_mib)
    return [name, *(f"{peak:.0f}" for peak in peaks), f"{peaks[-1] - peaks[0]:+.0f}"]


if __name__ == "__main__":
    main()

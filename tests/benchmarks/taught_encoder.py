"""R-precision of a caption encoder that was taught to predict stored embeddings, against that of its teacher.

    python -m tests.benchmarks.taught_encoder --data DATA --teacher FOLDER [--steps 4000]

The teacher (a sentence encoder of transformers) embeds all captions of a prepared folder. Its embeddings of the train
split are stored in a copy of the split under a name, as embeddings of char-CNN-RNN are, and the compact encoder is
trained with ``compact.teacher=precomputed:NAME``: it sees the captions and the stored rows, never the teacher. Both
then embed the captions of the test split, of other species. R-precision is that of AttnGAN (arXiv:1711.10485), with
one relevant item among 100, by cosine similarity of centred embeddings:

- "same caption": the taught embedding of a caption against the teacher's embeddings of it and of 99 others, of other
  photos;
- "same photo": the embedding of a photo's first caption against those of its second and of 99 of other photos, with
  either encoder.

The range after ± is the standard deviation over 1,000 resamples of the photos.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stackgan.config import CompactConfig
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.text.base import TextEncoder
from stackgan.text.contrastive import train_compact_encoder
from stackgan.text.load import load_text_encoder
from tests.benchmarks.harness import print_table, print_versions

NAME = "taught-by"
OTHERS, SEED, BATCH = 99, 0, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with a train and a test split")
    parser.add_argument("--teacher", required=True, help="folder of a sentence encoder")
    parser.add_argument("--steps", type=int, default=4000)
    arguments = parser.parse_args()
    print_versions()
    data = PreparedFolder.open(arguments.data)
    teacher = load_text_encoder(arguments.teacher)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        split = with_embeddings(data, teacher, Path(folder))
        embedded = time.perf_counter()
        settings = CompactConfig(teacher=f"precomputed:{NAME}", steps=arguments.steps)
        student = train_compact_encoder(split, settings, seed=SEED, progress=False)
        trained = time.perf_counter()
    print(
        f"{len(split.captions):,} captions embedded in {embedded - start:.0f} s, {arguments.steps} steps in ", end=""
    )
    print(f"{trained - embedded:.0f} s; {student.dim} dimensions")
    test = data.splits["test"]
    first, second = (pick(test, place) for place in (0, 1))
    told = {"teacher": encode(teacher, [*first, *second]), "taught encoder": encode(student, [*first, *second])}
    mean = told["teacher"].mean(0)
    units = {name: F.normalize(rows - mean, dim=1) for name, rows in told.items()}
    count = len(first)
    rows = [["same caption", "–", found(units["taught encoder"][:count], units["teacher"][:count])]]
    rows.append(["same photo", *(found(unit[:count], unit[count:]) for unit in units.values())])
    error = (told["taught encoder"] - told["teacher"]).square().sum() / (told["teacher"] - mean).square().sum()
    print_table(f"{count} photos of other species, one of {OTHERS + 1}", ["", *units], rows)
    print(f"variance of the teacher's embeddings that is predicted: {1 - error:.3f}")


def with_embeddings(data: PreparedFolder, teacher: TextEncoder, folder: Path) -> PreparedSplit:
    """The train split in a folder of links, with the teacher's embeddings stored beside them."""
    for name in (data.path / "dataset.json", data.path / "test"):
        (folder / name.name).symlink_to(name.resolve())
    (folder / "train").mkdir()
    for file in (data.path / "train").iterdir():
        if file.name != "embeddings":
            (folder / "train" / file.name).symlink_to(file.resolve())
    split = PreparedFolder.open(folder).train
    split.store_embeddings(NAME, encode(teacher, list(split.captions)).numpy())
    return split


def pick(split: PreparedSplit, place: int) -> list[str]:
    """The caption at a place of each photo."""
    return [split.captions[int(start) + place] for start in split.offsets[:-1]]


def encode(encoder: TextEncoder, captions: list[str]) -> Tensor:
    order = sorted(range(len(captions)), key=lambda row: len(captions[row]))  # captions of a length together
    out = torch.empty(len(captions), encoder.dim)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        out[part] = encoder.encode([captions[row] for row in part])
    return out


def found(asked: Tensor, items: Tensor) -> str:
    """Share of rows of ``asked`` whose own row of ``items`` is nearer than those of 99 others, with its deviation."""
    draws, count = np.random.default_rng(SEED), len(asked)
    right = np.empty(count)
    for row in range(count):
        others = (row + 1 + draws.choice(count - 1, OTHERS, replace=False)) % count
        near = items[torch.as_tensor(others)] @ asked[row]
        right[row] = float(items[row] @ asked[row] > near.max())
    return f"{100 * right.mean():.1f} ± {100 * resampled(right):.1f} %"


def resampled(values: NDArray[np.float64]) -> float:
    draws = np.random.default_rng(SEED)
    return float(np.std([values[draws.integers(0, len(values), len(values))].mean() for _ in range(1000)]))


if __name__ == "__main__":
    main()

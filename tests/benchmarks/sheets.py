"""Numbered sheets of images for captions of a test split, to look at and to count failures on.

    python -m tests.benchmarks.sheets --checkpoint CHECKPOINT --data DATA --count 200 --best-of 16 --out FOLDER

The captions are evenly spread over those of the split, image i has seed i; nothing is selected by a person. Sheets
are named after the number of their first image. Captions of CUB-200-2011 and its images may not be passed on: FOLDER
is for looking only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from stackgan.data.prepared import PreparedFolder
from stackgan.images.grid import caption_sheet
from stackgan.pipeline import StackGANPipeline

COLUMNS, ROWS = 5, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with a test split, of any size")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--best-of", type=int, default=1)
    parser.add_argument("--truncation", type=float, help="default: the checkpoint's")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    captions = PreparedFolder.open(arguments.data).splits["test"].captions
    chosen = [captions[row] for row in np.linspace(0, len(captions) - 1, arguments.count).round().astype(int)]
    pipe = StackGANPipeline.from_pretrained(arguments.checkpoint)
    truncation = pipe.truncation if arguments.truncation is None else arguments.truncation
    arguments.out.mkdir(parents=True, exist_ok=True)
    for first in range(0, arguments.count, COLUMNS * ROWS):
        part = chosen[first : first + COLUMNS * ROWS]
        seeds = [*range(first, first + len(part))]
        made = pipe(part, seeds=seeds, truncation=truncation, size=pipe.sizes[-1], best_of=arguments.best_of)
        titles = (f"{seed}: {caption}" for seed, caption in zip(seeds, part, strict=True))
        rows = [(title, [image]) for title, image in zip(titles, made.images, strict=True)]
        caption_sheet(rows, COLUMNS, pipe.sizes[-1]).save(arguments.out / f"{first:03}.png")
        print(f"{first + len(part)} of {arguments.count}", flush=True)


if __name__ == "__main__":
    main()

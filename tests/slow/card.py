"""Run the commands of a model card in a row, with short trainings: from photos to a published checkpoint.

    python -m tests.slow.card --birds BIRDS --out FOLDER

Runs in FOLDER, where BIRDS, captions.txt and the other names of the card are. Every training gets the settings that
the card names for a CPU (its sentence "On a CPU, set `…`") and the minutes of ``--minutes``, the caption encoder
``--encoder-steps`` and the fit of p(c) ``--prior-steps``; nothing else of the card is changed. The photos may be a
part of CUB-200-2011 (``--allow-missing`` is added); with ``--prepared``, the card's preparation is left out. Ends
with exit code 1 at the first command that fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from stackgan.pipeline import StackGANPipeline
from tests.test_readme import ROOT, commands, is_stackgan

CARD = ROOT / "checkpoints" / "birds-256"
ON_CPU = re.compile(r"On a CPU, set `([^`]+)`")


def shortened(words: list[str], minutes: Iterator[float], arguments: argparse.Namespace) -> list[str]:
    """A command of the card with what makes it short; ``minutes``: of the trainings, in order."""
    if not is_stackgan(words):
        return words
    if words[1] == "prepare":
        return [*words, "--allow-missing"]
    if words[1] == "fit-prior":
        return [*words, "--steps", str(arguments.prior_steps)]
    if words[1] != "train":
        return words
    (settings,) = ON_CPU.findall((CARD / "README.md").read_text("utf-8"))
    words = [*words, *settings.split(), f"train.minutes={next(minutes):g}"]
    if "--start-from" not in words:
        words.append(f"compact.steps={arguments.encoder_steps}")
        if arguments.teacher is not None:
            words.append(f"compact.teacher={arguments.teacher.resolve()}")
    return words


def run(words: list[str], folder: Path) -> float:
    """Seconds of a command in ``folder``; its output follows as it comes. Raises CalledProcessError if it fails."""
    print(f"$ {shlex.join(words)}", flush=True)
    module = words[2:] if words[:2] == ["python", "-m"] else words
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *module], cwd=folder, env=environment, check=True)
    seconds = time.perf_counter() - start
    print(f"took {seconds:.0f} s", flush=True)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--birds", type=Path, help="AttnGAN's birds/, as for `stackgan prepare cub`")
    source.add_argument("--prepared", type=Path, help="folder with CUB-64, CUB-128 and CUB-256, prepared before")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--minutes", type=float, nargs=3, default=(4.0, 3.0, 3.0), help="of the three trainings")
    parser.add_argument("--encoder-steps", type=int, default=60)
    parser.add_argument("--prior-steps", type=int, default=100)
    parser.add_argument("--teacher", type=Path, help="folder with the sentence encoder, instead of the hub")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    if arguments.prepared is None:
        (arguments.out / "BIRDS").symlink_to(arguments.birds.resolve())
    else:
        for folder in arguments.prepared.glob("CUB-*"):
            (arguments.out / folder.name).symlink_to(folder.resolve())
    (arguments.out / "captions.txt").symlink_to(CARD / "captions.txt")
    minutes, taken = iter(arguments.minutes), []
    made = arguments.out / "checkpoints" / CARD.name
    found = commands(CARD / "README.md")
    last = next(i for i, words in enumerate(found) if made.relative_to(arguments.out).as_posix() in words)
    for words in found[: last + 1]:
        if words[1] == "prepare" and arguments.prepared is not None:
            continue
        name = words[1] if is_stackgan(words) else words[2]
        try:
            taken.append((name, run(shortened(words, minutes, arguments), arguments.out)))
        except subprocess.CalledProcessError as error:
            print(f"failed with exit code {error.returncode}: {shlex.join(words)}")
            return 1
    pipe = StackGANPipeline.from_pretrained(made)
    images = pipe(pipe.examples, truncation=pipe.truncation, seeds=0).images
    assert [image.size[0] for image in images] == [256] * len(pipe.examples) and images
    print(f"{len(taken)} commands: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in taken))
    print(f"{made}: {len(images)} images of {pipe.sizes[-1]} px, truncation {pipe.truncation:g}, {pipe!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

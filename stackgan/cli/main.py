"""The command line.

prepare | train | pack | unpack | generate | batch | edit | sample | walk | evaluate | study | convert | doctor

Wrong input ends with one line on stderr and exit code 2; Ctrl-C with 130; train --stop-after with 3 while the run is
not done.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

__all__ = ["main"]

DEFAULT_CHECKPOINT = "checkpoints/birds-64"
PHOTO_CHECKPOINT = "checkpoints/painted-64"  # the bundled one that reads pictures
MAX_SEEDS = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    try:
        from stackgan.runtime.allocator import keep_pages

        keep_pages()
        return int(args.run(args))
    except (ValueError, OSError) as error:
        if os.environ.get("STACKGAN_TRACEBACK"):
            raise
        message = str(error)
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}"
        print("stackgan: " + " ".join(message.split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstackgan: stopped", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are told in one line too, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see --help\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stackgan",
        description="Text to image with StackGAN++: train on captions and photos, generate, batch-generate.",
        epilog="Set STACKGAN_TRACEBACK=1 to see the whole traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    import data_prep.command

    command = commands.add_parser(
        "prepare", help="make a prepared folder from CUB, your own photos, or painted birds"
    )
    data_prep.command.add_arguments(command)
    command.set_defaults(run=data_prep.command.run)

    command = commands.add_parser("train", help="train, or go on training, on a prepared folder")
    command.add_argument("overrides", nargs="*", metavar="section.key=value", help="change one key of the preset")
    command.add_argument("--data", required=True, type=Path, help="prepared folder")
    command.add_argument("--run", type=Path, dest="run_folder", metavar="RUN", help="run folder")
    command.add_argument("--preset", help="legacy, quickstart, modern (default: modern)")
    command.add_argument(
        "--start-from",
        type=Path,
        metavar="FOLDER",
        help="run folder or checkpoint whose weights and keys to begin with",
    )
    command.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    command.add_argument("--dry-run", action="store_true", help="check everything, print the configuration, stop")
    command.add_argument(
        "--stop-after",
        type=float,
        metavar="MINUTES",
        help="save and end this call after so long, with exit code 3 while the run is not done",
    )
    fit = command.add_argument_group("fit flow priors to a finished checkpoint, without touching its pictures")
    fit.add_argument("--fit-prior", action="store_true", help="needs --checkpoint and --out in place of --run")
    fit.add_argument("--checkpoint", type=Path, help="published checkpoint to start from")
    fit.add_argument("--out", type=Path, help="folder of the checkpoint to write")
    fit.add_argument("--steps", type=int, default=3000, help="steps for each flow (default: %(default)s)")
    command.set_defaults(run=_train)

    command = commands.add_parser("pack", help="a folder as numbered pieces, to carry it to another machine")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="prepared folder, run folder, checkpoint")
    command.add_argument("pieces", type=Path, metavar="PIECES", help="folder for the pieces and their manifest.json")
    command.add_argument(
        "--limit", type=float, default=50.0, metavar="MIB", help="size of a piece at most (default: %(default)g)"
    )
    command.add_argument("--only", metavar="NAME,NAME", help="names in FOLDER, such as checkpoint (default: all)")
    command.set_defaults(run=_pack)

    command = commands.add_parser("unpack", help="put a folder together again from its pieces")
    command.add_argument("pieces", type=Path, metavar="PIECES", help="folder of the pieces and their manifest.json")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="folder to make")
    command.add_argument(
        "--overwrite", action="store_true", help="replace FOLDER if it holds nothing that the pieces do not"
    )
    command.set_defaults(run=_unpack)

    command = commands.add_parser("generate", help="paint captions given on the command line")
    command.add_argument("captions", nargs="*", metavar="CAPTION", help="none for a checkpoint trained without text")
    _add_checkpoint(command)
    command.add_argument("--out", type=Path, default=Path("out"), help="folder for the PNGs (default: %(default)s)")
    command.add_argument("--seeds", default="0-7", help="such as 0-7 or 1,5,9 (default: %(default)s)")
    _add_sampling(command)
    command.add_argument("--size", type=int, help="side of the stage to save (default: the finest)")
    command.set_defaults(run=_generate)

    command = commands.add_parser("batch", help="paint every line of a text file; goes on where it was stopped")
    command.add_argument("file", type=Path, help="captions.txt (one a line), .jsonl or .csv (caption, seed, count)")
    _add_checkpoint(command)
    command.add_argument("--out", required=True, type=Path, help="folder for the PNGs and manifest.jsonl")
    command.add_argument("--count", type=int, default=1, help="pictures a caption (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="drives all pictures (default: %(default)s)")
    _add_sampling(command)
    command.add_argument("--size", type=int, help="side of the stage to save (default: the finest)")
    command.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the generator: for thousands of pictures on a GPU; on a processor it gains nothing",
    )
    command.set_defaults(run=_batch)

    command = commands.add_parser("edit", help="paint your own photo with other words")
    command.add_argument("photo", type=Path, help="a picture; the square of its middle is used")
    command.add_argument("caption", help="what the photo shows")
    command.add_argument("new_captions", nargs="*", metavar="NEW", help="what it is to show; none: reconstruct it")
    _add_checkpoint(command, PHOTO_CHECKPOINT)
    command.add_argument("--out", type=Path, default=Path("out"), help="folder for the PNGs (default: %(default)s)")
    command.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    command.set_defaults(run=_edit)

    command = commands.add_parser("sample", help="paint without any words")
    _add_checkpoint(command)
    command.add_argument("--out", type=Path, default=Path("out"), help="folder for the PNGs (default: %(default)s)")
    command.add_argument("--seeds", default="0-7", help="such as 0-7 or 1,5,9 (default: %(default)s)")
    _add_truncation(command)
    command.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    command.set_defaults(run=_sample)

    command = commands.add_parser("walk", help="film the way from one caption or seed to another")
    command.add_argument("captions", nargs=2, metavar="CAPTION", help="from, to")
    _add_checkpoint(command)
    command.add_argument("--out", type=Path, default=Path("walk.gif"), help=".gif or .mp4 (default: %(default)s)")
    command.add_argument("--seeds", default="0,0", help="from,to (default: %(default)s)")
    command.add_argument("--frames", type=int, default=24, help="default: %(default)s")
    _add_truncation(command)
    command.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    command.set_defaults(run=_walk)

    command = commands.add_parser("evaluate", help="measure a checkpoint: report.json, report.html and sheets")
    _add_checkpoint(command)
    command.add_argument("--data", required=True, type=Path, help="prepared folder")
    command.add_argument("--out", required=True, type=Path, metavar="REPORT", help="folder to write; resumable")
    command.add_argument("--split", default="test", help="default: %(default)s")
    command.add_argument("--num", type=int, default=30_000, help="pictures to paint (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    command.add_argument(
        "--inception",
        metavar="auto|FILE",
        help="FID, KID and Inception score: auto fetches the weights once, FILE names them",
    )
    command.add_argument(
        "--features", type=Path, metavar="FOLDER", help="a feature network: the same distances under its name"
    )
    command.add_argument(
        "--flip-reference", action="store_true", help="mirror images of the photos are reference photos too"
    )
    command.add_argument(
        "--scorer",
        "--judge",
        type=Path,
        metavar="FOLDER",
        help="a compact dual encoder trained apart, for R-precision (default: one is trained and kept)",
    )
    command.add_argument("--clip", metavar="FOLDER", help="a CLIP model, its hub name too, for the CLIP score")
    command.add_argument(
        "--hide-captions",
        action="store_true",
        help="under pictures name their captions' colours alone: for data whose captions may not be passed on",
    )
    command.add_argument(
        "--truncation",
        type=float,
        default=1.0,
        help="of the pictures measured (default: 1, the model's own, whatever the checkpoint recommends)",
    )
    command.add_argument(
        "--out-of-domain",
        "--unlike",
        type=Path,
        metavar="FILE",
        help="text file of sentences that are no captions, one a line: how well log p(c) detects them",
    )
    command.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("study", help="the mathematics of the latent modules on small data, with figures")
    command.add_argument("name", help="kl, vae-digits, flow-digits, flow-2d, latents or recipe")
    command.add_argument("--out", type=Path, help="folder for figures and numbers.json (default: study/NAME)")
    command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    command.add_argument(
        "--data", type=Path, help="latents: painted birds (default: painted anew); recipe: photos at 64 px"
    )
    command.add_argument("--features", type=Path, help="latents, recipe: folder of a feature network, for distances")
    command.add_argument("--images", type=int, help="latents: pictures that every model sees (default: 33000)")
    command.add_argument("--minutes", type=float, help="recipe: of training each (default: 20)")
    command.add_argument("--seeds", type=int, help="latents, recipe: how many (default: 3 and 1)")
    command.add_argument("--rows", help="recipe: names joined by commas (default: all)")
    command.set_defaults(run=_study)

    command = commands.add_parser("convert", help="import the published StackGAN-v2 weights")
    command.add_argument("netg", type=Path, help="netG_<count>.pth (or the ZIP around it)")
    command.add_argument("--netd", type=Path, nargs="*", default=[], help="netD0.pth …: written beside, for training")
    command.add_argument("--out", required=True, type=Path, help="folder of the checkpoint to write")
    command.set_defaults(run=_convert)

    command = commands.add_parser("publish", help="a finished checkpoint as one to pass on, in half precision")
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="RUN/checkpoint, RUN/best, or another")
    command.add_argument("out", type=Path, metavar="OUT", help="folder; a card and pictures that stand there stay")
    command.add_argument("--full", action="store_true", help="keep float32: twice the size, the same pictures")
    command.add_argument("--truncation", type=float, help="what to paint with unless told (default: as it was)")
    command.add_argument("--captions", type=Path, metavar="FILE", help="example captions, which the app offers")
    command.add_argument(
        "--discriminators", type=Path, metavar="RUN", help="give RUN's along, so that others can train on from OUT"
    )
    command.set_defaults(run=_publish)

    command = commands.add_parser(
        "average", help="the mean of several moments of one run, which can be better than each"
    )
    command.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="two or more, such as RUN/best RUN/checkpoint"
    )
    command.add_argument("--data", required=True, type=Path, help="the prepared folder that the run was trained on")
    command.add_argument("--out", required=True, type=Path, help="folder of the checkpoint to write")
    command.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    command.set_defaults(run=_average)

    command = commands.add_parser("doctor", help="what this machine can do for the program, and what is missing")
    _add_checkpoint(command)
    command.set_defaults(run=_doctor)
    return parser


def _version() -> str:
    from stackgan.version import __version__

    return __version__


def _add_checkpoint(command: argparse.ArgumentParser, default: str = DEFAULT_CHECKPOINT) -> None:
    command.add_argument(
        "--checkpoint",
        type=Path,
        default=Path(default),
        help="published checkpoint (default: %(default)s)",
    )


def _add_truncation(command: argparse.ArgumentParser) -> None:
    meaning = "0 (mean) to 2; smaller is safer (default: what the checkpoint recommends, else 1)"
    command.add_argument("--truncation", type=float, help=meaning)


def _add_sampling(command: argparse.ArgumentParser) -> None:
    _add_truncation(command)
    command.add_argument("--batch-size", type=int, default=16, help="pictures at a time (default: %(default)s)")
    command.add_argument(
        "--precision",
        default="fp32",
        help="fp32, or bf16: faster where the processor has it, half a level of 255 off (default: %(default)s)",
    )
    command.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")


# --- commands: each imports what it needs, when it runs -----------------------------------------------------


def _train(args: argparse.Namespace) -> int:
    from stackgan.config import preset, with_overrides

    if args.stop_after is not None and not args.stop_after > 0:
        raise ValueError(f"--stop-after {args.stop_after:g}: it is minutes, more than 0")
    fitting = {"--checkpoint": args.checkpoint, "--out": args.out}
    if args.fit_prior:
        missing = [name for name, value in fitting.items() if value is None]
        if missing or args.run_folder is not None:
            raise ValueError("--fit-prior takes --checkpoint and --out, and no --run")
        if args.stop_after is not None:
            raise ValueError("--stop-after goes with --run: fitting a prior takes minutes and is done in one call")
        from stackgan.training.fit_prior import fit_prior

        return fit_prior(args.checkpoint, args.data, args.out, args.overrides, steps=args.steps, device=args.device)
    if args.run_folder is None:
        raise ValueError("--run is missing: name the run folder")
    if any(fitting.values()):
        raise ValueError("--checkpoint and --out go with --fit-prior")
    if args.start_from is not None and args.preset is not None:
        raise ValueError("--start-from brings its own keys: change single ones (section.key=value), give no --preset")
    if args.start_from is None:
        start, config = None, preset(args.preset or "modern", args.overrides)
    else:
        from stackgan.training.warm_start import open_start

        start = open_start(args.start_from)
        config = with_overrides(start.config, args.overrides)
    from stackgan.training.loop import train  # torch and all: after what can be refused without it

    return train(
        args.data,
        args.run_folder,
        config,
        start=start,
        dry_run=args.dry_run,
        device=args.device,
        stop_after=math.inf if args.stop_after is None else args.stop_after,
    )


def _pack(args: argparse.Namespace) -> int:
    from stackgan.io.archive import pack

    if not 0 < args.limit < math.inf:
        raise ValueError(f"--limit {args.limit:g}: it is the MiB of a piece, more than 0")
    names = args.only.split(",") if args.only is not None else None
    packed = pack(args.folder, args.pieces, limit=int(args.limit * 2**20), only=names)
    print(
        f"{packed.count} pieces in {args.pieces}, {packed.size / 2**20:.1f} MiB: {packed.written} written, "
        f"{packed.count - packed.written} there already; bring all of them and manifest.json"
    )
    if packed.left_out:
        print(f"left out as unfinished: {', '.join(packed.left_out)}")
    return 0


def _unpack(args: argparse.Namespace) -> int:
    from stackgan.io.archive import unpack

    files = unpack(args.pieces, args.folder, overwrite=args.overwrite)
    print(f"{files} files in {args.folder}")
    return 0


def _generate(args: argparse.Namespace) -> int:
    seeds = parse_seeds(args.seeds)
    from stackgan.generation.batch import generate

    files = generate(
        args.captions,
        seeds=seeds,
        checkpoint=args.checkpoint,
        out=args.out,
        truncation=args.truncation,
        size=args.size,
        batch_size=args.batch_size,
        device=args.device,
        precision=args.precision,
    )
    print(f"{len(files)} pictures in {args.out}")
    return 0


def _batch(args: argparse.Namespace) -> int:
    from stackgan.generation.batch import batch

    return batch(
        args.file,
        checkpoint=args.checkpoint,
        out=args.out,
        count=args.count,
        seed=args.seed,
        truncation=args.truncation,
        size=args.size,
        batch_size=args.batch_size,
        device=args.device,
        precision=args.precision,
        compiled=args.compile,
    )


def _edit(args: argparse.Namespace) -> int:
    from stackgan.generation.edit import edit

    files = edit(
        args.photo, args.caption, args.new_captions, checkpoint=args.checkpoint, out=args.out, device=args.device
    )
    print(f"{len(files)} pictures in {args.out}")
    return 0


def _sample(args: argparse.Namespace) -> int:
    seeds = parse_seeds(args.seeds)
    from stackgan.generation.edit import sample

    files = sample(seeds, checkpoint=args.checkpoint, out=args.out, truncation=args.truncation, device=args.device)
    print(f"{len(files)} pictures in {args.out}")
    return 0


def _walk(args: argparse.Namespace) -> int:
    seeds = parse_seeds(args.seeds)
    if len(seeds) != 2:
        raise ValueError(f"--seeds {args.seeds!r}: a walk goes from one seed to one other, such as 3,8")
    from stackgan.generation.edit import walk

    files = walk(
        (args.captions[0], args.captions[1]),
        (seeds[0], seeds[1]),
        checkpoint=args.checkpoint,
        out=args.out,
        frames=args.frames,
        truncation=args.truncation,
        device=args.device,
    )
    print(", ".join(map(str, files)))
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from stackgan.evaluation.evaluate import evaluate
    from stackgan.evaluation.settings import EvaluationSettings

    settings = EvaluationSettings(
        split=args.split,
        count=args.num,
        seed=args.seed,
        truncation=args.truncation,
        features=args.features,
        inception=args.inception,
        flip_reference=args.flip_reference,
        scorer=args.scorer,
        clip=args.clip,
        out_of_domain=args.out_of_domain,
        hide_captions=args.hide_captions,
        device=args.device,
    )
    return evaluate(args.checkpoint, args.data, args.out, settings)


# What each study can be told beside --out and --seed.
STUDY_OPTIONS = {
    "latents": ("data", "features", "images", "seeds"),
    "recipe": ("data", "features", "minutes", "seeds", "rows"),
}


def _study(args: argparse.Namespace) -> int:
    from stackgan.study import study

    out = args.out if args.out is not None else Path("study") / args.name
    given = {name for names in STUDY_OPTIONS.values() for name in names if getattr(args, name) is not None}
    known = STUDY_OPTIONS.get(args.name, ())
    if given - set(known):
        option = min(given - set(known))
        takers = " and ".join(name for name, names in STUDY_OPTIONS.items() if option in names)
        raise ValueError(f"--{option} goes with the study {takers} alone")
    options = {name: getattr(args, name) for name in known if name in given}
    if "rows" in options:
        options["rows"] = tuple(name.strip() for name in options["rows"].split(","))
    study(args.name, out, args.seed, **options)
    print(f"figures and numbers.json in {out}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from stackgan.tools.convert import convert

    convert(args.netg, args.netd, args.out)
    print(f"checkpoint in {args.out}")
    return 0


def _publish(args: argparse.Namespace) -> int:
    from stackgan.tools.publish import release

    size = release(
        args.checkpoint,
        args.out,
        half=not args.full,
        truncation=args.truncation,
        captions=args.captions,
        discriminators=args.discriminators,
    )
    print(f"checkpoint in {args.out}, {size / 2**20:.1f} MiB")
    return 0


def _average(args: argparse.Namespace) -> int:
    from stackgan.tools.average import average

    average(args.checkpoints, args.data, args.out, device=args.device)
    print(f"checkpoint in {args.out}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from stackgan.tools.doctor import doctor

    return doctor(args.checkpoint)


def parse_seeds(text: str) -> list[int]:
    """``0-7`` or ``1,5,9`` or both, in order.

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]
    >>> parse_seeds("-1")
    Traceback (most recent call last):
    ...
    ValueError: --seeds '-1': seeds are whole numbers from 0, such as 0-7 or 1,5,9
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ValueError(f"--seeds {text!r}: seeds are whole numbers from 0, such as 0-7 or 1,5,9")
        if int(last or first) - int(first) >= MAX_SEEDS:
            raise ValueError(f"--seeds {text!r}: more than {MAX_SEEDS} seeds in one go")
        seeds.extend(range(int(first), int(last or first) + 1))
    return seeds

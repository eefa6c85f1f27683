"""`stackgan prepare cub | folder | painted | merge`: arguments, and the report at the end."""

from __future__ import annotations

import argparse
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from data_prep.download import CUB_MD5, CUB_URL
from data_prep.images import FITS
from stackgan.data.kinds import KINDS
from stackgan.data.prepared import PreparedFolder

__all__ = ["add_arguments", "report", "run"]

_SIZES = (64, 128, 256, 512, 1024)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of preparation to the parser of `stackgan prepare`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    cub = kinds.add_parser("cub", help="CUB-200-2011 with Reed's captions")
    _add_folders(cub, "AttnGAN's birds/, or the folder of CUB_200_2011/ with text_c10/ in or beside it")
    cub.add_argument("--size", type=int, choices=(64, 128, 256), default=64, help="pixels (default 64)")
    _add_fit(cub, "stretch", "crops that the photo's edge made oblong")
    cub.add_argument("--allow-missing", action="store_true", help="prepare what is there if photos are missing")
    cub.add_argument("--download", action="store_true", help="fetch the photos (1.1 GB) where they are missing")
    cub.add_argument("--archive-url", default=CUB_URL, metavar="URL", help="another place of CUB_200_2011.tgz")
    cub.add_argument("--archive-md5", default=CUB_MD5, metavar="MD5", help="the digest it must have")
    _add_common(cub)

    folder = kinds.add_parser("folder", help="your own photos and captions")
    _add_folders(folder, "photos with metadata.jsonl, metadata.csv, or a .txt beside each")
    folder.add_argument("--size", type=int, choices=_SIZES, default=64, help="pixels (default 64)")
    _add_fit(folder, "pad", "photos that are not square")
    folder.add_argument("--test-fraction", type=float, default=0.1, metavar="F", help="kept for the test (0.1)")
    folder.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
    folder.add_argument("--no-captions", action="store_true", help="prepare for training without text")
    _add_common(folder)

    painted = kinds.add_parser("painted", help="procedural birds, no download needed")
    painted.add_argument("out", type=Path, metavar="OUT", help="the prepared folder to make")
    painted.add_argument("--count", type=int, required=True, metavar="N", help="birds to train with")
    painted.add_argument("--seed", type=int, default=0, help="another number draws other birds (default 0)")
    painted.add_argument("--size", type=int, choices=_SIZES, default=64, help="pixels (default 64)")
    painted.add_argument("--test-count", type=int, metavar="N", help="birds for the test (a tenth of --count)")
    _add_common(painted)

    merge = kinds.add_parser("merge", help="several prepared folders to one, photos held out for the test")
    merge.add_argument("sources", type=Path, nargs="+", metavar="SRC", help="prepared folders of one size")
    merge.add_argument("out", type=Path, metavar="OUT", help="the prepared folder to make")
    merge.add_argument(
        "--hold-out", type=float, default=0.0, metavar="F", help="train photos to keep for the test (default 0)"
    )
    merge.add_argument("--seed", type=int, default=0, help="of the choice (default 0)")
    merge.add_argument("--overwrite", action="store_true", help="replace a prepared folder at OUT")


def _add_folders(parser: argparse.ArgumentParser, source: str) -> None:
    parser.add_argument("src", type=Path, metavar="SRC", help=source)
    parser.add_argument("out", type=Path, metavar="OUT", help="the prepared folder to make")


def _add_fit(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    rules = "; ".join(f"{name}: {rule}" for name, rule in FITS.items())
    parser.add_argument("--fit", choices=FITS, default=default, help=f"{what} (default {default}); {rules}")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace a prepared folder at OUT")
    parser.add_argument("--workers", type=int, metavar="N", help="how many work at once (default: CPU cores)")


def run(args: argparse.Namespace) -> int:
    """Prepare and print the report; returns 0, or 1 where inputs could not be used and are listed.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: nothing was prepared, one line says why.
    """
    with _terminable():
        folder = _prepare(args)
    print("\n".join(report(folder)))
    return 1 if folder.meta["problems"] else 0


def _prepare(args: argparse.Namespace) -> PreparedFolder:
    if args.kind == "merge":
        from data_prep.merge import prepare_merged

        return prepare_merged(
            args.sources, args.out, hold_out=args.hold_out, seed=args.seed, overwrite=args.overwrite
        )
    common = {"size": args.size, "overwrite": args.overwrite, "workers": args.workers}
    if args.kind == "cub":
        from data_prep.cub import prepare_cub

        return prepare_cub(
            args.src,
            args.out,
            fit=args.fit,
            allow_missing=args.allow_missing,
            download=args.download,
            url=args.archive_url,
            md5=args.archive_md5,
            **common,
        )
    if args.kind == "folder":
        from data_prep.folder import prepare_folder

        return prepare_folder(
            args.src,
            args.out,
            fit=args.fit,
            test_fraction=args.test_fraction,
            seed=args.seed,
            captions=not args.no_captions,
            **common,
        )
    from data_prep.painted import prepare_painted

    prepare_painted(args.out, count=args.count, seed=args.seed, test_count=args.test_count, **common)
    return PreparedFolder.open(args.out)


def report(folder: PreparedFolder) -> list[str]:
    """What a preparation found and made, every problem by name, and what to run next, as lines."""
    meta: dict[str, Any] = folder.meta
    source = meta["source"]
    lines = [f"{folder.path}: {folder.kind}, {folder.size} px, stored at {folder.load_side} x {folder.load_side}"]
    if "photos_listed" in source:
        lines.append(f"photos found: {source['photos_found']:,} of {source['photos_listed']:,}")
    elif "photos_found" in source:
        lines.append(f"photos found: {source['photos_found']:,}")
    for name in dict.fromkeys(("train", "test", *meta["splits"])):
        facts = meta["splits"].get(name)
        if facts is None:
            lines.append(f"{name}: no photos")
            continue
        line = f"{name}: {facts['images']:,} photos, {facts['captions']:,} captions"
        line += f", {facts['species']:,} species" if facts["species"] else ""
        line += "".join(f", embeddings {embeddings}" for embeddings in facts["embeddings"])
        lines.append(line)
    if source.get("not_square"):
        lines.append(f"not square: {source['not_square']:,} photos, made so by --fit {source['fit']}")
    if source.get("enlarged"):
        lines.append(f"enlarged: {source['enlarged']:,} photos, smaller than {folder.load_side} px")
    lines.append(f"problems: {len(meta['problems']):,}")
    lines += [f"  {problem['path']}: {problem['reason']}" for problem in meta["problems"]]
    lines.append(f"next: {_next_command(folder)}")
    return lines


def _next_command(folder: PreparedFolder) -> str:
    preset = KINDS[folder.kind].preset
    words = ["stackgan", "train", "--data", str(folder.path), "--run", "RUN", "--preset", preset]
    stages = (folder.size // 64).bit_length()
    if stages > 1:
        words.append(f"tree.stages={stages}")
    if not any(split.captions for split in folder.splits.values()):
        words.append("text.encoder=none")
    return shlex.join(words)


@contextmanager
def _terminable() -> Iterator[None]:
    """Within: SIGTERM ends the program as an exception does, so that the unfinished folder is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

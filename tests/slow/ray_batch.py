"""A batch on a cluster: Ray Data gives its shards to two workers, and the merged folder has the bytes of one call.

    pip install "ray[data]"
    python -m tests.slow.ray_batch [--captions 2000] [--shards 8]

On several machines, ``--address`` of ``ray.init``, and folders on a disk that all of them share.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from stackgan.generation.batch import batch
from stackgan.generation.merge import merge
from tests.slow.batch_kills import write_captions
from tests.slow.processes import ROOT
from tests.tiny import tiny_pipeline


def generate(row: dict[str, Any]) -> dict[str, Any]:
    """Run by a worker: one shard."""
    torch.set_num_threads(1)  # images are the same up to rounding, and to the bit with one number of threads
    out = Path(row["folder"]) / f"part-{row['shard'].partition('/')[0]}"
    code = batch(
        Path(row["folder"]) / "captions.txt",
        checkpoint=Path(row["folder"]) / "checkpoint",
        out=out,
        shard=row["shard"],
    )
    return {"part": str(out), "code": code, "process": os.getpid()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=8)
    args = parser.parse_args()
    import ray

    with tempfile.TemporaryDirectory(prefix="stackgan-ray-") as name:
        folder = Path(name)
        tiny_pipeline(stages=1).save_pretrained(folder / "checkpoint")
        write_captions(folder / "captions.txt", args.captions)
        # inherited by the workers: this checkout
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        ray.init(num_cpus=2, include_dashboard=False)
        shards = [{"folder": name, "shard": f"{i}/{args.shards}"} for i in range(1, args.shards + 1)]
        rows = ray.data.from_items(shards, override_num_blocks=args.shards).map(generate, num_cpus=1).take_all()
        ray.shutdown()
        assert all(row["code"] == 0 for row in rows)
        workers = {row["process"] for row in rows}
        merge([Path(row["part"]) for row in rows], out=folder / "merged")
        torch.set_num_threads(1)
        batch(folder / "captions.txt", checkpoint=folder / "checkpoint", out=folder / "one")
        files = sorted(path.name for path in (folder / "one").iterdir())
        assert files == sorted(path.name for path in (folder / "merged").iterdir())
        equal, different, unread = filecmp.cmpfiles(folder / "one", folder / "merged", files, shallow=False)
        assert not different and not unread, (different, unread)
        print(f"{args.shards} shards on {len(workers)} workers, merged: {len(equal):,} files equal those of one call")


if __name__ == "__main__":
    main()

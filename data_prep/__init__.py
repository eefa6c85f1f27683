"""Data preparation: CUB, own photos or painted birds in, a prepared folder (`stackgan.data.format`) out."""

from stackgan.data.kinds import KINDS as DATA_KINDS

__all__ = ["KINDS"]

# What `stackgan prepare` can do: name -> (module:function, summary); merging makes no kind of its own.
KINDS = {name: (kind.prepare, kind.summary) for name, kind in DATA_KINDS.items()} | {
    "merge": ("data_prep.merge:prepare_merged", "several prepared folders to one, photos held out for the test"),
}

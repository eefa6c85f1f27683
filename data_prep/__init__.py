"""Data preparation: CUB, own photos or painted birds in, a prepared folder (`stackgan.data.format`) out.

A kind of preparation is a module with ``add_arguments(parser)`` and a function, and one row of
:data:`stackgan.data.kinds.KINDS`; merging makes no kind of its own.
"""

from stackgan.data.kinds import KINDS as DATA_KINDS

__all__ = ["KINDS"]

# Name of the kind: function that prepares, and what `stackgan prepare --help` says of it.
KINDS = {name: (kind.prepare, kind.summary) for name, kind in DATA_KINDS.items()} | {
    "merge": ("data_prep.merge:prepare_merged", "several prepared folders to one, photos held out for the test"),
}

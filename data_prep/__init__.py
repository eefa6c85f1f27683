"""Data preparation: creates prepared folders (`stackgan.data.format`) from CUB, own photos, or painted birds.

A kind of data set is a module with ``add_arguments(parser)`` and a function, and a row of
:data:`stackgan.data.kinds.KINDS`; the others write folders of these kinds.
"""

from stackgan.data.kinds import KINDS as DATA_KINDS

__all__ = ["KINDS"]

# Name: function that prepares, and summary in `stackgan prepare --help`.
KINDS = {name: (kind.prepare, kind.summary) for name, kind in DATA_KINDS.items()} | {
    "datasets": (
        "data_prep.datasets:prepare_datasets",
        "Parquet, WebDataset, image folders and data sets of the Hugging Face hub, streamed",
    ),
    "merge": ("data_prep.merge:prepare_merged", "merge prepared folders, optionally holding out test photos"),
}

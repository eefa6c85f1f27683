"""Data preparation: CUB, own photos or painted birds in, a prepared folder (`stackgan.data.prepared`) out.

A kind of preparation is a module with ``add_arguments(parser)`` and a function, and one row of :data:`KINDS`.
"""

# Name of the kind: function that prepares, and what `stackgan prepare --help` says of it.
KINDS = {
    "cub": ("data_prep.cub:prepare_cub", "CUB-200-2011 with Reed's captions"),
    "folder": ("data_prep.folder:prepare_folder", "your own photos and captions"),
    "painted": ("data_prep.painted:prepare_painted", "procedural birds, no download needed"),
    "merge": ("data_prep.merge:prepare_merged", "several prepared folders to one, photos held out for the test"),
}

"""Table of kinds of data sets: their properties for preparation, training, evaluation and the web page.

To add one, write its module in `data_prep`, with `add_arguments(parser)` and a function that writes a prepared folder
with :class:`~stackgan.data.writer.PreparedWriter`, and a row of ``KINDS``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "DataKind"]


@dataclass(frozen=True)
class DataKind:
    """A kind of data set; its name is key ``kind`` of dataset.json.

    Attributes:
        prepare: the function for `stackgan prepare`, as `module:function` of `data_prep`; imported when needed.
        summary: line in `stackgan prepare --help`.
        title: name of its images in messages.
        drawn: whether images are drawn from the parameters in their records, so that the colour of each part is
            known. Their test split has held-out combinations of colours instead of held-out species.
        preset: suggested for training at the end of a preparation.
        examples: example captions of checkpoints trained on these data; if empty, captions of the data are used.
            Given for data whose licence does not allow redistribution.
    """

    prepare: str
    summary: str
    title: str
    drawn: bool = False
    preset: str = "modern"
    examples: tuple[str, ...] = ()


KINDS: dict[str, DataKind] = {
    "cub": DataKind(
        prepare="data_prep.cub:prepare_cub",
        summary="CUB-200-2011 with Reed's captions",
        title="CUB's photos",
        examples=(
            "a small red bird with black wings",
            "this bird is blue with a white belly and a short pointed beak",
            "a yellow bird with grey wings and a black crown",
            "a large black bird with a long hooked beak",
            "a brown bird with a speckled breast and a small bill",
            "the bird has a white body, an orange bill and grey wings",
        ),
    ),
    "folder": DataKind(
        prepare="data_prep.folder:prepare_folder",
        summary="your own photos and captions",
        title="own photos",
    ),
    "painted": DataKind(
        prepare="data_prep.painted:prepare_painted",
        summary="procedural birds, no download needed",
        title="painted birds",
        drawn=True,
        preset="quickstart",
    ),
}

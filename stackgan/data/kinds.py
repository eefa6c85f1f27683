"""Kinds of data sets by name: what preparation, training, evaluation and the page need to know of each.

To add one, write its module in `data_prep`, with `add_arguments(parser)` and a function that writes a prepared folder
by means of :class:`~stackgan.data.writer.PreparedWriter`, and a row of ``KINDS``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "DataKind"]


@dataclass(frozen=True)
class DataKind:
    """A kind of data set; its name is key ``kind`` of dataset.json.

    Attributes:
        prepare: the function that `stackgan prepare` runs, as `module:function` of `data_prep`; imported when it is
            needed.
        summary: of `stackgan prepare --help`.
        title: what its images are called in messages.
        drawn: images are drawn from the parameters in their records, so colours by part are known exactly. The test
            split holds combinations that the train split has not, in place of other species.
        preset: that the report of a preparation suggests for training.
        examples: captions that a checkpoint trained on these data shows as examples; empty takes captions of the
            data themselves. Given where their licence does not allow distributing them.
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

"""Contact sheet: many images at once, similar ones side by side."""

from __future__ import annotations

import torch

from stackgan.evaluation.caption_choice import spread_rows
from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Sheet
from stackgan.images.mosaic import alike_side_by_side

__all__ = ["section"]

MOST = 50  # images along a side, as in the paper


def section(context: Context) -> Findings:
    """Up to 50 × 50 images, placed by t-SNE of their features."""
    columns = min(MOST, int(context.count**0.5))
    if columns < 2:
        raise NotMeasured("it needs 4 images")
    rows = spread_rows(context.count, columns**2)
    network = context.networks[0]
    features = context.generated.features(network).features[torch.as_tensor(rows)]
    try:
        sheet = alike_side_by_side(
            context.generated.rows(rows.tolist()), features.numpy(), seed=context.settings.seed
        )
    except ImportError:
        raise NotMeasured('it needs scikit-learn: pip install "stackgan[eval]"') from None
    return Findings(
        figures={"pictures": columns**2, "network": network.name},
        protocol=f"{columns} x {columns} of the images, evenly spread over all, placed by t-SNE of {network.name} "
        "features (50 principal components, perplexity 30) and moved to a grid with the least sum of squared moves. "
        "Repeated images show as a patch.",
        sheets=[Sheet("alike", "Similar images lie side by side:", sheet)],
    )

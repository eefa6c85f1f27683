"""Contact sheet: many images on one sheet, with similar ones side by side."""

from __future__ import annotations

import torch

from stackgan.evaluation.caption_choice import spread_rows
from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Sheet
from stackgan.images.mosaic import similarity_sheet

__all__ = ["section"]

MOST = 50  # images along each side, as in the paper


def section(context: Context) -> Findings:
    """Up to 50 × 50 images, placed by t-SNE of their features."""
    columns = min(MOST, int(context.count**0.5))
    if columns < 2:
        raise NotMeasured("it needs 4 images")
    rows = spread_rows(context.count, columns**2)
    network = context.networks[0]
    features = context.generated.features(network).features[torch.as_tensor(rows)]
    try:
        sheet = similarity_sheet(context.generated.rows(rows.tolist()), features.numpy(), seed=context.settings.seed)
    except ImportError:
        raise NotMeasured('it needs scikit-learn: pip install "stackgan[eval]"') from None
    return Findings(
        figures={"pictures": columns**2, "network": network.name},
        protocol=f"{columns} x {columns} of the images, evenly spaced over all, arranged by t-SNE of {network.name} "
        "features (50 principal components, perplexity 30) and assigned to a grid with minimal squared distances. "
        "Repeated images appear as a patch.",
        sheets=[Sheet("alike", "Similar images are side by side:", sheet)],
    )

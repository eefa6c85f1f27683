"""Contact sheets: many images on one sheet, with similar ones side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["mosaic", "on_grid", "plane", "similarity_sheet"]

COMPONENTS = 50  # principal components as input of t-SNE, as recommended by its authors
PERPLEXITY = 30.0


def plane(features: NDArray[np.float32], seed: int = 0) -> NDArray[np.float64]:
    """t-SNE embedding (N, 2) of features (N, D) (van der Maaten and Hinton 2008).

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = features.astype(np.float64)
    components = min(COMPONENTS, len(rows) - 1, rows.shape[1])
    rows = PCA(components, svd_solver="full").fit_transform(rows)
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    places: NDArray[np.float64] = tsne.fit_transform(rows).astype(np.float64)
    return places


def on_grid(places: NDArray[np.float64], columns: int) -> NDArray[np.int64]:
    """Assign N = ``columns``² positions (N, 2) to the cells of a grid, minimising the sum of squared distances.

    Coordinates are first replaced by the mean of their rank and their scaled value, to limit the influence of
    outliers. Returns the index of the position in each cell, row by row.

    >>> on_grid(np.array([[9.0, 9.0], [0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]), 2).tolist()
    [1, 2, 3, 0]
    """
    from scipy.optimize import linear_sum_assignment

    count = len(places)
    if count != columns**2:
        raise ValueError(f"{count} positions do not fill a grid of {columns} x {columns}")
    ranks = places.argsort(0, kind="stable").argsort(0, kind="stable") / max(count - 1, 1)
    spread = places - places.min(0)
    spread = (spread / np.maximum(spread.max(0), 1e-12) + ranks) / 2
    y, x = np.divmod(np.arange(count), columns)
    cells = np.stack((x, y), 1) / max(columns - 1, 1)
    cost = ((cells[:, None] - spread[None]) ** 2).sum(2)
    _, chosen = linear_sum_assignment(cost)
    return np.asarray(chosen, dtype=np.int64)


def similarity_sheet(
    images: NDArray[np.uint8], features: NDArray[np.float32], *, seed: int = 0, side: int = 40
) -> Image.Image:
    """A square sheet of images (N = n², s, s, 3) arranged by t-SNE of their features, ``side`` px each.

    Raises:
        ValueError: N is not a square number.
        ImportError: scikit-learn is not installed.
    """
    columns = round(len(images) ** 0.5)
    order = on_grid(plane(features, seed), columns)
    return mosaic(images[order], columns, side)


def mosaic(images: NDArray[np.uint8], columns: int, side: int) -> Image.Image:
    """Sheet of images (N, s, s, 3) without margins, row by row."""
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), "white")
    for place, levels in enumerate(images):
        image = Image.fromarray(levels)
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(image, (place % columns * side, place // columns * side))
    return sheet

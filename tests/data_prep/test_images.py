"""Square images from photos: CUB's crop box, and the rules for photos that are not square."""

import numpy as np
import pytest
from PIL import Image

from data_prep.images import crop_box, to_square


def test_crop_box_is_clipped_and_boxes_outside_are_refused() -> None:
    assert crop_box((100, 80, 40, 20), 500, 400) == (90, 60, 150, 120)
    assert crop_box((0, 0, 100, 50), 500, 400) == (0, 0, 125, 100)
    assert crop_box((400, 300, 100, 100), 500, 400) == (375, 275, 500, 400)
    for box in ((600, 10, 20, 20), (10, 10, 0, 20), (10, 500, 5, 5), (-90, 0, 10, 10)):
        with pytest.raises(ValueError, match="empty or outside the photo of 500 x 400"):
            crop_box(box, 500, 400)


def test_fits() -> None:
    ramp = np.zeros((20, 60, 3), np.uint8)
    ramp[:, :, 0] = np.arange(60) * 4
    ramp[:10, :, 1] = 200
    wide = Image.fromarray(ramp)
    stretched, cut, padded = (to_square(wide, 40, fit) for fit in ("stretch", "cut", "pad"))
    assert {array.shape for array in (stretched, cut, padded)} == {(40, 40, 3)}
    assert stretched[20, 0, 0] < 10 and stretched[20, -1, 0] > 226  # both ends, scaled by 1/3 horizontally
    assert 75 < cut[20, 0, 0] < 90 and 150 < cut[20, -1, 0] < 165  # the middle third only
    inner = np.asarray(wide.resize((40, 13), Image.Resampling.BILINEAR))
    assert np.array_equal(padded[13:26], inner)  # the whole photo, undistorted
    assert (padded[0, :, 1] > 190).all() and (padded[-1, :, 1] < 10).all()  # upper and lower edge are extended
    tall = to_square(wide.transpose(Image.Transpose.TRANSPOSE), 40, "pad")
    assert np.array_equal(tall, padded.transpose(1, 0, 2))
    square = wide.resize((30, 30))
    assert all(np.array_equal(to_square(square, 40, fit), to_square(square, 40, "cut")) for fit in ("stretch", "pad"))

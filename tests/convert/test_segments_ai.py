import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.imaging import read_mask, write_image, write_mask
from tests.convert import sources as s


@pytest.mark.parametrize("channels", [1, 3])
def test_segments_ai_bitmaps_hold_numbers_of_objects(channels, tmp_path):
    rows = [{"id": 300, "category_id": 1}, {"id": 7, "category_id": 2}]
    path = s.segments_ai(tmp_path / "source", rows, "https://example.com/x.png")
    numbers = np.array([0, 300, 7])[s.SCENE]
    if channels == 3:
        colors = np.stack([numbers & 255, numbers >> 8, numbers * 0], axis=-1)
        write_image(path.parent / "a_label_ground-truth.png", colors.astype(np.uint8))
    else:
        write_mask(path.parent / "a_label_ground-truth.png", numbers.astype(np.uint16))
    convert(path, tmp_path / "out")
    assert (read_mask(tmp_path / "out/masks/train/a.png") == s.SCENE).all()

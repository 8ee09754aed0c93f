import numpy as np

from hrseg.convert.convert import convert
from hrseg.imaging import read_mask
from tests.convert import sources as s


def test_datumaro_run_lengths_ellipses_and_depth(tmp_path):
    from hrseg.imaging.rle import to_coco

    mask = np.zeros(s.SIZE, bool)
    mask[1:3, 1:5] = [[True, False, True, True], [True, True, False, True]]
    rle = {"counts": to_coco(mask), "size": list(s.SIZE)}
    rows = [
        {"type": "mask", "label_id": 1, "rle": rle, "z_order": 2},
        {"type": "ellipse", "label_id": 0, "points": [0, 0, 8, 6], "z_order": 1},
    ]
    convert(s.datumaro(tmp_path / "source", rows), tmp_path / "out")
    found = read_mask(tmp_path / "out/masks/train/a.png")
    y, x = np.mgrid[: s.SIZE[0], : s.SIZE[1]] + 0.5
    inside = ((x - 4) / 4) ** 2 + ((y - 3) / 3) ** 2 < 1
    assert (found == np.where(mask, 2, inside)).all()

import numpy as np

from hrseg.convert.convert import convert
from hrseg.imaging import read_mask, write_image
from tests.convert import sources as s


def test_supervisely_polygons_hold_their_outline_and_masks_lie_in_seg(tmp_path):
    ring = [[1, 1], [6, 1], [6, 4], [1, 4]]
    hole = [[3, 2], [4, 2], [4, 3], [3, 3]]
    shape = {"exterior": ring, "interior": [hole]}
    root = s.supervisely(tmp_path / "source", [s.sly_object(s.CAR, "polygon", points=shape)])
    expected = np.zeros(s.SIZE, np.uint8)
    expected[1:5, 1:7] = 2
    expected[2:4, 3:5] = 0
    convert(root, tmp_path / "out")
    assert (read_mask(tmp_path / "out/masks/train/ds/a.png") == expected).all()
    (root / "ds/ann/a.png.json").unlink()
    (root / "ds/ann").rmdir()
    colors = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 142]], np.uint8)
    write_image(root / "ds/seg/a.png.png", colors[s.SCENE])
    convert(root, tmp_path / "masks")
    assert (read_mask(tmp_path / "masks/masks/train/ds/a.png") == s.SCENE).all()

import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.errors import DataError
from hrseg.imaging import read_mask
from tests.convert import sources as s


def test_darwin_holes_ellipses_and_raster_layers(tmp_path):
    numbers = np.array([0, 4, 9], np.uint8)[s.SCENE].ravel()
    ends = np.flatnonzero(np.diff(numbers, append=255))
    runs = np.stack([numbers[ends], np.diff(ends, prepend=-1)], axis=1).ravel().tolist()
    layer = {"dense_rle": runs, "mask_annotation_ids_mapping": {"r": 4, "c": 9}, "total_pixels": 48}
    rows = [
        {"id": "x", "name": "__raster_layer__", "raster_layer": layer},
        {"id": "r", "name": s.ROAD, "mask": {}},
        {"id": "c", "name": s.CAR, "mask": {}},
    ]
    convert(s.darwin(tmp_path / "raster", rows), tmp_path / "out")
    assert (read_mask(tmp_path / "out/masks/train/a.png") == np.array([0, 2, 1])[s.SCENE]).all()
    paths = [s.points((0, 0, 8, 6)), s.points((2, 2, 6, 4))]
    turned = {"center": {"x": 4, "y": 3}, "radius": {"x": 0.4, "y": 2.9}, "angle": np.pi / 2}
    rows = [{"name": "a", "polygon": {"paths": paths}}, {"name": "b", "ellipse": turned}]
    convert(s.darwin(tmp_path / "rings", rows), tmp_path / "rings_out")
    found = read_mask(tmp_path / "rings_out/masks/train/a.png")
    assert (found[2:4, 2:6] == 0).all()
    assert (found == 1).sum() + (found == 2).sum() == 40
    video = [{"name": "a", "frames": {"0": {}}, "polygon": {"paths": paths}}]
    with pytest.raises(DataError, match="video"):
        convert(s.darwin(tmp_path / "video", video), tmp_path / "video_out")

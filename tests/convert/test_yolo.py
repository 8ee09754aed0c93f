import numpy as np

from tests.convert import sources as s
from tests.convert.sources import converted


def test_yolo_images_without_a_file_are_background(tmp_path):
    mask, labels, report = converted(s.yolo(tmp_path / "source"), tmp_path, split="val")
    assert not mask.any()
    assert labels.names == ["background", "road", "car"]
    assert report.splits == {"train": 1, "val": 1}


def test_yolo_boxes_have_four_numbers(tmp_path):
    mask, _, _ = converted(s.yolo(tmp_path / "source", ["1 0.5 0.5 0.25 0.333333"]), tmp_path)
    assert np.argwhere(mask == 2).tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]

import json

import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.errors import DataError
from tests.convert import exports as x
from tests.convert import sources as s
from tests.convert.sources import converted


@pytest.mark.parametrize("kind", ["save", "fuse"])
def test_pixel_projects(kind, tmp_path):
    mask, labels, _ = converted(x.pixel_project(tmp_path / "source", kind), tmp_path)
    assert labels.names == ["background", "road", "car"]
    assert labels.palette[1].tolist() == [0x80, 0x40, 0x80]
    assert (mask == s.SCENE).all()


def test_ellipses_turned_boxes_holes_and_classes_by_number(tmp_path):
    corners = [v for point in s.corners((0, 0, 4, 4)) for v in point]
    hole = [v for point in s.corners((1, 1, 3, 3)) for v in point]
    turned = {"x1": 6, "y1": 2, "x2": 8, "y2": 4, "x3": 6, "y3": 6, "x4": 4, "y4": 4}
    ellipse = {"cx": 7, "cy": 1, "rx": 1, "ry": 1, "angle": 0}
    instances = [
        {"type": "polygon", "classId": 7, "points": corners, "exclude": [hole, [1, 1, 2, 2]]},
        {"type": "rbbox", "classId": 8, "points": turned},
        {"type": "ellipse", "className": "ball", **ellipse},
        {"type": "template", "className": "car", "points": []},
    ]
    mask, labels, report = converted(x.superannotate(tmp_path / "source", instances), tmp_path)
    assert labels.names == ["background", "road", "car", "ball"]
    assert (mask == 1).sum() == 12
    assert mask[3, 5] == mask[3, 6] == 2
    assert np.argwhere(mask == 3).tolist() == [[0, 6], [0, 7], [1, 6], [1, 7]]
    assert report.source.skipped["skeletons"] == 1


def test_pixels_that_are_not_there_and_unknown_classes_are_said(tmp_path):
    root = x.pixel_project(tmp_path / "source")
    (root / "a.jpg___save.png").unlink()
    with pytest.raises(DataError, match=r"its pixels are in a\.jpg___save\.png, which is not"):
        convert(root, tmp_path / "out")
    path = x.superannotate(tmp_path / "vector", [{"type": "polygon", "classId": -1, "points": []}])
    with pytest.raises(DataError, match=r"a\.png___objects\.json, instance 1: it has no label"):
        convert(path, tmp_path / "out")


def test_newer_exports_have_no_ending(tmp_path):
    root = x.superannotate(tmp_path / "source")
    (root / "a.png___objects.json").rename(root / "a.png.json")
    mask, _, _ = converted(root, tmp_path)
    assert (mask == s.SCENE).all()
    assert json.loads((root / "a.png.json").read_text())["metadata"]["name"] == "a.png"

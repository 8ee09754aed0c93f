import json
import math

import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.errors import DataError
from tests.convert import exports as x
from tests.convert import sources as s
from tests.convert.sources import converted


def project(root, regions, attribute):
    """A project that VIA saved, whose class is chosen from a list."""
    s.photo(root / "a.png")
    rows = [
        {"shape_attributes": shape, "region_attributes": {attribute: value, "note": "x"}} for shape, value in regions
    ]
    content = {
        "_via_settings": {"core": {"default_filepath": "../"}},
        "_via_img_metadata": {"a.png99": {"filename": "sub/a.png", "size": 99, "regions": rows, "file_attributes": {}}},
        "_via_attributes": {"region": {attribute: {"type": "checkbox"}}, "file": {}},
        "_via_data_format_version": "2.0.10",
    }
    return s.save(root / "project.json", content)


def test_projects_circles_and_turned_ellipses(tmp_path):
    circle = {"name": "circle", "cx": 1, "cy": 1, "r": 1}
    upright = {"name": "ellipse", "cx": 6, "cy": 3, "rx": 3, "ry": 1, "theta": math.pi / 2}
    path = project(tmp_path / "p", [(circle, {"ball": True}), (upright, {"egg": True})], "type")
    mask, labels, _ = converted(path, tmp_path)
    assert labels.names == ["background", "ball", "egg"]
    assert np.argwhere(mask == 1).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert np.argwhere(mask == 2).min(axis=0).tolist() == [0, 5]
    assert np.argwhere(mask == 2).max(axis=0).tolist() == [5, 6]


def test_numbers_of_choices_are_what_the_project_says(tmp_path):
    rect = {"name": "rect", "x": 0, "y": 0, "width": 2, "height": 2}
    path = project(tmp_path / "p", [(rect, "1")], "type")
    content = json.loads(path.read_text())
    content["_via_attributes"]["region"]["type"]["options"] = {"1": "cat", "2": "dog"}
    _, labels, _ = converted(s.save(path, content), tmp_path)
    assert labels.names == ["background", "cat"]


def test_a_folder_for_each_split(tmp_path):
    for split in ("train", "val"):
        x.via(tmp_path / "balloon" / split)
    _, _, report = converted(tmp_path / "balloon", tmp_path, split="val")
    assert report.splits == {"train": 1, "val": 1}


def test_regions_of_no_class_are_one_class_and_the_report_says_how_to_rename_it(tmp_path):
    rect = {"name": "rect", "x": 0, "y": 0, "width": 2, "height": 2}
    region = {"shape_attributes": rect, "region_attributes": {}}
    mask, labels, report = converted(x.via(tmp_path / "source", [region]), tmp_path)
    assert labels.names == ["background", "object"]
    assert mask.sum() == 4
    assert "--merge 'object=building'" in report.text()


def test_too_few_points_and_no_class_are_named_and_left_out(tmp_path):
    two = {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}
    bare = {"shape_attributes": two, "region_attributes": {}}
    regions = [*x.via_regions(), x.via_region("car", two), bare]
    _, _, report = converted(x.via_csv(tmp_path / "source", regions), tmp_path)
    assert "line 5 ('car')" in report.text()
    assert "regions without a class (1: via.csv, image 'a.png', line 6)" in report.text()


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (x.via_region("car", {"name": "star"}), ["region 1 ('car')", "'star'"]),
        (
            x.via_region("car", {"name": "polygon", "all_points_x": [1], "all_points_y": []}),
            ["region 1 ('car')", "lists of one length"],
        ),
        (x.via_region({"car": True, "bus": True}, {"name": "rect"}), ["'car', 'bus' at once"]),
        (x.via_region("car", {"name": "circle", "cx": 1, "cy": 1}), ["region 1", "no number"]),
    ],
)
def test_damage_is_named(region, words, tmp_path):
    with pytest.raises(DataError) as error:
        convert(x.via(tmp_path / "source", [region]), tmp_path / "out")
    assert all(word in str(error.value) for word in ["image 'a.png'", *words]), error.value

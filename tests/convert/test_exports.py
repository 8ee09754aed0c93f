"""Exports as tools really write them: other names and folders, parts without an area, and one broken image of many."""

import json

import numpy as np
import pytest

from hrseg.cli.main import main
from hrseg.convert.convert import ConvertOptions, convert
from hrseg.errors import DataError
from hrseg.imaging import read_image, write_image
from tests.convert import sources as s

RED, BLUE = (255, 0, 0), (0, 0, 255)
TWO = [[1, 1], [2, 2]]


def plain(path, color):
    write_image(path, np.full((*s.SIZE, 3), color, np.uint8))


# Splits and subsets find their own images


def cvat_project(root):
    """A project's export: names come again in every subset, and images lie in images/<subset>."""
    images = []
    for subset, color in (("Train", RED), ("Validation", BLUE)):
        plain(root / "images" / subset / "0.png", color)
        shape = '<polygon label="car" points="1,1;5,1;5,3;1,3" z_order="0"/>'
        images.append(f'<image id="0" name="0.png" subset="{subset}" width="8" height="6">{shape}</image>')
    return s.save(root / "annotations.xml", f"<annotations>{''.join(images)}</annotations>")


def roboflow(root):
    for split, color in (("train", RED), ("valid", BLUE)):
        path = s.coco(root / split, [s.coco_object(1, 3, [[1, 1, 5, 1, 5, 3, 1, 3]])])
        content = json.loads(path.read_text())
        heading = {"id": 0, "name": "street", "supercategory": "none"}
        rows = [row | {"supercategory": "street"} for row in content["categories"]]
        content["categories"] = [
            heading,
            *rows,
            {"id": 7, "name": s.CAR, "supercategory": "street"},
        ]
        content["images"][0]["file_name"] = "0.png"
        s.save(root / split / "_annotations.coco.json", content)
        for folder in ("annotations", "train2017"):
            for file in (root / split / folder).iterdir():
                file.unlink()
            (root / split / folder).rmdir()
        plain(root / split / "0.png", color)
    return root


def datumaro_subsets(root):
    for subset, color in (("train", RED), ("validation", BLUE)):
        s.datumaro(root, subset=subset, name="0")
        plain(root / "images" / subset / "0.png", color)
    return root


@pytest.mark.parametrize("make", [cvat_project, roboflow, datumaro_subsets])
def test_equal_names_of_two_splits_keep_their_own_images(make, tmp_path):
    report = convert(make(tmp_path / "source"), tmp_path / "out")
    assert report.splits == {"train": 1, "val": 1}
    for split, color in (("train", RED), ("val", BLUE)):
        assert (read_image(tmp_path / f"out/images/{split}/0.png") == color).all()


def test_one_file_is_never_taken_for_images_of_two_splits(tmp_path):
    path = cvat_project(tmp_path / "source")
    with pytest.raises(DataError, match="two splits, 'train' and 'val'"):
        convert(path, tmp_path / "out", ConvertOptions(images=tmp_path / "source/images/Train"))


# Shapes without an area are named and left out; where nothing has an area, nothing is converted


def flat(root, tool):
    """Two objects, one of them of two points only."""
    good = s.corners(s.CAR_BOX)
    if tool == "coco":
        numbers = [value for point in good for value in point]
        objects = [
            s.coco_object(1, 3, [numbers, [1, 1]]),
            s.coco_object(2, 3, [[]]),
            s.coco_object(3, 1, [[1, 1, 2, 2]]),
        ]
        return s.coco(root, objects)
    if tool == "cvat":
        shape = '<polygon label="car" points="{}" z_order="0"/>'
        return s.cvat_xml(root, shape.format("1,1;5,1;5,3;1,3") + shape.format("1,1;2,2"))
    if tool == "labelme":
        return s.labelme(root, [s.labelme_shape("car", ring, "polygon") for ring in (good, TWO)])
    if tool == "label_studio":
        short = s.studio_polygon("car", s.CAR_BOX, "p9")
        short["value"]["points"] = TWO
        return s.label_studio(root, [s.studio_polygon("car", s.CAR_BOX), short])
    if tool == "datumaro":
        rows = [{"type": "polygon", "label_id": 1, "points": np.ravel(r).tolist()} for r in (good, TWO)]
        return s.datumaro(root, rows)
    if tool == "supervisely":
        shapes = [{"exterior": ring, "interior": []} for ring in ([[1, 1], [4, 1], [4, 2], [1, 2]], TWO)]
        return s.supervisely(root, [s.sly_object("car", "polygon", points=p) for p in shapes])
    if tool == "darwin":
        paths = [[s.points(s.CAR_BOX)], [s.points(s.CAR_BOX)[:2]]]
        return s.darwin(root, [{"name": "car", "polygon": {"paths": path}} for path in paths])
    rows = [{"id": i, "category_id": 2, "type": "polygon", "points": r} for i, r in enumerate((good, TWO))]
    return s.segments_ai(root, rows)


TOOLS = [
    "coco",
    "cvat",
    "labelme",
    "label_studio",
    "datumaro",
    "supervisely",
    "darwin",
    "segments_ai",
]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_shape_without_an_area_is_named_and_left_out(tool, tmp_path):
    report = convert(flat(tmp_path / "source", tool), tmp_path / "out")
    assert report.tool == tool
    assert report.tally.pixels["car"] == 8
    kind = "shapes of too few points"
    assert report.source.skipped[kind] == (3 if tool == "coco" else 1)
    assert f"{kind} ({report.source.skipped[kind]}: " in report.text()


def boxes(root):
    objects = [s.coco_object(1, 3, []), s.coco_object(2, 3, [[1, 1, 2, 2]])]
    del objects[0]["segmentation"]
    return s.coco(root, objects)


NO_AREA = {
    "coco boxes": boxes,
    "labelme points": lambda root: s.labelme(root, [s.labelme_shape("car", [[1, 1]], "point")]),
    "cvat polylines": lambda root: s.cvat_xml(root, '<polyline label="car" points="1,1;2,2"/>'),
    "datumaro labels": lambda root: s.datumaro(root, [{"type": "label", "label_id": 0}]),
    "darwin tags": lambda root: s.darwin(root, [{"name": "day", "tag": {}}]),
    "nothing": lambda root: s.darwin(root, []),
}


@pytest.mark.parametrize("case", NO_AREA)
def test_without_any_area_there_is_nothing_to_learn(case, tmp_path):
    with pytest.raises(DataError, match="no object with an area"):
        convert(NO_AREA[case](tmp_path / "source"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# One image of many that cannot be read is named, and the others are done


def two_images(root, fault):
    """Two LabelMe files, of which b.json has a fault."""
    s.labelme(root)
    path = s.labelme(root, name="b")
    content = json.loads(path.read_text())
    if fault == "cut":
        path.write_text(path.read_text()[:99])
    elif fault == "shape":
        content["shapes"][0]["points"] = [[1, "x"], [2, 2]]
        s.save(path, content)
    elif fault == "image":
        (root / "b.png").unlink()
    elif fault == "truncated":
        image = (root / "b.png").read_bytes()
        (root / "b.png").write_bytes(image[: len(image) // 2])  # its header is complete
    else:
        s.save(path, content | {"imageHeight": 99})


@pytest.mark.parametrize("fault", ["cut", "shape", "image", "truncated", "size"])
def test_a_broken_image_is_named_and_the_others_are_done(fault, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    two_images(tmp_path / "source", fault)
    assert main(["data", "convert", "source", "--out", "out"]) == 1
    said = capsys.readouterr().out
    assert "1 file could not be read:" in said
    assert ("b.png" if fault == "truncated" else "b.json") in said
    assert [path.name for path in sorted((tmp_path / "out").rglob("*.png"))] == ["a.png"] * 2


def test_headings_and_repeated_names_are_one_class_each(tmp_path):
    report = convert(roboflow(tmp_path / "source"), tmp_path / "out")
    assert report.plan.labels.names == ["background", s.ROAD, s.CAR]

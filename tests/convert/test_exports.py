"""Exports as tools really write them: other names and folders, parts without an area, and one broken image of many."""

import base64
import json

import numpy as np
import pytest

from hrseg.cli.main import main
from hrseg.convert.convert import ConvertOptions, convert
from hrseg.convert.formats import READERS, read, recognize
from hrseg.errors import DataError
from hrseg.imaging import read_image, read_mask, write_image, write_mask
from hrseg.imaging.rle import from_label_studio, to_label_studio
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
        images.append(
            f'<image id="0" name="0.png" subset="{subset}" width="8" height="6">{shape}</image>'
        )
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


def test_headings_and_repeated_names_are_one_class_each(tmp_path):
    report = convert(roboflow(tmp_path / "source"), tmp_path / "out")
    assert report.plan.labels.names == ["background", s.ROAD, s.CAR]


def test_cvat_files_have_any_name(tmp_path):
    path = s.cvat_xml(tmp_path / "source")
    path.rename(path.with_name("val.xml"))
    assert recognize(tmp_path / "source") == "cvat"
    assert convert(tmp_path / "source", tmp_path / "out").splits == {"val": 1}


def test_voc_lists_may_name_images_without_masks(tmp_path):
    root = tmp_path / "source"
    s.photo(root / "JPEGImages/a.png")
    write_mask(root / "SegmentationClass/a.png", s.SCENE)
    s.save(root / "ImageSets/Segmentation/train.txt", "a\n")
    s.save(root / "ImageSets/Segmentation/test.txt", "b\n")
    report = convert(root, tmp_path / "out")
    assert report.splits == {"train": 1}
    assert "listed images without a mask (1: b)" in report.text()
    s.save(root / "ImageSets/Segmentation/train.txt", "c\n")
    with pytest.raises(DataError, match="none of these masks"):
        convert(root, tmp_path / "other")


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
        rows = [
            {"type": "polygon", "label_id": 1, "points": np.ravel(r).tolist()} for r in (good, TWO)
        ]
        return s.datumaro(root, rows)
    if tool == "supervisely":
        shapes = [
            {"exterior": ring, "interior": []} for ring in ([[1, 1], [4, 1], [4, 2], [1, 2]], TWO)
        ]
        return s.supervisely(root, [s.sly_object("car", "polygon", points=p) for p in shapes])
    if tool == "darwin":
        paths = [[s.points(s.CAR_BOX)], [s.points(s.CAR_BOX)[:2]]]
        return s.darwin(root, [{"name": "car", "polygon": {"paths": path}} for path in paths])
    rows = [
        {"id": i, "category_id": 2, "type": "polygon", "points": r}
        for i, r in enumerate((good, TWO))
    ]
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


# LabelMe


def test_labelme_takes_its_own_image_where_image_path_names_none(tmp_path):
    path = s.labelme(tmp_path / "source")
    content = json.loads(path.read_text())
    data = (path.parent / "a.png").read_bytes()
    for wrong in ("a.json", "note.png"):
        s.save(path.parent / "note.png", "version https://git-lfs.github.com/spec/v1")
        inside = {"imagePath": wrong, "imageData": base64.b64encode(data).decode()}
        s.save(path, content | inside)
        convert(path, tmp_path / wrong)
        assert (tmp_path / wrong / "images/train/a.png").read_bytes() == data
    s.save(path, content | {"imagePath": "a.json", "imageData": base64.b64encode(b"no").decode()})
    with pytest.raises(DataError, match=r"a\.json: the image inside") as error:
        convert(path, tmp_path / "out")
    assert "/.out-" not in str(error.value)


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "quadrilateral", "oriented_rectangle"])
def test_labelme_rectangles_may_have_four_corners(kind, tmp_path):
    path = s.labelme(tmp_path / "source", [s.labelme_shape("car", s.corners(s.CAR_BOX), kind)])
    convert(path, tmp_path / "out")
    assert ((read_mask(tmp_path / "out/masks/train/a.png") == 1) == (s.SCENE == 2)).all()


# The new readers


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


# Writers


def test_label_studio_brushes_of_every_length_of_run():
    rng = np.random.default_rng(4)
    for lengths in (
        [1, 2, 3, 4, 5],
        [70_000, 3, 16_384, 16_385],
        rng.integers(1, 300, 60).tolist(),
    ):
        mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)[None]
        assert (from_label_studio(to_label_studio(mask), mask.shape) == mask).all()
    one = np.array(
        [[False, True]]
    )  # the length, 8 bits a word, the sizes of counts; two runs of four
    expected = f"{8:032b}00111" + "0010001101111111" + "10001100000000" + "10001111111111"
    assert "".join(f"{byte:08b}" for byte in to_label_studio(one)).startswith(expected)


# What is not read is named


UNREAD = {
    "CreateML": [{"image": "a.png", "annotations": [{"label": "a", "coordinates": {"x": 1}}]}],
    "VoTT": {"name": "p", "assets": {}, "tags": []},
    "Hasty": {"project_name": "p", "label_classes": [], "images": [{"image_id": "1"}]},
    "captions": {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "caption": "a car"}],
        "categories": [],
    },
    "'project', 'frames'": {"project": 1, "frames": []},
}


@pytest.mark.parametrize("case", UNREAD)
def test_an_export_that_is_not_read_is_named(case, tmp_path):
    path = s.save(tmp_path / "a.json", UNREAD[case])
    assert not any(reader.recognizes(path) for reader in READERS.values())
    with pytest.raises(DataError) as error:
        recognize(path)
    assert case in str(error.value)
    with pytest.raises(DataError) as forced:
        convert(path, tmp_path / "out", ConvertOptions(tool="coco"))
    assert "again" not in f"{error.value} {forced.value}"


def test_files_of_other_xml_are_named(tmp_path):
    text = "<annotation><filename>a.jpg</filename><object><bndbox/>"
    s.save(tmp_path / "a.xml", text.replace("/>", "></bndbox>") + "</object></annotation>")
    with pytest.raises(DataError, match="boxes"):
        recognize(tmp_path)


def test_a_wrong_from_is_told_the_right_one(tmp_path):
    path = s.supervisely(tmp_path / "source")
    with pytest.raises(DataError, match="It seems to be supervisely: --from supervisely"):
        read("coco", path)

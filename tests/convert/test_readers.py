import base64
import io
import json

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image

from hrseg.convert.convert import ConvertOptions, convert
from hrseg.convert.formats import READERS, recognize
from hrseg.data.layouts import find_pairs
from hrseg.errors import DataError
from hrseg.imaging import read_mask, write_image, write_mask
from hrseg.labels import load_labels
from tests.convert import sources as s
from tests.imaging.test_rle import BRUSH


def converted(path, tmp_path, split="train", **choice):
    """Convert, and return the only mask of a split with the classes."""
    out = tmp_path / "out"
    report = convert(path, out, ConvertOptions(**choice))
    (pair,) = find_pairs("folder", out, split)
    return read_mask(pair.mask), load_labels(out / "labels.yaml"), report


SOURCES = {
    "cvat": s.cvat_xml,
    "labelme": s.labelme,
    "coco": s.coco,
    "yolo": lambda root: s.yolo(root, names=("a",)),
    "label_studio": lambda root: s.label_studio(
        root, [s.studio_polygon(s.ROAD, s.ROAD_BOX), s.studio_polygon(s.CAR, s.CAR_BOX, "p2")]
    ),
    "datumaro": s.datumaro,
    "supervisely": s.supervisely,
    "darwin": s.darwin,
    "segments_ai": s.segments_ai,
}


@pytest.mark.parametrize("tool", SOURCES)
def test_every_tool_gives_the_same_scene(tool, tmp_path):
    path = SOURCES[tool](tmp_path / "source")
    says_yes = [name for name, reader in READERS.items() if reader.recognizes(path)]
    assert says_yes == [recognize(path)] == [tool]
    mask, labels, report = converted(path, tmp_path)
    ids = [0, *(next(x.id for x in labels.labels if x.name == name) for name in (s.ROAD, s.CAR))]
    assert (mask == np.array(ids)[s.SCENE]).all()
    assert labels.names[0] == "background"
    assert report.tally.objects == {s.ROAD: 1, s.CAR: 1}
    assert report.tally.pixels == {"": 12, s.ROAD: 28, s.CAR: 8}


def test_the_report_says_what_became_of_each_class(tmp_path):
    _, _, report = converted(s.cvat_xml(tmp_path / "source"), tmp_path, merge=["car=vehicle"])
    text = report.text()
    assert "1 train" in text
    assert "Left out: points (1)." in text
    assert "z_order" in text
    assert [line.split() for line in text.splitlines()[2:6]] == [
        ["source", "class", "id", "becomes", "objects", "pixels", "share", "images"],
        ["road", "1", "road", "1", "28", "58.3", "%", "1"],
        ["car", "2", "vehicle", "1", "8", "16.7", "%", "1"],
        ["(no", "object)", "0", "background", "12", "25.0", "%"],
    ]
    assert report.to_dict()["classes"][1]["becomes"] == "vehicle"


# CVAT


def test_cvat_takes_colors_and_order_of_its_labels(tmp_path):
    _, labels, _ = converted(s.cvat_xml(tmp_path / "source"), tmp_path)
    assert labels.names == ["background", "road", "car"]
    assert labels.palette[1:].tolist() == [[0x80, 0x40, 0x80], [0, 0, 0x8E]]


def test_cvat_masks_run_along_the_rows_of_their_box(tmp_path):
    shape = '<mask label="car" source="manual" rle="1, 3, 2" left="2" top="1" width="3" height="2" z_order="0"/>'
    mask, _, _ = converted(s.cvat_xml(tmp_path / "source", shape), tmp_path)
    assert np.argwhere(mask == 2).tolist() == [[1, 3], [1, 4], [2, 2]]


def test_cvat_turned_boxes_and_ellipses(tmp_path):
    shapes = (
        '<box label="road" xtl="1.00" ytl="2.00" xbr="7.00" ybr="4.00" rotation="90.00" z_order="0"/>'
        '<ellipse label="car" cx="1.00" cy="1.00" rx="1.00" ry="1.00" z_order="1"/>'
    )
    mask, _, _ = converted(s.cvat_xml(tmp_path / "source", shapes), tmp_path)
    assert np.argwhere(mask == 1).min(axis=0).tolist() == [0, 3]
    assert (mask == 1).sum() == 12
    assert np.argwhere(mask == 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_cvat_segmentation_masks_by_their_labelmap(tmp_path):
    root = tmp_path / "export"
    s.photo(root / "JPEGImages" / "a.jpg")
    colors = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 142]], np.uint8)
    write_image(root / "SegmentationClass" / "a.png", colors[s.SCENE])
    s.save(root / "ImageSets/Segmentation/default.txt", "a\n")
    s.save(
        root / "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:0,0,142::\nroad:128,64,128::\n",
    )
    assert recognize(root) == "cvat"
    mask, labels, _ = converted(root, tmp_path)
    assert labels.names == ["background", "car", "road"]
    assert (mask == np.array([0, 2, 1])[s.SCENE]).all()


# Label Studio


def test_label_studio_brushes_boxes_and_ellipses(tmp_path):
    root = tmp_path / "source"
    value = {"x": 0, "y": 50, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["box"]}
    round_value = {"x": 75, "y": 25, "radiusX": 12.5, "radiusY": 25, "rotation": 0}
    path = s.label_studio(
        root,
        [
            {"id": "r", "type": "rectanglelabels", "value": value},
            {
                "id": "e",
                "type": "ellipselabels",
                "value": round_value | {"ellipselabels": ["ball"]},
            },
            {
                "id": "k",
                "type": "keypointlabels",
                "value": {"x": 1, "y": 1, "keypointlabels": ["p"]},
            },
        ],
    )
    mask, labels, report = converted(path, tmp_path)
    assert labels.names == ["background", "ball", "box"]
    assert (mask[3:, :4] == 2).all()
    assert (mask == 2).sum() == 12
    assert np.argwhere(mask == 1).tolist() == [[0, 5], [0, 6], [1, 5], [1, 6], [2, 5], [2, 6]]
    assert +report.source.skipped == {"keypointlabels regions": 1}


def test_label_studio_brush_is_a_mask_of_the_whole_image(tmp_path):
    root = tmp_path / "source"
    s.photo(root / "a.png", (3, 5))
    task = {
        "image": "http://studio:8080/data/local-files/?d=folder%2Fa.png",
        "id": 5,
        "tag": [
            {
                "format": "rle",
                "rle": BRUSH,
                "brushlabels": ["crack"],
                "original_width": 5,
                "original_height": 3,
            }
        ],
    }
    mask, _, _ = converted(s.save(root / "min.json", [task]), tmp_path)
    assert mask.tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_label_studio_takes_the_last_annotation_that_counts(tmp_path):
    path = s.label_studio(tmp_path / "source", [s.studio_polygon(s.CAR, s.CAR_BOX)])
    tasks = json.loads(path.read_text())
    first = tasks[0]["annotations"][0]
    empty = first | {"result": []}
    tasks[0]["annotations"] = [empty, first, empty | {"was_cancelled": True}]
    tasks.append(tasks[0] | {"id": 2, "annotations": []})
    s.save(path, tasks)
    mask, _, report = converted(path, tmp_path)
    assert (mask == 1).sum() == 8
    assert report.source.skipped["older annotations of one image"] == 1
    assert report.source.skipped["tasks without annotations"] == 1


# LabelMe


def test_labelme_circles_masks_ignored_and_background(tmp_path):
    data = io.BytesIO()
    Image.fromarray(np.array([[0, 255], [255, 255]], np.uint8)).save(data, "PNG")
    png = base64.b64encode(data.getvalue()).decode()
    shapes = [
        s.labelme_shape("road", [[0, 0], [8, 6]], "rectangle"),
        s.labelme_shape("ball", [[2, 2], [2, 4]], "circle"),
        s.labelme_shape("_background_", [[0, 5], [8, 6]], "rectangle"),
        s.labelme_shape("__ignore__", [[6, 0], [7, 1]], "mask", png),
    ]
    mask, labels, _ = converted(s.labelme(tmp_path / "source", shapes).parent, tmp_path)
    assert labels.names == ["background", "ball", "road"]
    assert mask[:, 6:].tolist() == [[2, 255], [255, 255], [2, 2], [2, 2], [2, 2], [0, 0]]
    assert (mask[:4, :4] == 1).sum() == 12  # a circle of radius 2 holds twelve centers
    assert (mask[5] == 0).all()


def test_labelme_files_may_hold_their_image(tmp_path):
    path = s.labelme(tmp_path / "source")
    content = json.loads(path.read_text())
    image = (path.parent / "a.png").read_bytes()
    (path.parent / "a.png").unlink()
    s.save(
        path, content | {"imageData": base64.b64encode(image).decode(), "imagePath": "..\\x\\a.jpg"}
    )
    mask, _, report = converted(path, tmp_path)
    assert (mask > 0).sum() == 36
    assert next((report.out / "images/train").iterdir()).read_bytes() == image


# COCO


def test_coco_run_lengths_holes_parts_and_crowds(tmp_path):
    whole = {"size": list(s.SIZE), "counts": [0, 48]}
    ring = np.zeros(s.SIZE, bool)
    ring[1:5, 1:6] = True
    ring[2:4, 2:4] = False
    from pycocotools import mask as oracle

    text = oracle.encode(np.asfortranarray(ring.astype(np.uint8)))["counts"].decode()
    parts = [[0, 0, 1, 0, 1, 1, 0, 1], [7, 5, 8, 5, 8, 6, 7, 6]]
    path = s.coco(
        tmp_path / "source",
        [
            s.coco_object(1, 3, {"size": list(s.SIZE), "counts": text}),
            s.coco_object(2, 3, parts),
            s.coco_object(3, 1, whole, crowd=1),
            s.coco_object(4, 1, []),
        ],
    )
    mask, labels, report = converted(path, tmp_path)
    assert labels.names == ["background", "road", "car"]
    expected = np.where(ring, 2, 1)
    expected[0, 0] = expected[5, 7] = 2
    assert (mask == expected).all()
    assert report.source.skipped == {"objects with a box only": 1}


def test_coco_splits_come_from_the_names_of_the_files(tmp_path):
    s.coco(tmp_path / "source")
    s.coco(tmp_path / "source", file="instances_val2017.json")
    s.coco(tmp_path / "source", file="captions_val2017.json")
    s.photo(tmp_path / "source" / "val2017" / "000000000001.png")
    out = tmp_path / "out"
    report = convert(tmp_path / "source", out)
    assert report.splits == {"train": 1, "val": 1}
    assert find_pairs("folder", out, "val")[0].name == "000000000001"


def test_coco_panoptic(tmp_path):
    root = tmp_path / "source"
    s.photo(root / "train2017" / "1.png")
    numbers = np.array([0, 300, 70000])[s.SCENE]
    colors = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=-1)
    write_image(root / "annotations/panoptic_train2017/1.png", colors.astype(np.uint8))
    s.save(
        root / "annotations/panoptic_train2017.json",
        {
            "images": [{"id": 1, "file_name": "1.png", "height": 6, "width": 8}],
            "annotations": [
                {
                    "image_id": 1,
                    "file_name": "1.png",
                    "segments_info": [
                        {"id": 300, "category_id": 100, "area": 28, "iscrowd": 0},
                        {"id": 70000, "category_id": 3, "area": 8, "iscrowd": 0},
                    ],
                }
            ],
            "categories": [
                {"id": 3, "name": "car", "isthing": 1},
                {"id": 100, "name": "road", "isthing": 0},
            ],
        },
    )
    mask, labels, _ = converted(root, tmp_path)
    assert labels.names == ["car", "road"]
    assert (mask == np.array([255, 1, 0])[s.SCENE]).all()


# VOC, YOLO, colors


@pytest.mark.slow
def test_voc_palette_masks_keep_their_lists(tmp_path):
    root = tmp_path / "VOC2012"
    palette = load_labels("voc2012").id_palette()
    ids = np.array([0, 7, 255], np.uint8)[s.SCENE]
    for name, split in (("2007_000032", "train"), ("2007_000033", "val")):
        s.photo(root / "JPEGImages" / f"{name}.jpg")
        write_mask(root / "SegmentationClass" / f"{name}.png", ids, palette)
        s.save(root / f"ImageSets/Segmentation/{split}.txt", name + "\n")
    s.save(root / "ImageSets/Segmentation/trainval.txt", "2007_000032\n2007_000033\n")
    assert recognize(root) == "voc"
    mask, labels, report = converted(root, tmp_path)
    assert labels.names == load_labels("voc2012").names
    assert (mask == ids).all()
    assert report.splits == {"train": 1, "val": 1}


def test_yolo_images_without_a_file_are_background(tmp_path):
    mask, labels, report = converted(s.yolo(tmp_path / "source"), tmp_path, split="val")
    assert not mask.any()
    assert labels.names == ["background", "road", "car"]
    assert report.splits == {"train": 1, "val": 1}


def test_yolo_boxes_have_four_numbers(tmp_path):
    mask, _, _ = converted(s.yolo(tmp_path / "source", ["1 0.5 0.5 0.25 0.333333"]), tmp_path)
    assert np.argwhere(mask == 2).tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("colors.txt", "128 64 128 road\n0 0 142 car\n0 0 0 nothing\n"),
        ("label_colors.txt", "128 64 128\troad\n0 0 142\tcar\n0 0 0\tnothing\n"),
        ("class_dict.csv", "name,r,g,b\nroad,128,64,128\ncar,0,0,142\nnothing,0,0,0\n"),
        ("labelmap.txt", "road:128,64,128::\ncar:0,0,142::\nnothing:0,0,0::\n"),
        ("given.txt", "road 128 64 128\ncar 0 0 142\nnothing 0 0 0\n"),
    ],
)
def test_color_masks_by_any_usual_table(file, text, tmp_path):
    root = tmp_path / "archive"
    colors = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 142]], np.uint8)
    for split in ("train", "val"):
        s.photo(root / split / "images" / "a.png")
        write_image(root / split / "masks" / "a.png", colors[s.SCENE])
    table = s.save(root / file, text)
    given = {"classes": str(table), "tool": "colors"} if file == "given.txt" else {}
    mask, labels, _ = converted(root, tmp_path, **given)
    assert labels.names == ["road", "car", "nothing"]
    assert (mask == np.array([2, 0, 1])[s.SCENE]).all()
    assert labels.palette[0].tolist() == [128, 64, 128]


# Cityscapes


def test_cityscapes_polygons_equal_the_official_masks(tmp_path):
    root = s.cityscapes(tmp_path / "cs")
    assert recognize(root) == "cityscapes"
    mask, labels, report = converted(root, tmp_path)
    official = Annotation()
    official.fromJsonFile(str(next(root.glob("gtFine/*/*/*_polygons.json"))))
    assert (mask == np.array(createLabelImage(official, "trainIds"))).all()
    assert labels.names == load_labels("cityscapes").names
    assert {0, 13, 11, 255} == set(np.unique(mask).tolist())
    assert report.source.skipped == {"'license plate' polygons, which are never drawn": 1}


def test_random_cityscapes_polygons_equal_the_official_masks(tmp_path):
    rng = np.random.default_rng(5)
    names = ["road", "car", "cargroup", "sky", "person", "static", "license plate"]
    objects = [
        {
            "label": names[rng.integers(len(names))],
            "polygon": (rng.random((k, 2)) * 40 - 8).astype(int).tolist(),
        }
        for k in rng.integers(2, 9, 30)
    ]
    root = s.cityscapes(tmp_path / "cs", objects)
    mask, _, _ = converted(root, tmp_path)
    official = Annotation()
    official.fromJsonFile(str(next(root.glob("gtFine/*/*/*_polygons.json"))))
    assert (mask == np.array(createLabelImage(official, "trainIds"))).all()


# Whatever is wrong is one paragraph that names the file and the object


def xml(shape):
    return lambda root: s.cvat_xml(root, shape)


def studio(**changes):
    def write(root):
        region = s.studio_polygon(s.CAR, s.CAR_BOX)
        value = region["value"] | changes.pop("value", {})
        return s.label_studio(root, [region | {"value": value} | changes])

    return write


BROKEN = {
    "cut xml": (
        lambda root: s.save(root / "annotations.xml", "<annotations><meta>"),
        ["annotations.xml", "XML"],
    ),
    "entities": (
        lambda root: s.save(
            root / "annotations.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotations/>'
        ),
        ["entities"],
    ),
    "video": (
        lambda root: s.save(root / "annotations.xml", "<annotations><track/></annotations>"),
        ["CVAT for video", "CVAT for images 1.1"],
    ),
    "cvat points": (
        xml('<polygon label="car" points="1,1;2,x;3,3" z_order="0"/>'),
        ["annotations.xml, image 'a.png', polygon 1 ('car')", "pairs of numbers"],
    ),
    "cvat two points": (
        xml('<polygon label="car" points="1,1;2,2" z_order="0"/>'),
        ["polygon 1 ('car')", "too few points", "no object with an area"],
    ),
    "cvat rle": (
        xml('<mask label="car" rle="1, 3" left="2" top="1" width="3" height="2"/>'),
        ["mask 1 ('car')", "4 pixels instead of 6"],
    ),
    "cvat box": (xml('<box label="car" xtl="1" ytl="nan" xbr="2" ybr="3"/>'), ["box 1", "nan"]),
    "cvat size": (
        lambda root: s.cvat_xml(root, size=(8, 6)),
        ["annotated at 8x6", "6x8", "--images"],
    ),
    "studio rotation": (studio(image_rotation=90), ["task 1, region p1 ('car')", "rotated"]),
    "studio points": (studio(value={"points": [[1, 2], [3]]}), ["region p1", "pairs of numbers"]),
    "studio no image": (
        lambda root: s.label_studio(root, [s.studio_polygon(s.CAR, s.CAR_BOX)], "gone.png"),
        ["task 1", "gone.png", "--images"],
    ),
    "labelme kind": (
        lambda root: s.labelme(root, [s.labelme_shape("car", [[1, 1]], "star")]),
        ["a.json, shape 1 ('car')", "star"],
    ),
    "labelme mask": (
        lambda root: s.labelme(root, [s.labelme_shape("car", [[1, 1], [2, 2]], "mask", "%%")]),
        ["a.json, shape 1 ('car')", "base64"],
    ),
    "labelme rectangle": (
        lambda root: s.labelme(
            root, [s.labelme_shape("car", [[1, 1], [2, 2], [3, 3]], "rectangle")]
        ),
        ["a rectangle has 2 points", "3"],
    ),
    "coco category": (
        lambda root: s.coco(root, [s.coco_object(9, 77, [[0, 0, 1, 0, 1, 1]])]),
        ["instances_train2017.json, image", "annotation 9", "no category 77"],
    ),
    "coco odd": (
        lambda root: s.coco(root, [s.coco_object(9, 3, [[0, 0, 1, 0, 1, 1, 5]])]),
        ["annotation 9", "7 numbers"],
    ),
    "coco size": (
        lambda root: s.coco(root, [s.coco_object(9, 3, {"size": [8, 6], "counts": [48]})]),
        ["annotation 9", "[8, 6]"],
    ),
    "coco counts": (
        lambda root: s.coco(root, [s.coco_object(9, 3, {"size": [6, 8], "counts": [1, 2]})]),
        ["annotation 9 ('car')", "3 pixels instead of 48"],
    ),
    "coco string": (
        lambda root: s.coco(root, [s.coco_object(9, 3, {"size": [6, 8], "counts": "a\u00e4"})]),
        ["annotation 9", "letter"],
    ),
    "yolo class": (
        lambda root: s.yolo(root, ["7 0 0 1 0 1 1"]),
        ["a.txt, line 1", "class '7'", "0, 1"],
    ),
    "yolo odd": (lambda root: s.yolo(root, ["", "1 0 0 1 0 1"]), ["a.txt, line 1", "5 numbers"]),
    "yolo pixels": (lambda root: s.yolo(root, ["1 0 0 100 0 100 100"]), ["line 1", "0 to 1"]),
    "cityscapes label": (
        lambda root: s.cityscapes(root, [{"label": "dragon", "polygon": [[0, 0], [1, 1], [2, 0]]}]),
        ["gtFine_polygons.json, object 1", "dragon"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_damage_is_named_with_file_and_object(case, tmp_path):
    make, words = BROKEN[case]
    path = make(tmp_path / "source")
    with pytest.raises(DataError) as error:
        convert(path, tmp_path / "out")
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]  # nothing half made


def test_an_unknown_color_is_named_with_its_place(tmp_path):
    root = tmp_path / "archive"
    s.photo(root / "images" / "a.png")
    colors = np.array([[0, 0, 0], [128, 64, 128], [1, 2, 3]], np.uint8)
    write_image(root / "masks" / "a.png", colors[s.SCENE])
    s.save(root / "colors.txt", "0 0 0 nothing\n128 64 128 road\n")
    with pytest.raises(
        DataError, match=r"a\.png holds color \(1, 2, 3\) in 8 pixels.*row 1, column 1"
    ) as error:
        convert(root, tmp_path / "out")
    assert "colors.txt" in str(error.value)


def test_what_nobody_knows_is_said(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        recognize(tmp_path / "gone")
    (tmp_path / "a.zip").touch()
    with pytest.raises(DataError, match="Unpack"):
        recognize(tmp_path / "a.zip")
    with pytest.raises(DataError, match="--from") as error:
        recognize(tmp_path)
    assert all(name in str(error.value) for name in READERS)


def test_label_studio_predictions_count_where_nobody_annotated(tmp_path):
    path = s.label_studio(tmp_path / "source", [s.studio_polygon(s.CAR, s.CAR_BOX)])
    tasks = json.loads(path.read_text())
    tasks[0]["predictions"] = tasks[0].pop("annotations")
    s.save(path, tasks[:1])
    tasks[0]["annotations"] = []
    mask, _, report = converted(s.save(path, tasks), tmp_path)
    assert (mask == 1).sum() == 8
    assert "Of 1 image without annotations the predictions were taken." in report.text()

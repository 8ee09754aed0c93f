import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.convert.formats import READERS, recognize
from hrseg.errors import DataError
from tests.convert import sources as s
from tests.convert.sources import converted

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
        lambda root: s.save(root / "annotations.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotations/>'),
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
        lambda root: s.labelme(root, [s.labelme_shape("car", [[1, 1], [2, 2], [3, 3]], "rectangle")]),
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

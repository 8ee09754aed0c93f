"""Random damage ends in an error of ours, of one paragraph, or does no harm; never in a traceback or half a folder."""

import copy
import json
import random
import shutil

import pytest

from hrseg.convert.convert import ConvertOptions, convert
from hrseg.errors import HrsegError
from tests.convert import sources as s

ODD = [
    None,
    True,
    -1,
    0,
    1e300,
    float("nan"),
    10**30,
    "",
    "x",
    "../../x",
    [],
    [[]],
    {},
    [None],
    ["a"],
]
LETTERS = ["", "9", "-", ".", "e", '"', "<", " ", "x", "\n", "99999999", "nan"]
ROUND = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 5, "ellipselabels": ["b"]}
SOURCES = {
    "coco": lambda root: s.coco(
        root,
        [
            s.coco_object(1, 3, [[0, 0, 4, 0, 4, 4]]),
            s.coco_object(2, 1, {"size": [6, 8], "counts": [0, 48]}),
        ],
    ),
    "labelme": lambda root: s.labelme(
        root,
        [
            s.labelme_shape("road", [[0, 2], [8, 6]], "rectangle"),
            s.labelme_shape("ball", [[1, 1], [2, 3]], "circle"),
            s.labelme_shape("car", [[1, 1], [2, 3], [4, 4]], "polygon"),
        ],
    ),
    "label_studio": lambda root: s.label_studio(
        root,
        [s.studio_polygon("a", s.CAR_BOX), {"id": "e", "type": "ellipselabels", "value": ROUND}],
    ),
    "datumaro": lambda root: s.datumaro(root) / "annotations/train.json",
    "supervisely": lambda root: s.supervisely(root) / "ds/ann/a.png.json",
    "darwin": s.darwin,
    "segments_ai": s.segments_ai,
    "cityscapes": lambda root: next(s.cityscapes(root).rglob("*_polygons.json")),
}
TEXTS = {"cvat": (s.cvat_xml, "annotations.xml"), "yolo": (s.yolo, "labels/train/a.txt")}


def places(content, path=()):
    if path:
        yield path
    if isinstance(content, dict | list):
        keys = content if isinstance(content, dict) else range(len(content))
        for key in keys:
            yield from places(content[key], (*path, key))


def damaged(content, rng):
    content = copy.deepcopy(content)
    *way, last = rng.choice(list(places(content)))
    parent = content
    for key in way:
        parent = parent[key]
    if rng.random() < 0.2:
        del parent[last]
    else:
        parent[last] = copy.deepcopy(rng.choice(ODD))
    return content


def try_it(tool, path, tmp_path):
    said = ""
    try:
        convert(path, tmp_path / "out", ConvertOptions(tool=tool))
    except HrsegError as error:
        said = str(error)
    assert "\n" not in said
    assert (tmp_path / "out").exists() != bool(said)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert [place.name for place in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("tool", SOURCES)
def test_damaged_json(tool, tmp_path):
    rng = random.Random(tool)
    file = SOURCES[tool](tmp_path / "source")
    content = json.loads(file.read_text())
    for _ in range(60):
        s.save(file, damaged(content, rng))
        whole = tool in ("cityscapes", "supervisely")
        try_it(tool, tmp_path / "source" if whole else file, tmp_path)


@pytest.mark.parametrize("tool", TEXTS)
def test_damaged_text(tool, tmp_path):
    rng = random.Random(tool)
    make, name = TEXTS[tool]
    path = make(tmp_path / "source")
    file = tmp_path / "source" / name
    text = file.read_text()
    for _ in range(60):
        letters = list(text)
        for _ in range(rng.randint(1, 4)):
            letters[rng.randrange(len(letters))] = rng.choice(LETTERS)
        s.save(file, "".join(letters))
        try_it(tool, path, tmp_path)

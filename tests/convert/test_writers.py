import json
import os
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO

from hrseg.convert.convert import ConvertOptions, convert
from hrseg.convert.writers import WRITERS, export
from hrseg.data.layouts import find_pairs
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import read_mask, write_image, write_mask
from tests.convert.conftest import predicted

SIZE = (40, 56)
WAYS = [("coco", "masks"), ("cvat", "masks"), ("cvat", "polygons"), ("labelme", "polygons")]
WAYS += [("labelme", "masks"), ("label_studio", "masks"), ("label_studio", "polygons")]
WAYS += [("datumaro", "masks")]


def masks(classes):
    """Noise, nested rings, diagonals, one class only, ignored pixels inside and around."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    values = np.array([*range(classes), 255], np.uint8)
    rings = values[(np.hypot(y - 20, x - 28) / 4).astype(int) % len(values)]
    blocks = np.kron(rng.choice(values, (10, 14)), np.ones((4, 4), np.uint8))
    return {
        "noise": rng.choice(values, SIZE),
        "rings": rings,
        "deep/blocks": blocks,
        "diagonal": values[(x + y) % len(values)],
        "one": np.full(SIZE, 1, np.uint8),
        "none": np.full(SIZE, 255, np.uint8),
    }


@pytest.mark.parametrize(("to", "shapes"), WAYS)
@pytest.mark.parametrize("table", ["with_background", "without"])
def test_masks_come_back_equal(to, shapes, table, tmp_path, request):
    labels = request.getfixturevalue(table)
    given = masks(labels.num_classes)
    predicted(tmp_path, given)
    folder = to in ("labelme", "datumaro")
    out = tmp_path / ("parts" if folder else f"out.{'xml' if to == 'cvat' else 'json'}")
    count, broken = export(tmp_path / "predicted", out, to, labels, images=tmp_path / "photos", shapes=shapes)
    assert (count, broken) == (len(given), [])
    choice = ConvertOptions(images=tmp_path / "photos", labels=labels)
    report = convert(out, tmp_path / "back", choice)
    assert report.tool == to
    found = {pair.name: read_mask(pair.mask) for pair in find_pairs("folder", report.out, "train")}
    assert set(found) == set(given)
    for name, mask in given.items():
        assert (found[name] == mask).all(), name


def test_pycocotools_reads_the_same_pixels(tmp_path, with_background, capsys):
    given = masks(4)
    predicted(tmp_path, given)
    out = tmp_path / "out.json"
    export(tmp_path / "predicted", out, "coco", with_background, images=tmp_path / "photos")
    coco = COCO(str(out))
    names = {row["id"]: row["name"] for row in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == ["road", "car", "tree", "__ignore__"]
    values = {"road": 1, "car": 2, "tree": 3, "__ignore__": 255}
    for number, image in coco.imgs.items():
        mask = np.zeros(SIZE, np.uint8)
        for row in coco.loadAnns(coco.getAnnIds([number])):
            pixels = coco.annToMask(row).astype(bool)
            assert row["area"] == pixels.sum()
            x, y, width, height = row["bbox"]
            assert pixels[y : y + height, x : x + width].sum() == pixels.sum()
            mask[pixels] = values[names[row["category_id"]]]
        assert (mask == given[image["file_name"].removesuffix(".png")]).all()


def test_labelme_files_find_their_image_from_where_they_lie(tmp_path, without):
    predicted(tmp_path, {"deep/a": np.zeros((4, 5), np.uint8)})
    export(tmp_path / "predicted", tmp_path / "out", "labelme", without, images=tmp_path / "photos")
    file = tmp_path / "out/deep/a.json"
    content = json.loads(file.read_text())
    assert content["imagePath"] == "../../photos/deep/a.png"
    assert (file.parent / content["imagePath"]).is_file()
    assert content["shapes"][0]["label"] == "road"


def test_a_folder_layout_needs_no_further_word(tmp_path, without):
    write_image(tmp_path / "d/images/val/a.png", np.zeros((4, 5, 3), np.uint8))
    write_mask(tmp_path / "d/masks/val/a.png", np.ones((4, 5), np.uint8))
    export(tmp_path / "d", tmp_path / "out.json", "coco", without)
    assert json.loads((tmp_path / "out.json").read_text())["images"][0]["file_name"] == "val/a.png"
    choice = ConvertOptions(images=tmp_path / "d/images", labels=without)
    assert convert(tmp_path / "out.json", tmp_path / "back", choice).splits == {"val": 1}
    assert (read_mask(tmp_path / "back/masks/val/a.png") == 1).all()


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path, without):
    predicted(tmp_path, {"a": np.full((4, 5), 9, np.uint8)})
    out, photos = tmp_path / "out.json", tmp_path / "photos"
    with pytest.raises(DataError, match="id 9"):
        export(tmp_path / "predicted", out, "coco", without, images=photos)
    with pytest.raises(DataError, match="--images"):
        export(tmp_path / "predicted", out, "coco", without)
    with pytest.raises(DataError, match="No masks"):
        export(tmp_path / "gone", out, "coco", without)
    with pytest.raises(ConfigError, match="masks, not with polygons"):
        export(tmp_path / "predicted", out, "coco", without, shapes="polygons")
    with pytest.raises(ConfigError, match="polygons"):
        export(tmp_path / "predicted", out, "cvat", without, tolerance=1)
    with pytest.raises(ConfigError, match="Unknown format"):
        export(tmp_path / "predicted", out, "voc", without)
    write_image(photos / "a.png", np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(DataError, match="4x5 pixels"):
        export(tmp_path / "predicted", out, "coco", without, images=photos)
    out.write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        export(tmp_path / "predicted", out, "coco", without, images=photos)
    assert out.read_text() == "mine"


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_name_that_is_no_utf8_is_refused_and_named(tmp_path, without, to):
    predicted(tmp_path, {os.fsdecode(b"caf\xe9"): np.ones((4, 5), np.uint8)})
    with pytest.raises(DataError, match=r"caf\\xe9\.png has a name that is no UTF-8"):
        export(tmp_path / "predicted", tmp_path / "out", to, without, images=tmp_path / "photos")
    assert not (tmp_path / "out").exists()

"""Every kind of file is written, and read back by other programs."""

import json

import numpy as np
import pytest
import rasterio
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from hrseg.errors import ConfigError
from hrseg.imaging import Georeference, read_image, read_mask
from hrseg.inference.outputs import OUTPUTS, Options, needed_maps, result_paths, write_all
from tests.inference.outputs.made import LABELS, prediction

MADE = prediction()
IDS = np.array([7, 26, 23])


def write(kind, tmp_path, made=MADE, **options):
    return write_all(made, tmp_path, "a/x", [kind], Options(**options))[kind]


def test_every_kind_has_its_own_name_and_is_written_whole(tmp_path):
    paths = write_all(MADE, tmp_path, "a/x", list(OUTPUTS))
    assert list(paths) == list(OUTPUTS)
    assert len(set(paths.values())) == len(OUTPUTS)
    assert sorted(tmp_path.rglob("*.*")) == sorted(paths.values())
    assert paths == result_paths(tmp_path, "a/x", list(OUTPUTS))


def test_the_same_prediction_gives_the_same_bytes(tmp_path):
    first = write_all(MADE, tmp_path / "1", "x", list(OUTPUTS))
    second = write_all(MADE, tmp_path / "2", "x", list(OUTPUTS))
    for kind, path in first.items():
        assert path.read_bytes() == second[kind].read_bytes(), kind


def test_masks_hold_ids_train_ids_and_colors(tmp_path):
    np.testing.assert_array_equal(read_mask(write("mask", tmp_path)), IDS[MADE.mask])
    np.testing.assert_array_equal(read_mask(write("trainids", tmp_path)), MADE.mask)
    with Image.open(write("colour", tmp_path)) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.array(image), LABELS.palette[MADE.mask])
    assert read_image(write("overlay", tmp_path)).shape[0] > 20


@pytest.mark.parametrize("kind", ["confidence", "margin", "entropy"])
def test_maps_are_sixteen_bits_of_one(kind, tmp_path):
    with Image.open(write(kind, tmp_path)) as image:
        assert image.mode == "I;16"
        stored = np.array(image)
    np.testing.assert_allclose(stored / 65535, getattr(MADE, kind), atol=1.01 / 65535)
    maps = np.load(write("maps", tmp_path))
    assert maps[kind].dtype == np.float32
    np.testing.assert_array_equal(maps[kind], getattr(MADE, kind))


def test_probabilities_as_arrays(tmp_path):
    made = prediction(probability_ids=(2, 0), probabilities=MADE.probabilities[[2, 0]])
    stored = np.load(write("probabilities", tmp_path, made))
    assert stored["probabilities"].dtype == np.float16
    assert stored["classes"].tolist() == ["sky & air", "road"]
    assert stored["train_ids"].tolist() == [2, 0]
    np.testing.assert_array_equal(stored["probabilities"], made.probabilities)


def test_probabilities_as_named_bands_on_the_ground(tmp_path):
    place = Georeference((0.5, 0.0, 500000.0, 0.0, -0.5, 4e6), "EPSG:32632")
    made = prediction(georeference=place)
    with rasterio.open(write("probabilities_tif", tmp_path, made)) as file:
        assert file.descriptions == ("road", "car", "sky & air")
        assert (file.crs.to_epsg(), file.transform[:6]) == (32632, place.transform)
        np.testing.assert_array_equal(file.read(), made.probabilities.astype(np.float32))


def test_coco_is_read_by_its_own_tools(tmp_path, capsys):
    coco = COCO(str(write("coco", tmp_path)))
    assert {row["id"]: row["name"] for row in coco.loadCats(coco.getCatIds())} == {
        7: "road",
        26: "car",
        23: "sky & air",
    }
    ids = np.zeros_like(MADE.mask)
    for one in coco.loadAnns(coco.getAnnIds()):
        pixels = coco.annToMask(one).astype(bool)
        assert one["area"] == pixels.sum() == coco_mask.area(one["segmentation"])
        assert one["bbox"] == coco_mask.toBbox(one["segmentation"]).tolist()
        assert one["score"] == pytest.approx(MADE.confidence[pixels].mean(), abs=1e-5)
        ours = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
        assert one["segmentation"]["counts"] == ours
        assert not ids[pixels].any()
        ids[pixels] = one["category_id"]
    np.testing.assert_array_equal(ids, IDS[MADE.mask])
    capsys.readouterr()


# What is refused


def test_a_map_that_was_not_kept_is_named_before_anything_is_written(tmp_path):
    assert needed_maps(["mask", "maps", "entropy"]) == ("confidence", "margin", "entropy")
    with pytest.raises(ConfigError, match="'entropy' needs the entropy of every pixel"):
        write_all(prediction(entropy=None), tmp_path, "x", ["mask", "entropy"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["masks"], "Unknown output 'masks'. Outputs: .* Did you mean 'maps'|'mask'"),
        ([], "No kind of result"),
    ],
)
def test_kinds_that_are_none(kinds, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        write_all(MADE, tmp_path, "x", kinds)


@pytest.mark.parametrize("options", [{"pixel_size": 0}, {"tolerance": -1}, {"min_area": float("nan")}])
def test_options_that_cannot_be(options):
    with pytest.raises(ConfigError, match="Give"):
        Options(**options)


def test_json_of_every_kind_is_plain(tmp_path):
    for kind in ("coco", "geojson", "areas"):
        json.loads(
            write(kind, tmp_path).read_text(encoding="utf-8"),
            parse_constant=lambda word: pytest.fail(word),
        )

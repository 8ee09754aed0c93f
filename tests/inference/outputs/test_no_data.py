"""Pixels without data are in no class, no area and no score, whatever kind of file is written."""

import csv
import json

import numpy as np
import pytest
import rasterio
from PIL import Image
from pycocotools import mask as coco_mask

from hrseg.imaging import Georeference
from hrseg.inference.outputs import OUTPUTS, Options, possible_paths, write_all
from hrseg.labels import Label, LabelSet
from tests.inference.outputs.made import LABELS, prediction

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
UTM = Georeference((0.5, 0.0, 5e5, 0.0, -0.5, 4e6), "EPSG:32632")
VALID = np.ones((20, 30), bool)
VALID[:, :11] = VALID[3, 20] = False
EMPTY, FULL = int((~VALID).sum()), int(VALID.sum())
SCORES = ("confidence", "margin", "entropy")
MAPS = (*SCORES, "probabilities")


def without(place=None, **more):
    """A prediction as a `Predictor` gives it: 255 and NaN where there is no data."""
    made = prediction()
    mask = np.where(VALID, made.mask, 255)
    maps = {name: np.where(VALID, getattr(made, name), np.nan) for name in MAPS}
    maps["probabilities"] = maps["probabilities"].astype(np.float16)
    return prediction(mask, valid=VALID, georeference=place, **{**maps, **more})


def written(kind, tmp_path, made=None, **options):
    return write_all(made or without(), tmp_path, "x", [kind], Options(**options))[kind]


def read(path):
    if path.suffix == ".tif":
        with rasterio.open(path) as file:
            return file.read().squeeze(), file
    with Image.open(path) as image:
        return np.array(image), None


PLACED = {kind for kind, row in OUTPUTS.items() if row.placed}
VALUES = {"mask": 255, "trainids": 255, "confidence": 0, "margin": 0, "entropy": 0}


@pytest.mark.parametrize("place", [None, UTM], ids=["photograph", "placed"])
@pytest.mark.parametrize("kind", sorted(PLACED))
def test_rasters_hold_one_value_there_and_nowhere_else(kind, place, tmp_path):
    values, file = read(written(kind, tmp_path, without(place)))
    np.testing.assert_array_equal(values == VALUES[kind], ~VALID)
    if place is not None:
        assert file.nodata == VALUES[kind]


def test_colors_are_black_there(tmp_path):
    assert not read(written("colour", tmp_path))[0][~VALID].any()


def test_arrays_and_bands_are_not_a_number_there(tmp_path):
    stored = np.load(written("maps", tmp_path))
    arrays = [stored[name][None] for name in SCORES]
    arrays.append(np.load(written("probabilities", tmp_path))["probabilities"])
    with rasterio.open(written("probabilities_tif", tmp_path)) as file:
        assert np.isnan(file.nodata)
        arrays.append(file.read())
    for values in arrays:
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(~VALID, values.shape))


def test_tables_polygons_and_annotations_leave_them_out(tmp_path):
    made = without(UTM)
    for kind in ("areas", "areas_csv"):
        path = written(kind, tmp_path, made)
        if kind == "areas":
            table = json.loads(path.read_text())
            assert (table["pixels"], table["square_meters"]) == (FULL, FULL / 4)
            rows = table["classes"]
        else:
            rows = list(csv.DictReader(path.read_text().splitlines()))
        assert [row["class"] for row in rows] == LABELS.names
        assert sum(int(row["pixels"]) for row in rows) == FULL
        assert sum(float(row["percent"]) for row in rows) == pytest.approx(100)
        assert sum(float(row["square_meters"]) for row in rows) == pytest.approx(FULL / 4)
    coco = json.loads(written("coco", tmp_path, made).read_text())
    covered = sum(coco_mask.decode(one["segmentation"]) for one in coco["annotations"])
    np.testing.assert_array_equal(covered, VALID)
    features = json.loads(written("geojson", tmp_path, made).read_text())["features"]
    assert sum(one["properties"]["pixels"] for one in features) == FULL
    assert sum(made.shares().values()) == pytest.approx(1)


def test_degrees_are_summed_over_pixels_with_data_only(tmp_path):
    rotated = Georeference((0.0, 0.01, 10.0, 0.01, 0.0, 50.0), "EPSG:4326")
    whole = json.loads(written("areas", tmp_path, prediction(georeference=rotated)).read_text())
    part = json.loads(written("areas", tmp_path, without(rotated)).read_text())
    sizes = np.broadcast_to(rotated.pixel_areas(20, 30), (20, 30))
    assert whole["square_meters"] == pytest.approx(sizes.sum())
    assert part["square_meters"] == pytest.approx(sizes[VALID].sum())
    assert sum(row["square_meters"] for row in part["classes"]) == pytest.approx(sizes[VALID].sum())


def test_ids_that_take_255_leave_another_one_for_no_data(tmp_path):
    labels = LabelSet("wide", tuple(Label(254 + i, i, f"c{i}", (i, 1, 2)) for i in range(3)))
    for place in (None, UTM):
        values, _ = read(written("mask", tmp_path, without(place, labels=labels)))
        assert (values[~VALID] == 65535).all()
        assert set(np.unique(values[VALID])) == {254, 255, 256}


def test_an_image_without_any_data_is_written_as_well(tmp_path):
    nothing = np.zeros((4, 5), bool)
    nan = np.full((4, 5), np.nan, np.float32)
    made = prediction(np.full((4, 5), 255), valid=nothing, **dict.fromkeys(SCORES, nan))
    write_all(made, tmp_path, "x", list(OUTPUTS))
    table = json.loads((tmp_path / "x_areas.json").read_text())
    assert (table["pixels"], {row["percent"] for row in table["classes"]}) == (0, {0.0})
    assert made.shares() == {}


def test_the_place_alone_decides_the_kind_of_file(tmp_path):
    for place in (None, UTM):
        paths = write_all(prediction(georeference=place), tmp_path, "x", list(OUTPUTS))
        assert set(paths.values()) <= set(possible_paths(tmp_path, "x", list(OUTPUTS)))
        for kind, path in paths.items():
            assert path.suffix == (".tif" if place and OUTPUTS[kind].placed else f".{path.suffix[1:]}")
            if place and path.suffix == ".tif":
                with rasterio.open(path) as file:
                    assert (file.crs.to_epsg(), file.transform[:6]) == (32632, UTM.transform)
                    assert file.shape == (20, 30)
    mask, _ = read(tmp_path / "x_mask.png")
    with rasterio.open(tmp_path / "x_mask.tif") as file:
        np.testing.assert_array_equal(file.read(1), mask)
        assert file.colormap(1)[26][:3] == (0, 0, 142)

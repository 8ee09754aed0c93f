"""Rasters through every way to predict: what has no data has no class, and what has a place keeps it."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from hrseg.errors import DataError
from hrseg.imaging import read_mask
from hrseg.inference.predict_files import predict_files
from hrseg.inference.predictor import Predictor
from hrseg.models import create_model
from hrseg.ops.upsample import STEP
from tests.inference.outputs.made import LABELS

SIZE = (36, 52)
VALID = np.ones(SIZE, bool)
VALID[:, :20] = False
TRANSFORM = Affine(0.5, 0, 500000, 0, -0.5, 4000000)
PLACED = {"crs": "EPSG:32632", "transform": TRANSFORM}


def raster(path: Path, how: str, bands: int = 3, dtype: str = "uint8", **place) -> Path:
    """Write noise whose left part has no data, in one of the ways that a file can say so."""
    rng = np.random.default_rng(0)
    top = 200 if dtype == "uint8" else 60000
    values = rng.integers(20, top, (bands, *SIZE)).astype(dtype)
    values[:, ~VALID] = 0
    options = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "dtype": dtype, **place}
    options |= {"count": bands + (how == "alpha"), "nodata": 0 if how == "nodata" else None}
    if bands == 3:
        options["photometric"] = "RGB"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **options) as file:
        if how == "alpha":
            file.colorinterp = (*file.colorinterp[:bands], ColorInterp.alpha)
        file.write(values, list(range(1, bands + 1)))
        if how == "mask":
            file.write_mask(VALID)
        if how == "alpha":
            top = np.iinfo(dtype).max
            file.write(np.where(VALID, top, 0).astype(dtype), bands + 1)
    return path


def predictor_of(tiny_network, bands, keep=("confidence",)) -> Predictor:
    if bands == 3:
        return Predictor(tiny_network, LABELS, device="cpu", precision="fp32", keep=keep)
    network = create_model("hrnet_w18_small_v1", num_classes=3, in_channels=bands).eval()
    about = {"mean": (0.5,) * bands, "std": (0.25,) * bands, "bands": tuple(range(bands))}
    return Predictor(network, LABELS, device="cpu", precision="fp32", keep=keep, **about)


@pytest.mark.parametrize("how", ["nodata", "mask", "alpha"])
@pytest.mark.parametrize(("bands", "dtype"), [(3, "uint8"), (3, "uint16"), (4, "uint16"), (2, "uint8")])
def test_what_has_no_data_has_no_class(tiny_network, tmp_path, how, bands, dtype):
    path = raster(tmp_path / "a.tif", how, bands, dtype, **PLACED)
    predictor = predictor_of(tiny_network, bands)
    made = predictor(path)
    np.testing.assert_array_equal(made.mask == 255, ~VALID)
    np.testing.assert_array_equal(np.isnan(made.confidence), ~VALID)
    assert made.mean_confidence == pytest.approx(made.confidence[::STEP, ::STEP][VALID[::STEP, ::STEP]].mean())
    kinds = ["mask", "trainids", "areas"]
    (result,) = predict_files(predictor, [path], tmp_path / "out", kinds)
    assert result.error is None
    assert sum(result.classes.values()) == pytest.approx(1)
    assert result.confidence == pytest.approx(made.mean_confidence)
    table = json.loads(result.files["areas"].read_text())
    assert (table["pixels"], table["square_meters"]) == (VALID.sum(), VALID.sum() / 4)
    for kind in ("mask", "trainids"):
        with rasterio.open(result.files[kind]) as file:
            assert (file.name[-4:], file.nodata) == (".tif", 255)
            assert (file.crs.to_epsg(), file.transform) == (32632, TRANSFORM)
            np.testing.assert_array_equal(file.read(1) == 255, ~VALID)
            np.testing.assert_array_equal(file.dataset_mask() == 0, ~VALID)


def test_a_transparent_photograph_has_no_class_where_nothing_is_seen(tiny_network, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 4), dtype=np.uint8)
    pixels[..., 3] = np.where(VALID, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (result,) = predict_files(predictor_of(tiny_network, 3), [tmp_path / "a.png"], tmp_path / "out")
    assert result.mask.name == "a_mask.png"
    np.testing.assert_array_equal(read_mask(result.mask) == 255, ~VALID)


def test_an_image_is_not_overwritten_by_the_result_that_its_place_gives(tiny_network, tmp_path):
    path = raster(tmp_path / "a.tif", "nodata", **PLACED)
    predictor = predictor_of(tiny_network, 3)
    Image.open(path).save(tmp_path / "a_mask.png")
    list(predict_files(predictor, [path, tmp_path / "a_mask.png"], tmp_path, ["mask"]))
    with pytest.raises(DataError, match=r"a_mask\.tif is one of the images"):
        list(predict_files(predictor, [path, tmp_path / "a_mask.tif"], tmp_path, ["mask"]))


def test_an_image_without_any_data_is_done(tiny_network, tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=9, width=8, count=3, dtype="uint8", nodata=0, **PLACED
    ) as file:
        file.write(np.zeros((3, 9, 8), np.uint8))
    kinds = ["mask", "confidence", "areas", "geojson", "coco", "overlay"]
    (result,) = predict_files(predictor_of(tiny_network, 3), [path], tmp_path / "out", kinds)
    assert (result.error, result.classes, result.confidence) == (None, {}, None)
    json.loads(json.dumps(result.to_dict()), parse_constant=lambda word: pytest.fail(word))


@pytest.mark.parametrize("bits", [None, 12])
def test_unused_bits_are_told_once_a_picture_unless_they_are_named(tiny_network, tmp_path, bits, caplog):
    for name in "ab":
        values = np.random.default_rng(0).integers(0, 4096, (3, *SIZE)).astype("uint16")
        with rasterio.open(
            *(tmp_path / f"{name}.tif", "w"),
            **{"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 3, **PLACED},
            dtype="uint16",
        ) as file:
            file.write(values)
    predictor = Predictor(tiny_network, LABELS, device="cpu", precision="fp32", bits=bits)
    assert predictor.settings()["bits"] == bits
    found = list(predict_files(predictor, [tmp_path / f"{n}.tif" for n in "ab"], tmp_path / "out"))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (0 if bits else 2)
    assert [note for one in found for note in one.to_dict()["notes"]] == told
    eight = np.random.default_rng(0).integers(0, 4096, (3, *SIZE)) * 255 / 4095
    seen = predictor.load(tmp_path / "a.tif").pixels
    assert (np.abs(seen - np.moveaxis(eight, 0, 2)).max() <= 1) == (bits == 12)


def test_the_server_knows_no_data_and_tells_what_it_saw(tiny_network, tmp_path):
    testclient = pytest.importorskip("fastapi.testclient")
    from hrseg.serve.app import create_app

    content = raster(tmp_path / "a.tif", "nodata", dtype="uint16", **PLACED).read_bytes()
    with testclient.TestClient(create_app(predictor_of(tiny_network, 3))) as client:
        answer = client.post(
            "/predict?output=json&maps=true",
            content=content,
            headers={"Content-Type": "image/tiff"},
        ).json()
        mask = client.post("/predict", content=content, headers={"Content-Type": "image/tiff"})
    assert sum(row["share"] for row in answer["classes"]) == pytest.approx(1, abs=1e-5)
    maps = {name: np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for name, text in answer["maps"].items()}
    for values in (maps["mask"], maps["train_ids"], np.array(Image.open(io.BytesIO(mask.content)))):
        np.testing.assert_array_equal(values == 255, ~VALID)
    np.testing.assert_array_equal(maps["confidence"] == 0, ~VALID)

import numpy as np
import pytest
import rasterio
from rasterio import shutil

from hrseg.inference.large import segment, segment_large
from hrseg.inference.predict_files import predict_files
from hrseg.inference.predictor import Predictor
from hrseg.labels import Label, LabelSet

from .files import BUILT_FOR, GEO, Tiny, picture, tiny

tifffile = pytest.importorskip("tifffile")


@pytest.fixture
def raster(tmp_path):
    values = picture()
    values[:100, :70] = 0
    tags = [*GEO, (42113, 2, 2, "0", True)]
    form = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=tags, **form)
    return tmp_path / "a.tif"


def test_place_nodata_palette_and_overviews_are_kept(raster, monkeypatch):
    monkeypatch.setattr("hrseg.imaging.writing.TILE", 128)
    predictor = tiny()
    found = segment_large(predictor, raster, raster.with_name("out"), max_memory=BUILT_FOR)
    with rasterio.open(found.files["mask"]) as mask, rasterio.open(raster) as image:
        assert (mask.crs, mask.transform, mask.nodata) == (image.crs, image.transform, 255)
        assert mask.shape == image.shape
        assert mask.overviews(1)
        assert mask.block_shapes[0][0] == 128
        assert mask.profile["compress"] == "deflate"
        assert mask.colormap(1)[1][:3] == tuple(predictor.labels.palette[1])
        assert mask.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        values = mask.read(1)
        smaller = mask.read(1, out_shape=(150, 105))
    assert (values[:100, :70] == 255).all()
    assert (values[100:] < 5).all()
    assert (smaller == values[::2, ::2]).mean() > 0.9


def test_a_full_disk_keeps_all_bands(raster, monkeypatch):
    from hrseg.errors import DataError

    def full(*args, **options):
        raise rasterio._err.CPLE_FileIOError(3, 3, "No space left on device")

    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(DataError, match=r"No space left.*All strips are saved"):
        segment_large(tiny(), raster, raster.with_name("out"), max_memory=BUILT_FOR)
    monkeypatch.undo()
    found = segment_large(tiny(), raster, raster.with_name("out"), max_memory=BUILT_FOR)
    assert found.resumed == 300


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("wide", [False, True])
def test_size_does_not_decide_what_is_written(raster, tmp_path, monkeypatch, placed, wide):
    image = tmp_path / "x.tif"
    with rasterio.open(raster) as file:
        profile = file.profile if placed else {**file.profile, "crs": None, "transform": None}
        with rasterio.open(image, "w", **profile) as copy:
            copy.write(file.read())
    predictor = tiny()
    if wide:
        rows = [Label(200 + 100 * i, i, f"c{i}", (i, 0, 0)) for i in range(5)]
        predictor = Predictor(Tiny(), LabelSet("wide", tuple(rows)), device="cpu", window=(64, 64))
    kinds = ["mask", "trainids", "confidence"]
    written = []
    for limit in (segment.LARGE_PIXELS, 0):
        monkeypatch.setattr(segment, "LARGE_PIXELS", limit)
        (result,) = predict_files(predictor, [image], tmp_path / str(limit), kinds)
        assert result.error is None
        written.append(result.files)
    for kind in kinds:
        small, large = (files[kind] for files in written)
        assert small.name == large.name == f"x_{kind}.{'tif' if placed else 'png'}"
        with rasterio.open(small) as one, rasterio.open(large) as other:
            for name in ("dtype", "nodata", "crs", "transform", "shape", "driver"):
                assert one.profile.get(name) == other.profile.get(name), name
            first, second = one.read(1).astype(int), other.read(1).astype(int)
            assert one.colorinterp == other.colorinterp
        difference = np.abs(first - second)
        assert difference.max() <= (1 if kind == "confidence" else 0)

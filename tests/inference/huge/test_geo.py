import numpy as np
import pytest
from PIL import Image

from hrseg.data.labels import Label, LabelSet
from hrseg.inference.huge import segment_huge, work
from hrseg.inference.huge.geo import RasterReader
from hrseg.inference.huge.tiff import TiffReader
from hrseg.inference.predictor import Predictor
from hrseg.runtime import predict_files

from .files import BUILT_FOR, GEO, Tiny, picture, tiny
from .test_readers import read_all

rasterio = pytest.importorskip(
    "rasterio", reason="the extra geo is not installed: rasterio is 36 MB"
)
shutil = pytest.importorskip("rasterio.shutil")
tifffile = pytest.importorskip("tifffile")


@pytest.fixture
def raster(tmp_path):
    values = picture()
    values[:100, :70] = 0
    tags = [*GEO, (42113, 2, 2, "0", True)]
    form = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=tags, **form)
    return tmp_path / "a.tif"


def test_rasterio_and_tifffile_read_the_same(raster):
    with RasterReader(raster) as one, TiffReader(raster) as other:
        values = read_all(one)
        assert np.array_equal(values, read_all(other))
        assert np.array_equal(one.valid(values, 0), other.valid(values, 0))
        assert one.place.crs.to_epsg() == 32633


def test_a_png_is_read_row_by_row_and_pages_are_left_to_tifffile(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    with RasterReader(tmp_path / "a.png") as reader:
        assert np.array_equal(read_all(reader), picture())
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for band in range(3):
            file.write(picture()[..., band], contiguous=False, metadata=None)
    assert not RasterReader.suits(tmp_path / "b.tif")


def test_a_mask_file_inside_says_where_there_is_no_data(tmp_path):
    options = {"height": 300, "width": 210, "count": 3, "dtype": "uint8"}
    options["transform"] = rasterio.Affine(1, 0, 5, 0, -1, 5)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **options) as file,
    ):
        file.write(np.moveaxis(picture(), 2, 0))
        mask = np.full((300, 210), 255, np.uint8)
        mask[:40] = 0
        file.write_mask(mask)
    with RasterReader(tmp_path / "a.tif") as reader:
        assert reader.tells_nodata
        assert np.array_equal(reader.valid(reader.rows(20, 60), 20), mask[20:60] > 0)


def test_place_nodata_palette_and_overviews_are_kept(raster, monkeypatch):
    monkeypatch.setattr("hrseg.imaging.geotiff.TILE", 128)
    predictor = tiny()
    found = segment_huge(predictor, raster, raster.with_name("out"), max_memory=BUILT_FOR)
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


def test_what_only_gdal_knows_is_huge_too(raster):
    from hrseg.inference.huge.readers import open_reader, size_of

    virtual = raster.with_suffix(".vrt")
    shutil.copy(raster, virtual, driver="VRT")
    assert size_of(virtual) == (300, 210)
    with open_reader(virtual) as reader, TiffReader(raster) as plain:
        assert np.array_equal(read_all(reader), read_all(plain))


def test_a_full_disk_keeps_all_bands(raster, monkeypatch):
    from hrseg.errors import DataError

    def full(*args, **options):
        raise rasterio._err.CPLE_FileIOError(3, 3, "No space left on device")

    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(DataError, match=r"No space left.*All bands are kept"):
        segment_huge(tiny(), raster, raster.with_name("out"), max_memory=BUILT_FOR)
    monkeypatch.undo()
    found = segment_huge(tiny(), raster, raster.with_name("out"), max_memory=BUILT_FOR)
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
    for limit in (work.LARGE_PIXELS, 0):
        monkeypatch.setattr(work, "LARGE_PIXELS", limit)
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
        assert (difference > (1 if kind == "confidence" else 0)).mean() < 0.01

import numpy as np
import pytest
from PIL import Image

from hrseg.errors import DataError, MissingExtraError
from hrseg.imaging import read_image
from hrseg.inference.huge import readers
from hrseg.inference.huge.look import seen
from hrseg.inference.huge.readers import WholeReader, open_reader
from hrseg.inference.huge.tiff import TiffReader

from .files import GEO, picture

tifffile = pytest.importorskip("tifffile")


def read_all(reader, step=37):
    """Put an image together from bands whose height fits nothing."""
    height = reader.head.height
    bands = [reader.rows(top, min(height, top + step)) for top in range(0, height, step)]
    return np.concatenate(bands)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"rowsperstrip": 16},
        {"compression": "zlib", "rowsperstrip": 50},
        {"compression": "zlib", "tile": (64, 48)},
        {"compression": "zlib", "predictor": True, "tile": (32, 32)},
        {"tile": (64, 64), "byteorder": ">"},
        {"byteorder": ">"},
        {"compression": "zlib", "tile": (64, 64), "planarconfig": "separate"},
        {"planarconfig": "separate"},
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiffs_of_all_forms_are_read_in_bands(tmp_path, form, dtype, bigtiff):
    values = picture(dtype=dtype)
    stored = np.moveaxis(values, 2, 0) if form.get("planarconfig") else values
    form = dict(form)
    order = form.pop("byteorder", "<")
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff, byteorder=order) as file:
        file.write(stored, photometric="rgb", metadata=None, **form)
    with TiffReader(tmp_path / "a.tif") as reader:
        assert np.array_equal(read_all(reader), values)
        assert reader.valid(values, 0) is None


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_are_bands(tmp_path, compression):
    values = picture(bands=4, dtype="uint16")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for band in range(4):
            file.write(values[..., band], compression=compression, metadata=None, contiguous=False)
    with TiffReader(tmp_path / "a.tif") as reader:
        assert reader.head.samples == 4
        assert np.array_equal(read_all(reader), values)


@pytest.mark.parametrize("first", [False, True])
def test_arrays_are_mapped(tmp_path, first):
    values = picture(bands=4, dtype="float32")
    np.save(tmp_path / "a.npy", np.moveaxis(values, 2, 0) if first else values)
    assert np.array_equal(read_all(open_reader(tmp_path / "a.npy")), values)


def stored_pictures(folder):
    """The same scene as other programs store it."""
    rgb = Image.fromarray(picture())
    opacity = Image.fromarray(picture()[..., 0]).point(lambda value: 255 * (value > 99))
    clear = rgb.copy()
    clear.putalpha(opacity)
    yield "rgb", rgb
    yield "grey", rgb.convert("L")
    yield "palette", rgb.quantize(17)
    yield "opacity", clear
    yield "bits", rgb.convert("1")
    yield "sixteen", Image.fromarray(picture(bands=1, dtype="uint16")[..., 0])


def test_what_the_network_sees_is_what_read_image_gives(tmp_path):
    for name, image in stored_pictures(tmp_path):
        path = tmp_path / f"{name}.tif"
        image.save(path, compression=None if name == "bits" else "tiff_adobe_deflate")
        with TiffReader(path) as reader:
            values = read_all(reader)
            pixels = seen(values, reader.head, reader.valid(values, 0), None)
        assert np.array_equal(pixels, read_image(path)), name


def test_opacity_and_the_nodata_tag_say_where_there_is_no_data(tmp_path):
    values = picture()
    values[:100, :50] = 0
    tags = [(42113, 2, 2, "0", True), *GEO]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", metadata=None, extratags=tags)
    with TiffReader(tmp_path / "a.tif") as reader:
        valid = reader.valid(values, 0)
        assert reader.tells_nodata
    assert not valid[:100, :50].any()
    assert valid[100:].all()
    assert [tag[0] for tag in reader.place.tags] == [33550, 33922, 34735]
    clear = Image.fromarray(np.dstack([values, np.where(valid, 255, 0).astype(np.uint8)]))
    clear.save(tmp_path / "b.tif")
    with TiffReader(tmp_path / "b.tif") as reader:
        assert np.array_equal(reader.valid(read_all(reader), 0), valid)


def test_a_cut_file_and_one_piece_that_is_too_large_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    form = {"photometric": "rgb", "compression": "zlib", "tile": (64, 64)}
    tifffile.imwrite(path, picture(), **form)
    path.write_bytes(path.read_bytes()[:-40])
    with TiffReader(path) as reader, pytest.raises(DataError, match="probably damaged"):
        read_all(reader)
    monkeypatch.setattr("hrseg.inference.huge.tiff.MOST_SEGMENT", 2**12)
    with pytest.raises(DataError, match="gdal_translate -co TILED=YES"):
        TiffReader(path)


def test_a_turned_tiff_is_refused(tmp_path):
    form = {"photometric": "rgb", "extratags": [(274, 3, 1, 6, True)]}
    tifffile.imwrite(tmp_path / "a.tif", picture(), **form)
    with pytest.raises(DataError, match="turned"):
        TiffReader(tmp_path / "a.tif")


def test_a_picture_that_must_be_decoded_whole_counts_its_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("hrseg.inference.huge.geo.has_rasterio", lambda: False)
    Image.fromarray(picture()).save(tmp_path / "a.png")
    reader = open_reader(tmp_path / "a.png")
    assert isinstance(reader, WholeReader)
    assert np.array_equal(read_all(reader), picture())
    with pytest.raises(DataError, match="gdal_translate"):
        open_reader(tmp_path / "a.png", limit=1000)


def test_without_tifffile_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("hrseg.inference.huge.geo.has_rasterio", lambda: False)
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(MissingExtraError, match="hrseg\\[tiff\\]"):
        open_reader(tmp_path / "a.tif")


def test_sizes_come_from_heads(tmp_path):
    np.save(tmp_path / "a.npy", picture())
    Image.fromarray(picture()).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb")
    assert {readers.size_of(tmp_path / f"a.{end}") for end in ("npy", "png", "tif")} == {(300, 210)}
    with pytest.raises(DataError, match="No such file"):
        readers.size_of(tmp_path / "b.tif")

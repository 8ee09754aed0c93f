"""Rasters: colors as Pillow has them, bits and valid pixels as the file says, and nothing from elsewhere."""

import http.server
import json
import struct
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

from hrseg.errors import DataError, HrsegError
from hrseg.imaging import image_size, load_image, open_image, read_bands, read_image, read_mask

RANDOM = np.random.default_rng(0)


def rgb(height=40, width=60, low=30, high=226) -> np.ndarray:
    return RANDOM.integers(low, high, (height, width, 3), dtype=np.uint8)


def raster(path: Path, values: np.ndarray, *, mask=None, tags=None, **options) -> Path:
    """Write (H, W, B) with rasterio."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                path, "w", driver=options.pop("driver", "GTiff"), height=values.shape[0],
                width=values.shape[1], count=values.shape[2], dtype=values.dtype, **options,
            ) as file,
        ):  # fmt: skip
            file.write(np.moveaxis(values, 2, 0))
            if mask is not None:
                file.write_mask(mask)
            for domain, items in (tags or {}).items():
                file.update_tags(ns=domain, **items)
    return path


def by_rows(path, step=7, **options) -> tuple[np.ndarray, np.ndarray | None]:
    """Read an image in steps that fit nothing."""
    with open_image(path, **options) as image:
        parts = [image.rows(top, min(top + step, image.height)) for top in range(0, image.height, step)]
    valid = [part[1] for part in parts]
    return np.concatenate([part[0] for part in parts]), (
        None if valid[0] is None else np.concatenate(valid)  # type: ignore[arg-type]
    )


# --- colors -----------------------------------------------------------------------------------------------------------


def pillow_kinds() -> dict[str, Image.Image]:
    image = Image.fromarray(rgb())
    clear = image.copy()
    clear.putalpha(image.convert("L").point(lambda value: 255 * (value > 99)))
    return {
        "RGB": image,
        "L": image.convert("L"),
        "1": image.convert("1"),
        "P": image.quantize(17),
        "CMYK": image.convert("CMYK"),
        "RGBA": clear,
        "LA": clear.convert("LA"),
        "LAB": Image.frombytes("LAB", image.size, image.tobytes()),
        "YCbCr": image.convert("YCbCr"),
    }


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("kind", pillow_kinds())
def test_colors_of_a_tiff_are_pillows_at_once_and_by_rows(tmp_path, kind, compression):
    path = tmp_path / "a.tif"
    pillow_kinds()[kind].save(path, compression=compression)
    with Image.open(path) as image:
        expected = image
        if image.mode in ("RGBA", "LA"):
            clear = image.convert("RGBA")
            expected = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        expected = np.array(expected.convert("RGB"))
    found = load_image(path)
    rows, valid = by_rows(path)
    assert np.array_equal(found.pixels, rows)
    # libtiff turns YCbCr into RGB by itself, with another rounding
    assert np.abs(found.pixels.astype(int) - expected).max() <= (2 if kind == "YCbCr" else 0)
    assert (found.valid is not None) == (kind in ("RGBA", "LA"))
    assert found.valid is None or np.array_equal(found.valid, valid)


def test_white_is_zero_and_few_bits(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    gray = rgb()[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", gray, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "a.tif")[..., 0], 255 - gray)
    assert np.array_equal(read_mask(tmp_path / "a.tif"), 255 - gray)
    few = raster(tmp_path / "b.tif", gray[..., None] % 16, nbits=4)
    assert np.array_equal(read_image(few)[..., 0], gray % 16 * 17)
    assert np.array_equal(read_mask(few), gray % 16)  # ids are never scaled


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_tiff_by_rows(tmp_path, orientation, tiled):
    tifffile = pytest.importorskip("tifffile")
    image = rgb()
    options = {"tile": (32, 16)} if tiled else {"rowsperstrip": 3}
    tags = [(274, 3, 1, orientation, True)]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb", compression="zlib", extratags=tags, **options)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    expected = read_image(tmp_path / "a.png")
    assert np.array_equal(read_image(path), expected)
    assert np.array_equal(by_rows(path)[0], expected)
    assert image_size(path) == expected.shape[:2]
    assert np.array_equal(read_bands(path), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_raster_stays_where_it_is(tmp_path, orientation):
    """The corner pixels keep their coordinates, wherever they go in the upright image."""
    tifffile = pytest.importorskip("tifffile")
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    tags = [
        (274, 3, 1, orientation, True),
        (33550, 12, 3, (2.0, 5.0, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 100.0, 900.0, 0.0), True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", extratags=tags)
    found = load_image(tmp_path / "a.tif")
    assert found.georeference is not None
    for value in (0, 3, 7, 8, 11):
        row, column = np.argwhere(found.pixels[..., 0] == value)[0]
        x, y = found.georeference.points(np.array([[column + 0.5, row + 0.5]]))[0]
        assert (x, y) == (100 + 2 * (value % 4 + 0.5), 900 - 5 * (value // 4 + 0.5))


# --- bits -------------------------------------------------------------------------------------------------------------

SIXTEEN = {
    "RGB beside each other": {"photometric": "RGB"},
    "RGB in planes": {"photometric": "RGB", "interleave": "band"},
    "no word about colors": {},
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
}
"""Where Pillow fails or errs (16 bits of three bands), rasterio decides."""


@pytest.mark.parametrize("kind", [*SIXTEEN, "PNG"])
def test_sixteen_bit_rgb_equals_its_eight_bit_twin(tmp_path, kind):
    image = rgb()
    options = {"driver": "PNG"} if kind == "PNG" else SIXTEEN[kind]
    path = raster(tmp_path / "a.img", image.astype(np.uint16) * 257, **options)
    assert np.array_equal(read_image(path), image)
    assert np.array_equal(by_rows(path)[0], image)
    assert np.array_equal(read_bands(path), image.astype(np.uint16) * 257)
    assert load_image(path).notes == ()


def test_sixteen_bit_cmyk_is_within_two_of_its_eight_bit_twin(tmp_path):
    image = np.dstack([rgb(), rgb()[..., :1] // 3])
    Image.fromarray(image, "CMYK").save(tmp_path / "8.tif")
    path = raster(tmp_path / "a.tif", image.astype(np.uint16) * 257, photometric="CMYK")
    expected = read_image(tmp_path / "8.tif").astype(int)
    assert np.abs(read_image(path) - expected).max() <= 2
    assert np.abs(by_rows(path)[0] - expected).max() <= 2


def test_jpeg_inside_a_tiff_has_pillows_brightness(tmp_path):
    """GDAL's libjpeg and Pillow's enlarge halved colors in two ways; brightness is not halved."""
    image = np.array(Image.fromarray(rgb()).resize((160, 128), Image.Resampling.BICUBIC))
    path = tmp_path / "a.tif"
    Image.fromarray(image).convert("YCbCr").save(path, compression="jpeg", quality=90)
    with Image.open(path) as file:
        expected = file.convert("RGB")
    found = Image.fromarray(read_image(path))
    luma = [np.array(one.convert("L"), int) for one in (found, expected)]
    assert np.abs(luma[0] - luma[1]).max() <= 3
    assert np.array_equal(by_rows(path)[0], found)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_bits_come_from_the_file_or_the_option_and_else_a_note_says_it(tmp_path, bits, bands):
    image = rgb(low=0, high=255)[..., :bands]
    image[0, 0] = 255
    top = 2**bits - 1
    values = np.round(image / 255 * top).astype(np.uint16)
    expected = np.broadcast_to(image, (*image.shape[:2], 3))
    said = raster(tmp_path / "said.tif", values, nbits=bits)
    silent = raster(tmp_path / "silent.tif", values)
    assert np.array_equal(read_image(said), expected)
    assert load_image(said).notes == ()
    assert np.array_equal(load_image(silent, bits=bits).pixels, expected)
    found = load_image(silent)
    assert np.abs(found.pixels.astype(int) - np.round(values / 257)).max() <= 0
    assert f"end at {top}, {100 * top / 65535:.2g} % of the range" in found.notes[0]
    assert f"data.bits={bits}" in found.notes[0]
    # a tile of the same scene without bright pixels has the same scale
    values[values > top // 2] = 0
    raster(tmp_path / "dark.tif", values)
    dark = read_image(tmp_path / "dark.tif")
    assert np.array_equal(dark[values[..., 0] > 0], found.pixels[values[..., 0] > 0][:, :3]) or (bands == 3)


def test_values_beyond_the_bits_are_told(tmp_path):
    path = raster(tmp_path / "a.tif", np.full((4, 4, 1), 5000, np.uint16))
    found = load_image(path, bits=12)
    assert (found.pixels == 255).all()
    assert "beyond its declared 12 bits" in found.notes[0]
    with pytest.raises(DataError, match="8 to 16"):
        load_image(path, bits=24)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_masks_of_three_times_sixteen_bits_are_ids_colors_or_refused(tmp_path, kind):
    ids = np.arange(300, dtype=np.uint16).reshape(15, 20)
    options = {"driver": "PNG"} if kind == "png" else {"photometric": "RGB"}
    path = tmp_path / f"a.{kind}"
    zero = np.zeros_like(ids)
    raster(path, np.dstack([ids, zero, zero]), **options)
    assert np.array_equal(read_mask(path), ids)
    raster(path, np.dstack([ids] * 3), **options)
    assert np.array_equal(read_mask(path), ids)
    colors = rgb()
    raster(path, colors.astype(np.uint16) * 257, **options)
    assert np.array_equal(read_mask(path), colors)
    raster(path, np.dstack([ids, ids[::-1], zero]), **options)  # classes, instances
    with pytest.raises(DataError, match=r"three numbers of 16 bits.*gdal_translate -b 1"):
        read_mask(path)


# --- valid pixels -----------------------------------------------------------------------------------------------------


def half_empty() -> tuple[np.ndarray, np.ndarray]:
    image = rgb()
    image[:, :30] = 0
    return image, np.repeat(np.arange(60)[None] >= 30, 40, axis=0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("way", ["nodata", "mask", "opacity", "sidecar mask", "aux.xml", "png"])
def test_pixels_without_data_are_told_however_the_file_says_it(tmp_path, way, dtype):
    image, valid = half_empty()
    image = image.astype(dtype) * (1 if dtype == "uint8" else 257)
    top = np.iinfo(dtype).max
    opaque = np.dstack([image, np.where(valid, top, 0).astype(dtype)])
    path = tmp_path / "a.tif"
    if way == "nodata":
        raster(path, image, nodata=0)
    elif way == "mask":
        raster(path, image, mask=valid)
    elif way == "opacity":
        raster(path, opaque, photometric="RGB", alpha="yes")
    elif way == "png":
        raster(path, opaque, driver="PNG")
    elif way == "aux.xml":
        raster(path, image)
        text = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>0</NoDataValue></PAMRasterBand></PAMDataset>"
        path.with_name("a.tif.aux.xml").write_text(text)
    else:
        raster(path, image)
        raster(tmp_path / "m.tif", np.where(valid, 255, 0)[..., None].astype(np.uint8))
        (tmp_path / "m.tif").rename(tmp_path / "a.tif.msk")
    found = load_image(path)
    assert np.array_equal(found.valid, valid)
    assert np.array_equal(by_rows(path)[1], valid)
    assert np.array_equal(load_image(path, bands=(2, 0)).valid, valid)
    content = path.read_bytes()
    if way not in ("sidecar mask", "aux.xml"):
        assert np.array_equal(load_image(content).valid, valid)


def test_without_a_word_all_pixels_are_valid(tmp_path):
    path = raster(tmp_path / "a.tif", half_empty()[0])
    assert load_image(path).valid is None


def test_near_infrared_marked_as_opacity_is_a_band_and_feathered_edges_are_opacity(tmp_path):
    image = rgb()
    nir = RANDOM.integers(0, 256, image.shape[:2], dtype=np.uint8)
    found = load_image(raster(tmp_path / "naip.tif", np.dstack([image, nir])))
    assert np.array_equal(found.pixels, image)
    assert found.valid is None
    assert "data.bands" in found.notes[0]
    edge = np.full(image.shape[:2], 255, np.uint8)
    edge[:, :20], edge[:, 20:24] = 0, [50, 100, 150, 200]
    found = load_image(raster(tmp_path / "feather.tif", np.dstack([image, edge])))
    assert np.array_equal(found.valid, edge != 0)
    assert (found.pixels[:, :20] == 255).all()
    assert found.notes == ()


def test_numbers_without_data_may_be_anything(tmp_path):
    values = RANDOM.random((20, 30, 4), dtype=np.float32)
    values[:5] = np.nan
    path = raster(tmp_path / "a.tif", values, nodata=np.nan)
    found = load_image(path, bands=range(4))
    assert (found.pixels[:5] == 0).all()
    assert found.valid is not None
    assert not found.valid[:5].any()
    raster(path, values)
    with pytest.raises(DataError, match="600 values that are not finite"):
        load_image(path, bands=range(4))


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_are_counted_and_the_first_is_read(tmp_path):
    pages = [Image.fromarray(rgb()) for _ in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    for name, word in (("a.tif", "3 pages"), ("a.gif", "3 frames")):
        found = load_image(tmp_path / name)
        assert word in found.notes[0]
        assert found.pixels.shape == (40, 60, 3)
    assert np.array_equal(load_image(tmp_path / "a.tif", page=2).pixels, np.array(pages[2]))
    with pytest.raises(DataError, match="no page 3"):
        load_image(tmp_path / "a.tif", page=3)


def test_pages_of_one_band_are_bands_only_where_bands_are_asked_for(tmp_path):
    pages = rgb()
    images = [Image.fromarray(pages[..., band]) for band in range(3)]
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    assert np.array_equal(read_bands(tmp_path / "a.tif"), pages)
    found = load_image(tmp_path / "a.tif")
    assert np.array_equal(found.pixels, np.dstack([pages[..., 0]] * 3))
    assert "3 pages" in found.notes[0]


def test_overviews_are_no_pages(tmp_path):
    path = raster(tmp_path / "a.tif", rgb(600, 600), tiled=True, blockxsize=256, blockysize=256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = rasterio.open(path, "r+")
    with file:
        file.build_overviews([2, 4])
    found = load_image(path)
    assert found.notes == ()
    assert found.pixels.shape == (600, 600, 3)


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "float32": (np.zeros((4, 5, 3), np.float32), "holds float32 numbers.*data.bands"),
    "int16": (np.zeros((4, 5, 3), np.int16), "holds int16 numbers.*data.bands"),
    "uint32": (np.zeros((4, 5, 1), np.uint32), "holds uint32 numbers.*data.bands"),
    "complex": (np.zeros((4, 5, 1), np.complex64), "holds complex64 numbers.*magnitude"),
    "bands": (np.zeros((4, 5, 7), np.uint16), "has 7 bands of uint16.*data.bands"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_rgb_model_sees_is_refused_with_what_helps(tmp_path, kind):
    values, message = REFUSED[kind]
    path = raster(tmp_path / "a.tif", values)
    with pytest.raises(DataError, match=message) as error:
        read_image(path)
    assert "damaged" not in str(error.value)
    assert image_size(path) == (4, 5)  # the size needs no pixels
    if kind == "complex":
        with pytest.raises(DataError, match="magnitude"):
            read_bands(path)
    else:
        assert read_bands(path).shape == values.shape


def test_complex_integers_are_named(tmp_path):
    path = raster(tmp_path / "a.tif", np.zeros((4, 5, 1), np.complex64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="GTiff", height=4, width=5, count=1, dtype="complex_int16"):
            pass
    assert image_size(path) == (4, 5)
    with pytest.raises(DataError, match="complex_int16"):
        read_image(path)


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiffs_of_either_byte_order_and_offset_size_read_alike(tmp_path, byteorder, bigtiff):
    path, colors = tmp_path / "a.tif", rgb(6, 5)
    kind = {"byteorder": byteorder, "bigtiff": bigtiff}
    tifffile.imwrite(path, colors.astype(np.uint16) * 257, photometric="rgb", **kind)
    mark = {"<": b"II", ">": b"MM"}[byteorder]
    assert path.read_bytes()[:4].replace(b"\0", b"") == mark + (b"+" if bigtiff else b"*")
    assert np.array_equal(read_image(path), colors)
    assert np.array_equal(read_bands(path), colors.astype(np.uint16) * 257)
    ids = np.array([[0, 1, 300], [65535, 257, 514]], np.uint16)
    tifffile.imwrite(path, np.stack([ids, ids + 1]), photometric="minisblack", **kind)
    assert np.array_equal(read_mask(path), ids)
    with open_image(path, page=1) as image:
        assert (image.pages, image.height, image.width) == (2, 2, 3)


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG", "PNG"])
def test_a_cut_raster_is_damaged(tmp_path, driver, capfd):
    options = {"compress": "deflate"} if driver == "GTiff" else {}
    values = rgb(300, 300).astype(np.uint16) * 257
    path = raster(tmp_path / "a.img", values, driver=driver, **options)
    whole = path.read_bytes()
    for length in (20, 60, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.img") as error:
            read_image(path)
        assert "damaged" in str(error.value)
    assert capfd.readouterr().err == ""


# --- safety -----------------------------------------------------------------------------------------------------------


class Server:
    """A loopback server that must not be asked."""

    def __enter__(self) -> "Server":
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_error(404)

            do_HEAD = do_GET

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def virtual(source: str, width=60, height=40, kind="Byte") -> str:
    return (
        f"<VRTDataset rasterXSize='{width}' rasterYSize='{height}'><VRTRasterBand dataType='{kind}' band='1'>"
        f"<SimpleSource><SourceFilename relativeToVRT='0'>{source}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


SIDECARS = {
    "msk": virtual,
    "ovr": virtual,
    "aux.xml": lambda source: (
        f"<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>{source}</MDI></Metadata>"
        f"<SRS>{source}</SRS><GeoTransform>1,1,0,1,0,-1</GeoTransform></PAMDataset>"
    ),
    "aux.xml with entities": lambda source: (
        f"<!DOCTYPE a [<!ENTITY b SYSTEM '{source}'>]><PAMDataset><SRS>&b;</SRS>"
        "<GeoTransform>1,1,0,1,0,-1</GeoTransform></PAMDataset>"
    ),
    "prj": lambda source: source,
    "metadata inside": None,
}


def hostile(folder: Path, kind: str, source: str) -> Path:
    """Write a TIFF that asks its reader for something elsewhere."""
    tags = {"OVERVIEWS": {"OVERVIEW_FILE": source}} if kind == "metadata inside" else None
    path = raster(folder / "x.tif", rgb(), tags=tags, compress="deflate")
    write = SIDECARS[kind]
    if kind == "prj":
        (folder / "x.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
        (folder / "x.prj").write_text(source)
    elif write is not None:
        (folder / f"x.tif.{kind.split()[0]}").write_text(write(source))
    return path


@pytest.mark.parametrize("kind", SIDECARS)
def test_no_sidecar_makes_the_reader_ask_the_network_or_read_another_file(tmp_path, kind):
    secret = raster(tmp_path / "secret.tif", np.zeros((40, 60, 1), np.uint8))
    with Server() as server:
        sources = (f"/vsicurl/{server.address}/a.tif", f"{server.address}/a.tif", str(secret))
        for number, source in enumerate(sources):
            (tmp_path / str(number)).mkdir()
            path = hostile(tmp_path / str(number), kind, source)
            found = load_image(path)
            assert found.valid is None  # the secret is 0 everywhere
            assert found.georeference is None or found.georeference.crs is None
            by_rows(path)
            read_mask(path)
            assert server.asked == []


ITSELF = {
    "a virtual raster": virtual,
    "a web map": lambda url: f"<GDAL_WMS><Service name='TMS'><ServerUrl>{url}</ServerUrl></Service></GDAL_WMS>",
    "a catalog": lambda url: json.dumps({"type": "FeatureCollection", "links": [{"href": url}]}),
    "an address": lambda url: url,
}


@pytest.mark.parametrize("suffix", ["tif", "jp2", "png", "vrt"])
@pytest.mark.parametrize("kind", ITSELF)
def test_files_that_are_only_names_of_others_are_refused(tmp_path, kind, suffix):
    with Server() as server:
        path = tmp_path / f"x.{suffix}"
        path.write_text(ITSELF[kind](f"/vsicurl/{server.address}/a.tif"))
        for read in (read_image, read_bands, read_mask, image_size):
            with pytest.raises(HrsegError, match=r"x\."):
                read(path)
        with pytest.raises(HrsegError):
            read_image(path.read_bytes())
        assert server.asked == []


@pytest.mark.slow
def test_drivers_that_lead_elsewhere_are_not_registered():
    """In a process of its own, since others may have registered drivers before."""
    script = (
        "from hrseg.imaging.rasters import _rasterio; import os; r = _rasterio()\n"
        "with r.Env() as e: print(sorted({'VRT', 'HTTP', 'WMS', 'PLMOSAIC', 'STACIT'} & set(e.drivers())))\n"
        "print(os.environ.get('GDAL_SKIP'))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[:2] == ["[]", "None"]


@pytest.mark.parametrize("side", [2**31 - 1, 60_000])
def test_a_header_that_claims_more_than_its_file_can_hold_is_refused(tmp_path, side):
    entries = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 126)]
    entries += [(277, 3, 1), (278, 4, side), (279, 4, 100)]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    (tmp_path / "a.tif").write_bytes(head + bytes(100))
    with pytest.raises(DataError, match=r"x [\d,]+ pixels in 222 bytes"):
        open_image(tmp_path / "a.tif")

"""Photographs: upright, laid on white, and every failure of Pillow is that picture's."""

import io
import logging
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hrseg.errors import DataError
from hrseg.imaging import (
    image_size,
    load_image,
    read_bands,
    read_image,
    read_mask,
    reading,
    stored_form,
)

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def xmp(path, image):
    text = PngImagePlugin.PngInfo()
    packet = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    text.add_itxt("XML:com.adobe.xmp", packet)
    image.save(path, pnginfo=text)


def profile(path, image):
    exif = Image.Exif()
    exif[0x0112] = 6
    packed = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(packed):8}\n{packed.hex()}\n")
    image.save(path, pnginfo=text)


def behind(path, image):
    """Put the same text behind the pixels."""
    profile(path, image)
    content = path.read_bytes()
    start = content.index(b"tEXt") - 4
    end = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
    chunk, rest = content[start:end], content[:start] + content[end:]
    path.write_bytes(rest[:-12] + chunk + rest[-12:])


@pytest.mark.parametrize("write", [xmp, profile, behind])
def test_orientation_in_the_texts_of_a_png(tmp_path, write):
    write(tmp_path / "a.png", Image.fromarray(RGB))
    expected = np.rot90(RGB, -1)
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)
    assert image_size(tmp_path / "a.png") == (30, 20)
    assert np.array_equal(read_bands(tmp_path / "a.png"), expected)
    assert stored_form(tmp_path / "a.png").turned
    assert np.array_equal(read_mask(tmp_path / "a.png"), RGB)  # masks stay as they are


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "P", "L", "RGB"])
def test_clear_pixels_are_white_and_have_no_data(mode):
    image = Image.fromarray(RGB)
    if mode in ("P", "L", "RGB"):
        image = image.quantize(8) if mode == "P" else image.convert(mode)
        image.info["transparency"] = image.getpixel((3, 2))
        key = image.getpixel((3, 2))
        stored = np.array(image)
        clear = (stored == key) if stored.ndim == 2 else (stored == key).all(axis=2)
    else:
        clear = RANDOM.random((20, 30)) < 0.4
        image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
        for step in {"La": ("LA", "La")}.get(mode, (mode,)):
            image = image.convert(step)
    found = load_image(image)
    assert np.array_equal(found.valid, ~clear)
    assert (found.pixels[clear] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"])
def test_images_given_in_python_keep_working(mode):
    gray = Image.fromarray(RGB).convert("L")
    if mode in ("I", "F"):
        image, expected = gray.convert(mode), np.dstack([np.array(gray)] * 3)
    elif mode == "I;16":
        image = Image.fromarray(np.array(gray, np.uint16) * 257)
        expected = np.dstack([np.array(gray)] * 3)
    else:
        image = Image.fromarray(RGB).convert("RGB" if mode == "LAB" else mode)
        image = Image.frombytes("LAB", image.size, image.tobytes()) if mode == "LAB" else image
        expected = np.array(image.convert("RGB"))
    assert np.array_equal(read_image(image), expected)


def packed(image: Image.Image, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("error", [NotImplementedError, RuntimeError, KeyError, AssertionError, ZeroDivisionError])
@pytest.mark.parametrize("step", ["open", "load"])
def test_whatever_pillow_raises_is_the_pictures_failure(tmp_path, monkeypatch, error, step):
    (tmp_path / "a.png").write_bytes(packed(Image.fromarray(RGB)))

    def fail(*words, **options):
        raise error("of its own")

    monkeypatch.setattr(*((Image, "open", fail) if step == "open" else (PngImagePlugin.PngImageFile, "load", fail)))
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=rf"a\.png .*{error.__name__}: .*of its own"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_the_machines_failures_are_not_the_pictures(tmp_path, monkeypatch, error):
    (tmp_path / "a.png").write_bytes(packed(Image.fromarray(RGB)))

    def fail(*words, **options):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(error):
        read_image(tmp_path / "a.png")


def dds(code: bytes) -> bytes:
    """A DirectDraw surface whose pixels have a format that Pillow lacks."""
    head = struct.pack("<7I44x", 124, 0x1007, 4, 4, 0, 0, 0) + struct.pack("<2I4s5I", 32, 4, code, *(0,) * 5)
    return b"DDS " + head.ljust(124, b"\0") + bytes(64)


def bmp() -> bytes:
    """A BMP of 16 bits whose masks are of no kind that Pillow knows."""
    head = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0)
    masks = struct.pack("<3I", 0xF800, 0x00E0, 0x0003)
    return b"BM" + struct.pack("<IHHI", 14 + 52 + 32, 0, 0, 66) + head + masks + bytes(32)


UNREAD = {
    "a.png": (dds(b"XXXX"), "cannot be decoded here"),
    "a.bmp": (bmp(), "Unsupported BMP bitfields layout"),
    "a.dcm": (bytes(128) + b"DICM" + bytes(99), "DICOM.*pydicom"),
    "a.nii": (bytes(344) + b"n+1\0" + bytes(99), "NIfTI.*nibabel"),
    "a.nii.gz": (b"\x1f\x8b" + bytes(99), "gzip.*nibabel"),
    "a.heic": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC.*heif-convert"),
    "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5.*gdal_translate"),
    "a.nc": (b"CDF\x01" + bytes(99), "netCDF.*gdal_translate"),
    "a.vrt": (b"<VRTDataset></VRTDataset>", "virtual raster.*gdal_translate"),
    "a.svg": (b"\n<svg></svg>", "SVG"),
    "a.jpg": (b"<!DOCTYPE HTML><html>", "web page.*fetch"),
    "b.png": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "c.jpg": (b"", r"empty \(0 bytes\)"),
    "d.mp4": (b"\0\0\0\x18ftypisom" + bytes(99), "video.*hrseg predict"),
    "d.mkv": (b"\x1aE\xdf\xa3" + bytes(99), "video.*hrseg predict"),
    "d.avi": (b"RIFF\0\0\0\0AVI LIST" + bytes(99), "video.*hrseg predict"),
    "d.mpg": (b"\0\0\1\xba" + bytes(99), "video.*hrseg predict"),
    "d.ts": (b"G@\x11\x10" + bytes(184), "video.*hrseg predict"),
    "d.wmv": (b"0&\xb2u\x8ef\xcf\x11" + bytes(99), "video.*hrseg predict"),
    "d.flv": (b"FLV\1" + bytes(99), "video.*hrseg predict"),
    "d.ogv": (b"OggS" + bytes(99), "video.*hrseg predict"),
    "f.mp4": (b"ffconcat version 1.0\nfile d.mp4\n", "list of videos"),
    "g.mp4": (b"#EXTM3U\n#EXTINF:2,\nd.ts\n", "playlist"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "e.bin": (b"something else", "no format that is known"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_file_that_is_whole_is_named_for_what_it_is_and_not_called_damaged(tmp_path, name, capfd):
    content, message = UNREAD[name]
    (tmp_path / name).write_bytes(content)
    for read in (read_image, image_size, read_bands, read_mask):
        if name == "a.png" and read is image_size:
            continue  # the head alone may be readable
        with pytest.raises(DataError, match=message) as error:
            read(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
        assert "damaged" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_an_address_is_no_missing_file():
    for address in ("rtsp://host/live", "https://host/a.png"):
        with pytest.raises(DataError, match=f"{address} is an address.*hrseg predict"):
            read_image(address)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_cut_picture_is_damaged(tmp_path, format):
    noise = Image.fromarray(RANDOM.integers(0, 256, (90, 90, 3), dtype=np.uint8))
    whole = packed(noise, format)
    (tmp_path / "a.img").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        read_image(tmp_path / "a.img")


def test_libraries_say_nothing_of_their_own(tmp_path, capfd, caplog):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((9, 9, 11), np.uint8),
        photometric="minisblack",
        planarconfig="contig",
    )
    logging.getLogger("PIL").setLevel(logging.NOTSET)
    with pytest.raises(DataError, match="11 bands"):
        read_image(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""
    assert caplog.records == []


def test_large_png_files_are_read_by_rows_with_the_same_pixels(tmp_path, monkeypatch):
    for name, image in (("rgb", Image.fromarray(RGB)), ("gray", Image.fromarray(RGB).convert("L"))):
        image.save(tmp_path / f"{name}.png")
        expected = read_image(tmp_path / f"{name}.png")
        with monkeypatch.context() as small:
            small.setattr(reading, "LARGE_PHOTOGRAPH", 100)
            with reading.open_image(tmp_path / f"{name}.png") as opened:
                assert type(opened).__name__ == "RasterFile"
                rows = [opened.rows(top, top + 1)[0] for top in range(20)]
        assert np.array_equal(np.concatenate(rows), expected)


def test_pictures_beyond_pillows_limit_are_read_by_rows(tmp_path, monkeypatch):
    for format in ("PNG", "JPEG"):
        (tmp_path / "a.img").write_bytes(packed(Image.fromarray(RGB), format))
        expected = read_image(tmp_path / "a.img")
        with monkeypatch.context() as small:
            small.setattr(Image, "MAX_IMAGE_PIXELS", 200)
            with reading.open_image(tmp_path / "a.img") as opened:
                pixels, _ = opened.rows(0, 20)
            with pytest.raises(DataError, match="more than 400 pixels"):
                read_image(tmp_path / "a.img")
        # GDAL smooths the colors of a JPEG in another way
        assert np.abs(pixels.astype(int) - expected).mean() < (1e-9 if format == "PNG" else 30)


def test_ids_of_few_bits_are_not_scaled(tmp_path):
    ids = np.arange(16, dtype=np.uint8).reshape(4, 4)
    rows = b"".join(b"\0" + bytes(int(a) << 4 | int(b) for a, b in row.reshape(2, 2)) for row in ids)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">II5B", 4, 4, 4, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert np.array_equal(read_mask(tmp_path / "a.png"), ids)
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 0], ids * 17)


@pytest.mark.slow
def test_photographs_do_not_import_rasterio(tmp_path):
    """It takes 0.4 s, which only rasters are worth."""
    import subprocess

    (tmp_path / "a.png").write_bytes(packed(Image.fromarray(RGB)))
    path = str(tmp_path / "a.png")
    script = f"import sys; from hrseg.imaging import read_image; read_image({path!r})"
    script += "; print('rasterio' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_ppm_and_pgm_files_hold_the_values_that_stand_in_them(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    deep = (colors.astype(np.uint16) * 257).astype(">u2")
    files = {
        "binary.ppm": b"P6\n# a comment\n4 3\n255\n" + colors.tobytes(),
        "plain.ppm": b"P3\n4 3\n255\n" + " ".join(map(str, colors.ravel())).encode(),
        "deep.ppm": b"P6 4 3 65535\n" + deep.tobytes(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert np.array_equal(read_image(tmp_path / name), colors)
        assert image_size(tmp_path / name) == (3, 4)
    ids = np.array([[0, 1, 300], [65535, 257, 514]], np.uint16)
    (tmp_path / "ids.pgm").write_bytes(b"P5 3 2 65535\n" + ids.astype(">u2").tobytes())
    assert np.array_equal(read_mask(tmp_path / "ids.pgm"), ids)
    assert read_image(tmp_path / "ids.pgm")[..., 0].tolist() == [[0, 0, 1], [255, 1, 2]]
    (tmp_path / "cut.ppm").write_bytes(files["binary.ppm"][:-5])
    with pytest.raises(DataError, match=r"cut\.ppm cannot be read.*damaged"):
        read_image(tmp_path / "cut.ppm")

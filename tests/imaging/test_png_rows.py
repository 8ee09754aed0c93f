"""A plain PNG is unpacked down to the row that is asked for; everything else is read as before."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hrseg.errors import DataError
from hrseg.imaging import png_rows, read_image, write_image
from hrseg.imaging.png_rows import Picture, open_picture, pixels

QUICK = ("pyspng", "isal.isal_zlib")


@pytest.fixture(params=[QUICK, QUICK[:1], QUICK[1:], ()], ids=["pillow", "isal", "spng", "both"], autouse=True)
def lacking(request, monkeypatch):
    """Every combination of the quick packages, as far as they are installed."""
    for name in request.param:
        monkeypatch.setitem(sys.modules, name, None)
    for choice in (png_rows._decoder, png_rows._inflater):
        choice.cache_clear()
    yield
    for choice in (png_rows._decoder, png_rows._inflater):
        choice.cache_clear()


@pytest.fixture
def image() -> np.ndarray:
    steps = np.random.default_rng(0).integers(-3, 4, (40, 50, 3)).cumsum(axis=1)
    return (steps % 256).astype(np.uint8)  # smooth, so that the PNG uses several filters


def test_upper_rows_are_those_of_the_whole_image(tmp_path: Path, image):
    write_image(tmp_path / "a.png", image)
    picture = open_picture(tmp_path / "a.png")
    assert isinstance(picture, Picture)
    assert picture.shape == image.shape
    assert np.array_equal(pixels(picture), image)
    for stop in (1, 17, 39, 40, 60):
        rows = picture.rows(stop)
        assert np.array_equal(rows, image[:stop])


def test_rows_longer_than_a_block(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (5, 30000, 3)).astype(np.uint8)
    write_image(tmp_path / "a.png", image)
    assert np.array_equal(open_picture(tmp_path / "a.png").rows(3), image[:3])


def turned(path: Path, image: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(path, exif=exif)


def described(path: Path, image: np.ndarray) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n0\n")
    Image.fromarray(image).save(path, pnginfo=text)


OTHERS = {
    "gray": lambda path, image: Image.fromarray(image[..., 0]).save(path),
    "palette": lambda path, image: Image.fromarray(image).convert("P").save(path),
    "alpha": lambda path, image: Image.fromarray(image).convert("RGBA").save(path),
    "transparent": lambda path, image: Image.fromarray(image).save(path, transparency=(0, 0, 0)),
    "turned": turned,
    "described": described,
    "a JPEG with a wrong name": lambda path, image: Image.fromarray(image).save(path, "JPEG"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_not_plain_is_read_whole(tmp_path: Path, image, kind):
    path = tmp_path / "a.png"
    OTHERS[kind](path, image)
    found = open_picture(path)
    assert not isinstance(found, Picture)
    assert np.array_equal(found, read_image(path))


def test_interlaced_is_read_whole(tmp_path: Path):
    lines = b"\0\1\2\3" * 2  # Adam7 of 1 x 2: its first pass, and its last
    head = struct.pack(">II5B", 1, 2, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    packed = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + packed)
    found = open_picture(tmp_path / "a.png")
    assert not isinstance(found, Picture)
    assert found.tolist() == [[[1, 2, 3]], [[1, 2, 3]]]


def test_plain_text_beside_the_pixels_is_harmless(tmp_path: Path, image):
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "a camera")
    Image.fromarray(image).save(tmp_path / "a.png", pnginfo=text)
    assert isinstance(open_picture(tmp_path / "a.png"), Picture)


@pytest.mark.parametrize("damage", ["cut", "scrambled", "empty", "missing"])
def test_damage_is_named(tmp_path: Path, image, damage):
    path = tmp_path / "a.png"
    write_image(path, image)
    whole = path.read_bytes()
    middle = len(whole) // 3
    content = {
        "cut": whole[:-90],
        "scrambled": whole[:middle] + b"\xff" * 40 + whole[middle + 40 :],
        "empty": b"",
        "missing": b"",
    }
    path.write_bytes(content[damage])
    if damage == "missing":
        path.unlink()
    with pytest.raises(DataError, match=r"a\.png"):
        pixels(open_picture(path))

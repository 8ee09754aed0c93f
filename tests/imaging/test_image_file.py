import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hrseg.errors import DataError
from hrseg.imaging import read_bands
from hrseg.imaging.image_file import blend_with_white, to_eight_bits
from tests.imaging.test_values import KINDS, noise


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("bands", [1, 2, 4, 6])
def test_arrays_of_either_order(tmp_path: Path, bands, dtype):
    image = noise(bands, dtype)
    np.save(tmp_path / "last.npy", image)
    np.save(tmp_path / "first.npy", np.moveaxis(image, 2, 0))
    for name in ("last.npy", "first.npy"):
        found = read_bands(tmp_path / name)
        assert found.dtype == dtype
        assert np.array_equal(found, image)
    if bands == 1:
        np.save(tmp_path / "flat.npy", image[..., 0])
        assert np.array_equal(read_bands(tmp_path / "flat.npy"), image)


def test_an_array_in_an_archive(tmp_path: Path):
    image, packed = noise(5, "float32"), io.BytesIO()
    np.save(packed, image)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as written:
        written.writestr("images/x.npy", packed.getvalue())
    assert np.array_equal(read_bands(tmp_path / "a.zip" / "images" / "x.npy"), image)


def test_other_types_become_float32(tmp_path: Path):
    for dtype in (np.int16, np.float64):
        np.save(tmp_path / "a.npy", np.full((3, 4, 2), -7, dtype))
        found = read_bands(tmp_path / "a.npy")
        assert found.dtype == np.float32
        assert (found == -7).all()


REFUSED = {
    r"has 2 bands \(0 to 1\), data\.bands asks for 5": (np.zeros((3, 4, 2), np.uint8), [0, 5]),
    "holds 2 values that are not finite": (np.array([[[np.nan], [np.inf], [1]]]), None),
    r"of shape \(2, 2, 2, 2\), which is no image": (np.zeros((2, 2, 2, 2)), None),
    "which is no image": (np.array([["a", "b"]]), None),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(tmp_path: Path, message, recwarn):
    values, bands = REFUSED[message]
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=message):
        read_bands(tmp_path / "a.npy", bands)


def test_objects_and_damage_are_refused(tmp_path: Path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("cut.npy", "cut.tif", "cut.png"):
        (tmp_path / name).write_bytes(b"II*\0 what is this")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match=path.name):
            read_bands(path)
    with pytest.raises(DataError, match="No such file"):
        read_bands(tmp_path / "none.npy")


def test_more_than_eight_bits_are_rounded_to_the_nearest_of_256_steps():
    values = np.array([0, 1, 8, 9, 2047, 4095, 60_000], np.uint16)
    # 4095 steps become 255: 8 → 0.498, 9 → 0.56, 2047 → 127.47; what is above 12 bits stays at the top
    assert to_eight_bits(values, 12).tolist() == [0, 0, 0, 1, 127, 255, 255]
    assert to_eight_bits(np.array([False, True]), 1).tolist() == [0, 255]


def test_half_clear_pixels_are_half_white():
    picture = np.array([[[0, 100, 200]] * 3], np.uint8)
    opacity = np.array([[0, 51, 255]], np.uint8)
    assert blend_with_white(picture, opacity)[0].tolist() == [
        [255, 255, 255],
        [204, 224, 244],  # a fifth of the color, four fifths of white
        [0, 100, 200],
    ]
    darkened = (picture * (opacity[..., None] / 255)).astype(np.uint8)
    found = blend_with_white(darkened, opacity, premultiplied=True)
    assert np.abs(found.astype(int) - blend_with_white(picture, opacity)).max() <= 1

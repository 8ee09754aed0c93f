"""Bands come as they are stored: values, types and order."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging import denormalize, read_bands, stretched, to_tensor, value_range_of
from hrseg.imaging.values import band_statistics
from tests.data.recipes import recipe_of

KINDS = {"uint8": 255, "uint16": 65535, "float32": 1}


def noise(bands: int, dtype: str, height: int = 20, width: int = 30) -> np.ndarray:
    values = np.random.default_rng(bands).random((height, width, bands)) * KINDS[dtype]
    return values.astype(dtype)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("bands", "dtype"), [(4, "uint16"), (3, "uint16"), (6, "uint8"), (5, "float32")])
def test_tiffs_of_many_bands(tmp_path: Path, bands, dtype, planar):
    tifffile = pytest.importorskip("tifffile")
    image = noise(bands, dtype)
    stored = image if planar == "contig" else np.moveaxis(image, 2, 0)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="minisblack",
        planarconfig=planar,
        compression="zlib",
    )
    found = read_bands(tmp_path / "a.tif")
    assert found.dtype == dtype
    assert np.array_equal(found, image)
    assert np.array_equal(read_bands(tmp_path / "a.tif", [2, 0]), image[..., [2, 0]])


def test_tiff_of_one_page_for_each_band(tmp_path: Path):
    tifffile = pytest.importorskip("tifffile")
    image = noise(4, "uint16")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for band in np.moveaxis(image, 2, 0):
            file.write(band, photometric="minisblack", contiguous=True)
    assert np.array_equal(read_bands(tmp_path / "a.tif"), image)


def test_tiff_written_without_a_word_about_its_axes(tmp_path: Path):
    tifffile = pytest.importorskip("tifffile")
    for bands in (4, 6):
        image = noise(bands, "uint16")
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
        assert np.array_equal(read_bands(tmp_path / "a.tif"), image)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_plain_tiffs_need_no_package(tmp_path: Path, mode, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    image = noise(len(Image.new(mode, (1, 1)).getbands()), "uint16" if mode == "I;16" else "uint8")
    Image.fromarray(image.squeeze()).save(tmp_path / "a.tif")
    assert np.array_equal(read_bands(tmp_path / "a.tif"), image)


def test_sixteen_bits_of_color_in_a_png(tmp_path: Path):
    image = noise(3, "uint16")
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    assert np.array_equal(read_bands(tmp_path / "a.png"), image)


def test_statistics_by_hand(tmp_path: Path):
    """Band 0 is 0, 0, 1, 3 of 4: mean 1/4, variance (1/16+1/16+0+1/4)/4 = 3/32; images weigh by their pixels."""
    images = [np.zeros((1, 2, 2), np.uint16), np.array([[[1, 8], [3, 4]]], np.uint16)]
    paths = [Path("a"), Path("b")]
    read = dict(zip(paths, images, strict=True)).__getitem__
    mean, std = band_statistics(paths, read, value_range=4.0)
    assert mean == pytest.approx((0.25, 0.75))
    assert std == pytest.approx(((3 / 32) ** 0.5, (11 / 16) ** 0.5))
    whole = np.concatenate([image.reshape(-1, 2) for image in images]) / 65535
    mean, std = band_statistics(paths, read)
    assert mean == pytest.approx(whole.mean(axis=0))
    assert std == pytest.approx(whole.std(axis=0))


def test_statistics_refuse_what_does_not_fit():
    images = {Path("a"): noise(2, "uint8"), Path("b"): noise(3, "uint8")}
    with pytest.raises(DataError, match="b has 3 bands, a 2"):
        band_statistics(list(images), images.__getitem__)
    flat = noise(2, "uint8")
    flat[..., 1] = 9
    with pytest.raises(DataError, match="Band 1 has the same value in all 1 training images"):
        band_statistics([Path("a")], lambda _: flat)


@pytest.mark.parametrize(
    ("dtype", "value_range"),
    [("uint8", None), ("uint16", None), ("uint16", 10000.0), ("float32", None)],
)
def test_normalized_bands_have_mean_0_and_deviation_1_and_come_back(dtype, value_range):
    image = noise(5, dtype)
    mean, std = band_statistics([Path("a")], lambda _: image, value_range)
    tensor = to_tensor(image, mean, std, value_range)
    assert tensor.mean(dim=(1, 2)).abs().max() < 1e-4
    assert tensor.std(dim=(1, 2), correction=0).numpy() == pytest.approx(np.ones(5), abs=1e-4)
    back = tensor.permute(1, 2, 0).numpy() * np.array(std) + np.array(mean)
    whole = value_range or value_range_of(image.dtype)
    assert back * whole == pytest.approx(image.astype(float), abs=1e-5 * whole)
    assert np.abs(denormalize(tensor, mean, std).astype(int) - stretched(image)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("bands", [1, 2, 4, 6])
def test_augmentation_of_bands(bands, dtype):
    """Band 0 says the class, so image and mask must stay in step; the other bands are copies of it."""
    mask = np.kron(np.eye(6, dtype=np.uint8), np.ones((8, 8), np.uint8))
    image = (mask[..., None] * np.ones(bands) * KINDS[dtype]).astype(dtype)
    for options in ({}, {"flip_first": True}, {"first_resize": "short_side", "base_size": 40}):
        recipe = recipe_of(crop=(40, 70), pad="mean", mean=(0.5,) * bands, **options)
        for seed in range(8):
            cut, trainids = recipe(image, mask, seed=seed)
            assert (cut.shape, cut.dtype) == ((40, 70, bands), np.dtype(dtype))
            assert (cut == cut[..., :1]).all()
            differ = (cut[..., 0] > KINDS[dtype] / 2) != (trainids == 1)
            assert differ[trainids != 255].mean() < 0.12
            outside = cut[trainids == 255].astype(float)
            assert outside == pytest.approx(0.5 * KINDS[dtype], abs=0.6)

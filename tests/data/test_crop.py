"""Only the window is resized, and it is what the whole resized image shows there."""

import contextlib
import random
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from hrseg.data import crop
from hrseg.data.crop import ScaledMask, crop_scaled
from tests.data.recipes import recipe_of


@contextlib.contextmanager
def resized_as_a_whole() -> Iterator[None]:
    """Resize the whole image before the crop, as on an OpenCV that does not warp exactly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crop, "_warps_exactly", lambda: False)
        yield


def noise(height: int, width: int, bands: int = 3, dtype: str = "uint8") -> np.ndarray:
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    values = np.random.default_rng(0).random((height, width, bands)) * top
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 6])
def test_window_of_noise_is_within_rounding_of_resize_then_crop(dtype, bands):
    stream = random.Random(bands)
    image = noise(90, 160, bands, dtype)
    for _ in range(20):
        size = (stream.randint(30, 400), stream.randint(30, 300))
        rows, columns = (
            sorted(stream.sample(range(size[1]), 2)),
            sorted(stream.sample(range(size[0]), 2)),
        )
        window = (slice(*rows), slice(*columns))
        quick = crop_scaled(image, size, window).astype(float)
        with resized_as_a_whole():
            slow = crop_scaled(image, size, window).astype(float)
        worst = np.abs(quick - slow).max()
        assert worst <= {"uint8": 1, "uint16": 33, "float32": 5e-4}[dtype]


def test_window_by_hand():
    """0, 100, 200 at twice the size: places -0.25, 0.25, ... give 0, 25, 75, 125, 175, 200."""
    image = np.array([[0, 100, 200]], np.uint8).repeat(2, axis=0)[..., None]
    for start in range(4):
        pixels = crop_scaled(image, (6, 4), (slice(1, 2), slice(start, start + 2)))
        assert pixels[0, :, 0].tolist() == [0, 25, 75, 125, 175, 200][start : start + 2]


def test_mask_is_the_one_that_opencv_resizes():
    mask = noise(61, 97)[..., 0]
    for size in [(97, 61), (48, 30), (49, 31), (200, 130), (113, 64), (1, 1)]:
        scaled = ScaledMask(mask, size)
        expected = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(scaled.crop((slice(None), slice(None))), expected)
        assert np.array_equal(scaled.pixels_of(7), np.flatnonzero(expected == 7))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_step": 0, "max_class_share": 0.2},
        {"base_size": 150, "flip_first": True, "brightness_shift": 10},
        {"first_resize": "short_side", "base_size": 80},
    ],
)
def test_recipe_gives_the_sample_of_resize_then_crop(options):
    image, mask = noise(70, 110), noise(70, 110)[..., 0] // 32
    recipe = recipe_of(crop=(40, 60), **options)
    for seed in range(15):
        quick = recipe(image, mask, seed=seed, wanted=3 if seed % 2 else -1)
        with resized_as_a_whole():
            slow = recipe(image, mask, seed=seed, wanted=3 if seed % 2 else -1)
        assert np.array_equal(quick[1], slow[1])
        assert np.abs(quick[0].astype(int) - slow[0]).max() <= 1


def test_an_opencv_that_rounds_coordinates_is_not_trusted():
    image, window = noise(40, 60), (slice(10, 30), slice(5, 45))
    expected = cv2.resize(image, (90, 60))[window]
    with resized_as_a_whole():
        assert np.array_equal(crop_scaled(image, (90, 60), window), expected)


def test_shares_are_counted_over_valid_pixels():
    mask = np.array([[1, 1, 1, 2, 255, 255]], np.uint8)
    assert crop._largest_share(mask) == 0.75
    assert crop._largest_share(np.full((2, 2), 255, np.uint8)) == 1.0

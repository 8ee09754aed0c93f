"""Conversion between pixels and normalized tensors, pictures of any bands, and statistics of bands."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from hrseg.errors import DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VALUE_RANGES = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""Type of pixels → the value that becomes 1."""


def to_tensor(
    image: np.ndarray,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    value_range: float | None = None,
) -> torch.Tensor:
    """Turn pixels into a normalized float32 tensor, stored channels last.

    Args:
        image: uint8, uint16 or float32.
        mean: Of each band, in parts of the value range.
        std: Of each band.
        value_range: The value that becomes 1 before that; None takes the type's: 255, 65535, or 1 for float32.

    Example:
        >>> to_tensor(np.full((1, 1, 3), 255, np.uint8), (0.5,) * 3, (0.5,) * 3).flatten().tolist()
        [1.0, 1.0, 1.0]

    Shape:
        (H, W, B) → (B, H, W)
    """
    top = value_range or value_range_of(image.dtype)
    scale = (1.0 / (top * np.asarray(std, dtype=np.float64))).astype(np.float32)
    shift = (np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    # a lookup per byte gives the same values in a fraction of the time
    if image.dtype == np.uint8 and image.shape[2] == 3 and image.size > 2**16:
        levels = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)  # (256, 3)
        values: np.ndarray = cv2.LUT(image, (levels * scale - shift)[None])
    else:
        values = image.astype(np.float32)  # (H, W, B)
        values *= scale
        values -= shift
    return torch.from_numpy(values).permute(2, 0, 1)


def denormalize(
    image: torch.Tensor,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    *,
    stretch: bool = False,
) -> np.ndarray:
    """Undo `to_tensor`, to a picture: uint8 RGB.

    Args:
        image: Normalized.
        mean: That was subtracted.
        std: That was divided by.
        stretch: Whether to scale it as `stretched` does, for bands other than RGB; always where there are not three.

    Shape:
        (B, H, W) → (H, W, 3)
    """
    values = image.detach().float().cpu().permute(1, 2, 0).numpy()  # (H, W, B)
    values = values * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    if stretch or values.shape[2] != 3:
        return stretched(values)
    return (values * 255.0).round().clip(0, 255).astype(np.uint8)


def stretched(values: np.ndarray) -> np.ndarray:
    """Show the first three bands as RGB, each from black at its 2nd to white at its 98th percentile.

    Of fewer bands the first is shown in gray.

    Example:
        >>> stretched(np.linspace(0, 900, 101).reshape(1, 101, 1))[0, [0, 2, 50, 98, 100], 0].tolist()
        [0, 0, 128, 255, 255]

    Shape:
        (H, W, B) → uint8 (H, W, 3)
    """
    shown = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
    low, high = np.percentile(shown.reshape(-1, shown.shape[2]), (2, 98), axis=0)  # (3,) or (1,)
    parts = (shown - low) / np.where(high > low, high - low, 1)
    picture = (255 * parts).round().clip(0, 255).astype(np.uint8)
    return picture if picture.shape[2] == 3 else gray_to_rgb(picture[..., 0])


def value_range_of(kind: np.dtype[Any]) -> float:
    """Return the value that becomes 1, by the type of the pixels.

    Raises:
        DataError: Not a type of pixels.
    """
    if kind.name not in VALUE_RANGES:
        raise DataError(f"Pixels of type {kind.name} have no value range. Convert them to {', '.join(VALUE_RANGES)}.")
    return VALUE_RANGES[kind.name]


def gray_to_rgb(gray: np.ndarray) -> np.ndarray:
    """Repeat one band three times. Shape: (H, W) → (H, W, 3)."""
    return np.repeat(gray[:, :, None], 3, axis=2)


def band_statistics(
    paths: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    value_range: float | None = None,
    threads: int = 4,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each band over all pixels of all images, in parts of the value range.

    Args:
        paths: The images; each is read once.
        read: Path → image.
        value_range: The value that becomes 1; None takes that of each image's type.
        threads: Images read at a time.

    Raises:
        DataError: Images of different numbers of bands, or a band that never changes.

    Shape:
        B numbers each

    Source: pairwise update of mean and squared deviations, Chan, Golub and LeVeque 1979.
    """

    def moments(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
        image = read(path)
        flat = image.reshape(-1, image.shape[2])  # (H W, B)
        values = flat.astype(np.float64) / (value_range or value_range_of(image.dtype))
        mean = values.mean(axis=0)  # (B,)
        return len(values), mean, ((values - mean) ** 2).sum(axis=0)

    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    with ThreadPoolExecutor(threads) as pool:
        for path, (pixels, its_mean, its_squares) in zip(paths, pool.map(moments, paths), strict=True):
            if not count:
                count, mean, squares = pixels, its_mean, its_squares
                continue
            if len(its_mean) != len(mean):
                raise DataError(
                    f"{path} has {len(its_mean)} bands, {paths[0]} {len(mean)}. Choose bands that all images have "
                    "with data.bands."
                )
            total = count + pixels
            step = its_mean - mean  # (B,)
            mean = mean + step * pixels / total
            squares = squares + its_squares + step**2 * count * pixels / total  # (B,)
            count = total
    deviation = np.sqrt(squares / max(1, count))
    flat_bands = np.flatnonzero(deviation < 1e-9).tolist()
    if flat_bands:
        raise DataError(
            f"Band {flat_bands[0]} has the same value in all {len(paths)} training images, so it is of no use and "
            "cannot be normalized. Leave it out of data.bands."
        )
    return tuple(mean.tolist()), tuple(deviation.tolist())

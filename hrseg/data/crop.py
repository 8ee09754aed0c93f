"""Random scale and crop of a training image, computing only the pixels of the crop.

The window is drawn first, in the coordinates of the scaled image, and only its pixels are resized. Compared with
resizing the whole image and cropping, the mask is the same to the bit and the image within 1 of 255, since both ways
round once, at slightly different places.
"""

import functools
import random

import cv2
import numpy as np

from hrseg.imaging.png_rows import Picture, pixels
from hrseg.labels import IGNORE_INDEX

CROP_RETRIES = 10
NO_CLASS = -1
_MAX_SIDE = 32767
"""Longest side that OpenCV's warps can address."""
_BAND_GROUPS = {0: (), 1: (1,), 2: (1, 1), 3: (3,), 4: (4,), 5: (4, 1), 6: (3, 3)}
"""Remaining bands → how many are warped together; OpenCV is exact for 1, 3 and 4."""
Scales = list[float] | tuple[float, float]
"""Scales to choose from, or the two ends of a range."""
Window = tuple[slice, slice]


class RandomScale:
    """A random scale times the base sizes, or times the native size.

    Args:
        scales: Scales, drawn evenly.
        base_size: Long side at scale 1; None is the native one.
        short_side: Short side at scale 1; where both are given the image fits into both.
    """

    def __init__(self, scales: Scales, base_size: int | None, short_side: int | None = None) -> None:
        self.scales = scales
        self.base_size, self.short_side = base_size, short_side

    def draw(self, shape: tuple[int, ...], stream: random.Random) -> tuple[int, int]:
        """Draw a scale and return the new (width, height)."""
        height, width = shape[:2]
        scales = self.scales
        scale = stream.uniform(*scales) if isinstance(scales, tuple) else stream.choice(scales)
        long, short = max(height, width), min(height, width)
        limits = ((self.base_size, long), (self.short_side, short))
        targets = [(int(base * scale + 0.5), side) for base, side in limits if base]
        if not targets:
            targets = [(int(long * scale + 0.5), long)]
        target, side = min(targets, key=lambda pair: pair[0] / pair[1])
        new_width, new_height = (max(1, int(x * target / side + 0.5)) for x in (width, height))
        return new_width, new_height


class ScaledMask:
    """A mask resized by nearest neighbor, pixel by pixel on demand.

    Args:
        mask: trainIds.
        size: (width, height) to resize to.

    Shape:
        mask (H, W)
    """

    def __init__(self, mask: np.ndarray, size: tuple[int, int]) -> None:
        self.mask = mask
        self.shape = (size[1], size[0])
        self.rows, self.columns = (_nearest_sources(old, new) for old, new in zip(mask.shape, self.shape, strict=True))

    def crop(self, window: Window) -> np.ndarray:
        """Return the pixels of a window."""
        rows, columns = self.rows[window[0]], self.columns[window[1]]
        return self.mask.take(rows, axis=0).take(columns, axis=1)

    def pixels_of(self, train_id: int) -> np.ndarray:
        """Return the flat indices of all pixels of a class."""
        return np.flatnonzero(self.crop((slice(None), slice(None))) == train_id)


class RandomWindow:
    """A random window, clipped to the image.

    Args:
        height: Of the window.
        width: Of the window.
        max_class_share: Windows where a class fills more of the valid pixels are drawn again, up to
            CROP_RETRIES times; the last one is taken.
    """

    def __init__(self, height: int, width: int, max_class_share: float = 1.0) -> None:
        self.height, self.width = height, width
        self.max_class_share = max_class_share

    def draw(self, mask: ScaledMask, stream: random.Random, wanted: int = NO_CLASS) -> tuple[Window, np.ndarray]:
        """Draw a window and return it with the mask's pixels in it.

        Args:
            mask: The scaled mask.
            stream: Of random numbers.
            wanted: Class that the window shall hold, or NO_CLASS.
        """
        places = mask.pixels_of(wanted) if wanted != NO_CLASS else np.zeros(0, np.int64)
        for _ in range(1 + CROP_RETRIES):
            row = column = None
            if len(places):  # none where the class vanished at a small scale
                row, column = divmod(int(stream.choice(places)), mask.shape[1])
            window = (
                _draw_span(mask.shape[0], self.height, row, stream),
                _draw_span(mask.shape[1], self.width, column, stream),
            )
            trainids = mask.crop(window)  # (height, width), at most
            if self.max_class_share >= 1 or _largest_share(trainids) <= self.max_class_share:
                break
        return window, trainids


def crop_scaled(image: Picture | np.ndarray, size: tuple[int, int], window: Window) -> np.ndarray:
    """Return a window of the image resized bilinearly, as if the whole image had been resized.

    Args:
        image: Pixels, or a picture still packed.
        size: (width, height) to resize to.
        window: Rows and columns of the resized image.

    Shape:
        (H, W, B) → window
    """
    height, width = image.shape[:2]
    rows, columns = window
    if size == (width, height):
        return pixels(image, rows.stop)[rows, columns]
    shape = (columns.stop - columns.start, rows.stop - rows.start)
    if shape == size or max(height, width) > _MAX_SIDE or not _warps_exactly():
        resized = cv2.resize(pixels(image), size, interpolation=cv2.INTER_LINEAR)
        return resized.reshape(*resized.shape[:2], -1)[window]
    top, bottom, row_step, row_offset = _source_span(rows, height, size[1])
    left, right, column_step, column_offset = _source_span(columns, width, size[0])
    source = pixels(image, bottom)[top:bottom, left:right]  # only the pixels that the window reads
    matrix = np.array([[column_step, 0, column_offset], [0, row_step, row_offset]])  # (2, 3)
    crops = [
        cv2.warpAffine(
            group,
            matrix,
            shape,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ).reshape(*shape[::-1], -1)  # OpenCV drops the axis of a single band
        for group in _band_groups(source)
    ]
    return crops[0] if len(crops) == 1 else np.concatenate(crops, axis=2)


def _band_groups(source: np.ndarray) -> list[np.ndarray]:
    """Split the bands into groups that OpenCV warps exactly."""
    bands = source.shape[2]
    fours = max(0, (bands - 3) // 4)
    sizes = (4,) * fours + _BAND_GROUPS[bands - 4 * fours]
    if len(sizes) == 1:
        return [source]
    ends = np.cumsum(sizes)[:-1]  # of the groups, in bands
    return [np.ascontiguousarray(group) for group in np.split(source, ends, axis=2)]


def _source_span(span: slice, old: int, new: int) -> tuple[int, int, float, float]:
    """Return first and last source pixel of a span of the resized axis, its step, and its start among them."""
    step = old / new
    first, last = (span.start + 0.5) * step - 0.5, (span.stop - 0.5) * step - 0.5
    start = min(max(0, int(np.floor(first))), old - 1)
    return start, min(old, int(np.floor(last)) + 2), step, first - start


def _nearest_sources(old: int, new: int) -> np.ndarray:
    """Return the source pixel of each pixel of a resized axis, as OpenCV rounds it. Shape: (new,)."""
    if old == new:
        return np.arange(old)
    places = np.arange(old, dtype=np.int32)[None]  # OpenCV resizes the indices themselves
    sources: np.ndarray = cv2.resize(places, (new, 1), interpolation=cv2.INTER_NEAREST)[0]
    return sources


def _draw_span(length: int, wanted: int, inside: int | None, stream: random.Random) -> slice:
    """Draw a span of one axis that holds the pixel `inside`, where one is given."""
    size = min(wanted, length)
    low, high = 0, length - size
    if inside is not None:
        low, high = max(0, inside - size + 1), min(high, inside)
    start = stream.randint(low, high)
    return slice(start, start + size)


def _largest_share(mask: np.ndarray) -> float:
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256])[:IGNORE_INDEX]  # without the ignored
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


@functools.cache
def _warps_exactly() -> bool:
    """Return whether this OpenCV warps exactly; before version 5 it rounds coordinates to 1/32 of a pixel."""
    step = np.array([[0, 0, 255, 255]], np.uint8)
    shift = np.array([[1, 0, 0.485], [0, 1, 0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(step, shift, (4, 1), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return abs(float(warped[0, 1]) - 0.485 * 255) < 1

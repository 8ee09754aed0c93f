"""Scale and window of a training crop, decided before any pixel is resized.

Resizing a whole image to cut a piece out of it makes pixels that nobody sees. Here the window is drawn first, in
the scaled image's coordinates, and only what it shows is computed. The mask is the same to the bit; the image
within 1 of 255, since both ways round once, at slightly different places.
"""

import functools
import random

import cv2
import numpy as np

from hrseg.imaging.png_rows import Picture, pixels
from hrseg.labels import IGNORE_INDEX

CROP_RETRIES = 10
NO_CLASS = -1
_LONGEST = 32767
"""Longest side that OpenCV's warps can address."""
_GROUPS = {0: (), 1: (1,), 2: (1, 1), 3: (3,), 4: (4,), 5: (4, 1), 6: (3, 3)}
"""Bands that are left → how many are warped together; OpenCV is exact for 1, 3 and 4."""
Scales = list[float] | tuple[float, float]
"""Scales to choose from, or the two ends of a range."""
Window = tuple[slice, slice]


class RandomScale:
    """A random scale times the base sizes, or times the native size.

    Args:
        drawn: Scales, drawn evenly.
        base_size: Long side at scale 1; None is the native one.
        short_side: Short side at scale 1; where both are given the image fits into both.
    """

    def __init__(self, drawn: Scales, base_size: int | None, short_side: int | None = None) -> None:
        self.drawn = drawn
        self.base_size, self.short_side = base_size, short_side

    def draw(self, shape: tuple[int, ...], stream: random.Random) -> tuple[int, int]:
        """Draw a scale and return the new (width, height)."""
        height, width = shape[:2]
        scale = (
            stream.uniform(*self.drawn)
            if isinstance(self.drawn, tuple)
            else stream.choice(self.drawn)
        )
        long, short = max(height, width), min(height, width)
        limits = ((self.base_size, long), (self.short_side, short))
        targets = [(int(base * scale + 0.5), side) for base, side in limits if base]
        if not targets:
            targets = [(int(long * scale + 0.5), long)]
        target, side = min(targets, key=lambda pair: pair[0] / pair[1])
        across, down = (max(1, int(length * target / side + 0.5)) for length in (width, height))
        return across, down


class ScaledMask:
    """A mask resized by nearest neighbor, of which only the pixels asked for are made.

    Args:
        mask: trainIds.
        size: (width, height) to resize to.

    Shape:
        mask (H, W)
    """

    def __init__(self, mask: np.ndarray, size: tuple[int, int]) -> None:
        self.mask = mask
        self.shape = (size[1], size[0])
        self.rows, self.columns = (
            _nearest(old, new) for old, new in zip(mask.shape, self.shape, strict=True)
        )

    def cut(self, window: Window) -> np.ndarray:
        """Return the pixels of a window."""
        rows, columns = self.rows[window[0]], self.columns[window[1]]
        return self.mask.take(rows, axis=0).take(columns, axis=1)

    def holding(self, wanted: int) -> np.ndarray:
        """Return the places, row by row, of all pixels of a class."""
        return np.flatnonzero(self.cut((slice(None), slice(None))) == wanted)


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

    def draw(
        self, mask: ScaledMask, stream: random.Random, wanted: int = NO_CLASS
    ) -> tuple[Window, np.ndarray]:
        """Draw a window and return it with the mask's pixels in it.

        Args:
            mask: The scaled mask.
            stream: Of random numbers.
            wanted: Class that the window shall hold, or NO_CLASS.
        """
        places = mask.holding(wanted) if wanted != NO_CLASS else np.zeros(0, np.int64)
        for _ in range(1 + CROP_RETRIES):
            row = column = None
            if len(places):  # gone where a small scale swallowed the class
                row, column = divmod(int(stream.choice(places)), mask.shape[1])
            window = (
                _stretch(mask.shape[0], self.height, row, stream),
                _stretch(mask.shape[1], self.width, column, stream),
            )
            trainids = mask.cut(window)
            if self.max_class_share >= 1 or _largest_share(trainids) <= self.max_class_share:
                break
        return window, trainids


def cut_scaled(
    image: Picture | np.ndarray, size: tuple[int, int], window: Window, *, whole: bool = False
) -> np.ndarray:
    """Return a window of the image resized bilinearly, as if the whole image had been resized.

    Args:
        image: Pixels, or a picture still packed.
        size: (width, height) to resize to.
        window: Rows and columns of the resized image.
        whole: Resize everything and cut, which is slower and rounds as `cv2.resize` does.

    Shape:
        (H, W, B) → window
    """
    height, width = image.shape[:2]
    rows, columns = window
    if size == (width, height):
        return pixels(image, rows.stop)[rows, columns]
    everything = (rows.stop - rows.start, columns.stop - columns.start) == (size[1], size[0])
    if whole or everything or max(height, width) > _LONGEST or not _warps_exactly():
        resized = cv2.resize(pixels(image), size, interpolation=cv2.INTER_LINEAR)
        return resized.reshape(*resized.shape[:2], -1)[window]
    top, bottom, down, above = _reach(rows, height, size[1])
    left, right, across, before = _reach(columns, width, size[0])
    part = pixels(image, bottom)[top:bottom, left:right]
    matrix = np.array([[across, 0, before], [0, down, above]])
    shape = (columns.stop - columns.start, rows.stop - rows.start)
    bands = _groups(part)
    cuts = [
        cv2.warpAffine(
            some,
            matrix,
            shape,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for some in bands
    ]
    if len(cuts) == 1:
        return cuts[0].reshape(*shape[::-1], -1)
    return np.concatenate([cut.reshape(*shape[::-1], -1) for cut in cuts], axis=2)


def _groups(part: np.ndarray) -> list[np.ndarray]:
    """Split the bands as OpenCV can take them."""
    bands = part.shape[2]
    fours = max(0, (bands - 3) // 4)
    sizes = (4,) * fours + _GROUPS[bands - 4 * fours]
    if len(sizes) == 1:
        return [part]
    ends = np.cumsum(sizes)[:-1]
    return [np.ascontiguousarray(some) for some in np.split(part, ends, axis=2)]


def _reach(stretch: slice, old: int, new: int) -> tuple[int, int, float, float]:
    """Return which source pixels a stretch of the resized axis needs, its step, and where it starts among them."""
    step = old / new
    first, last = (stretch.start + 0.5) * step - 0.5, (stretch.stop - 0.5) * step - 0.5
    start = min(max(0, int(np.floor(first))), old - 1)
    return start, min(old, int(np.floor(last)) + 2), step, first - start


def _nearest(old: int, new: int) -> np.ndarray:
    """Return the source pixel of each pixel of a resized axis; OpenCV itself says so. Shape: (new,)."""
    if old == new:
        return np.arange(old)
    places = np.arange(old, dtype=np.int32)[None]
    found: np.ndarray = cv2.resize(places, (new, 1), interpolation=cv2.INTER_NEAREST)[0]
    return found


def _stretch(length: int, wanted: int, inside: int | None, stream: random.Random) -> slice:
    """Draw a stretch of one axis, holding the pixel `inside` where one is given."""
    size = min(wanted, length)
    low, high = 0, length - size
    if inside is not None:
        low, high = max(0, inside - size + 1), min(high, inside)
    start = stream.randint(low, high)
    return slice(start, start + size)


def _largest_share(mask: np.ndarray) -> float:
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256])[:IGNORE_INDEX]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


@functools.cache
def _warps_exactly() -> bool:
    """Tell whether this OpenCV warps at any place; before version 5 it rounds places to 1/32 of a pixel."""
    step = np.array([[0, 0, 255, 255]], np.uint8)
    shift = np.array([[1, 0, 0.485], [0, 1, 0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(step, shift, (4, 1), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return abs(float(found[0, 1]) - 0.485 * 255) < 1

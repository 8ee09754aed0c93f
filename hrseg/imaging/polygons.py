"""Rasterization of polygons, and tracing of masks, by one rule.

Coordinates are continuous: (0, 0) is the upper left corner of the image, (1, 1) the lower right corner of its first
pixel. A pixel belongs to a polygon when its center is inside, by the even-odd rule; a center exactly on the edge
belongs to the polygon on its right, or below. Polygons that share an edge neither overlap nor leave a gap, and
outlines from `trace` fill exactly the pixels that they were traced from.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

Size = tuple[int, int]
"""(height, width) of an image."""
Ring = np.ndarray
"""Corners (x, y) of a closed line, float64 (n, 2)."""


class Patch(NamedTuple):
    """Pixels of an object, cropped to their bounding box.

    Attributes:
        top: First row.
        left: First column.
        pixels: Whether each belongs to it, bool (h, w).
    """

    top: int
    left: int
    pixels: np.ndarray


def fill(rings: Iterable[Ring], size: Size) -> Patch:
    """Return the pixels inside closed lines, cropped to the image.

    Several rings together follow the even-odd rule, so that a ring inside another is a hole.

    Example:
        >>> fill([np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 1.0], [1.0, 1.0]])], (2, 4))
        Patch(top=0, left=1, pixels=array([[ True,  True]]))

    Source:
        Scan conversion by parity: each edge flips all pixels on its right; ours.
    """
    height, width = size
    rings = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings]
    if not rings:
        return empty_patch()
    start = np.concatenate(rings)  # (edges, 2)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    down = (start[:, 1] < end[:, 1])[:, None]  # one direction, so that shared edges round alike
    (x0, y0), (x1, y1) = np.where(down, start, end).T, np.where(down, end, start).T
    first, last = (np.ceil(y - 0.5).clip(0, height).astype(np.int64) for y in (y0, y1))  # rows
    count = last - first
    edge = np.repeat(np.arange(len(count)), count)  # of each crossing with the center of a row
    if not len(edge):
        return empty_patch()
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * slope  # of the crossing, at the row's center
    column = np.ceil(x - 0.5).clip(0, width).astype(np.int64)
    top, left = int(row.min()), int(column.min())
    shape = int(row.max()) + 1 - top, int(column.max()) + 1 - left
    flips = np.bincount((row - top) * shape[1] + column - left, minlength=shape[0] * shape[1])
    inside = np.bitwise_xor.accumulate(flips.reshape(shape)[:, :-1] & 1, axis=1).astype(bool)
    return Patch(top, left, inside)


def union(parts: Sequence[Ring], size: Size) -> Patch:
    """Return the pixels inside any of the polygons."""
    return joined(fill([ring], size) for ring in parts)


def joined(patches: Iterable[Patch]) -> Patch:
    """Return the pixels of any of the patches."""
    patches = [patch for patch in patches if patch.pixels.size]
    if not patches:
        return empty_patch()
    top, left = min(p.top for p in patches), min(p.left for p in patches)
    bottom = max(p.top + p.pixels.shape[0] for p in patches)
    right = max(p.left + p.pixels.shape[1] for p in patches)
    pixels = np.zeros((bottom - top, right - left), dtype=bool)
    for patch in patches:
        height, width = patch.pixels.shape
        y, x = patch.top - top, patch.left - left
        pixels[y : y + height, x : x + width] |= patch.pixels
    return Patch(top, left, pixels)


def bounding_box(pixels: np.ndarray) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box around the set pixels; there must be some. Shape: bool (H, W)."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def place(pixels: np.ndarray, top: int, left: int, size: Size) -> Patch:
    """Place pixels on an image, cropped to it."""
    y, x = max(0, -top), max(0, -left)
    cropped = pixels[y : max(y, size[0] - top), x : max(x, size[1] - left)]
    return Patch(top + y, left + x, cropped.astype(bool))


def empty_patch() -> Patch:
    """Return a patch without pixels."""
    return Patch(0, 0, np.zeros((0, 0), dtype=bool))


def box(x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0) -> Ring:
    """Return the corners of a box, turned clockwise around its middle."""
    ring = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)
    return turned(ring, ((x0 + x1) / 2, (y0 + y1) / 2), degrees)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Ring:
    """Return corners on an ellipse, an eighth of a pixel from it at most, turned clockwise around its middle."""
    largest = max(abs(rx), abs(ry), 1.0)
    count = min(4096, max(16, math.ceil(math.pi / math.acos(1 - min(0.125, largest / 8) / largest))))
    angles = np.arange(count) * (2 * math.pi / count)
    ring = np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)
    return turned(ring, (x, y), degrees)


def turned(ring: Ring, around: tuple[float, float], degrees: float) -> Ring:
    """Turn corners clockwise on a screen, whose y points down."""
    if not degrees:
        return ring
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return (ring - around) @ np.array([[cosine, sine], [-sine, cosine]]) + around


def trace(mask: np.ndarray) -> list[Ring]:
    """Trace the outlines of a mask along the edges of its pixels.

    Pixels that touch at a corner only belong to different outlines. An outer outline runs clockwise on the screen
    and its `area` is positive; that of a hole is negative.

    Shape:
        bool (H, W) → corners (n, 2) each

    Example:
        >>> [ring.astype(int).tolist() for ring in trace(np.array([[True, True]]))]
        [[[0, 0], [2, 0], [2, 1], [0, 1]]]

    Source:
        Crack following on directed edges, turning right where two outlines meet; ours.
    """
    padded = np.pad(mask.astype(bool), 1)  # (H + 2, W + 2)
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]  # (H + 1, W) each
    left, right = padded[1:-1, :-1].T, padded[1:-1, 1:].T  # (W + 1, H) each
    lines = (below & ~above, left & ~right, above & ~below, right & ~left)  # east south west north
    starts, ends, directions = [], [], []
    for way, line in enumerate(lines):
        change = np.diff(np.pad(line, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        row, low = np.nonzero(change == 1)
        high = np.nonzero(change == -1)[1]
        pair = [np.stack([low, row]), np.stack([high, row])]
        if way % 2:
            pair = [corner[::-1] for corner in pair]
        starts.append(pair[way // 2])
        ends.append(pair[1 - way // 2])
        directions.append(np.full(len(row), way))
    start, end, direction = np.hstack(starts), np.hstack(ends), np.hstack(directions)
    width = mask.shape[1] + 1
    key = (start[1] * width + start[0]) * 4 + direction  # one number for corner and direction
    order = np.argsort(key)
    at = (end[1] * width + end[0]) * 4
    right_turn = _find(key, order, at + (direction + 1) % 4)  # -1 where no edge turns right
    left_turn = _find(key, order, at + (direction + 3) % 4)
    return _loops(start.T, np.where(right_turn < 0, left_turn, right_turn).tolist())


def area(ring: Ring) -> float:
    """Return the area inside, positive when it runs clockwise on the screen."""
    x, y = ring[:, 0], ring[:, 1]
    if not len(ring):
        return 0.0
    closing = x[-1] * y[0] - x[0] * y[-1]
    return float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]) + closing) / 2


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Remove corners that are within `tolerance` of the remaining outline.

    Source:
        Douglas and Peucker, as in OpenCV.
    """
    if tolerance <= 0 or len(ring) < 4:
        return ring
    short = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)[:, 0]
    return short.astype(np.float64) if len(short) >= 3 else ring


def _find(key: np.ndarray, order: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(key):
        return np.zeros(0, dtype=np.int64)
    spot = np.searchsorted(key, wanted, sorter=order).clip(0, len(key) - 1)
    found: np.ndarray = np.where(key[order[spot]] == wanted, order[spot], -1)
    return found


def _loops(corners: np.ndarray, following: list[int]) -> list[Ring]:
    rings, seen = [], bytearray(len(following))
    for first in range(len(following)):
        ring, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            ring.append(edge)
            edge = following[edge]
        if ring:
            rings.append(corners[ring].astype(np.float64))
    return rings

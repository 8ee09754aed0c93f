"""Rings of one polygon that were simplified each for itself, and may have come to cross."""

from collections.abc import Sequence

import numpy as np

from hrseg.data.convert.polygons import Ring, area, simplify

_TRIES = 4


def simplified(rings: Sequence[Ring], tolerance: float) -> list[Ring]:
    """Simplify the outline and the holes of one polygon, so that it stays one.

    Where edges would cross, half the tolerance is tried, and in the end none; a ring of which nothing would be left
    stays as it is.

    Args:
        rings: As `geojson.parts` gives them.
        tolerance: In pixels.
    """
    for _ in range(_TRIES if tolerance > 0 else 0):
        shorter = [_shorter(ring, tolerance) for ring in rings]
        if not cross(shorter):
            return shorter
        tolerance /= 2
    return list(rings)


def cross(rings: Sequence[Ring]) -> bool:
    """Say whether any two edges meet elsewhere than in a common end.

    Example:
        >>> bow = np.array([[0.0, 0.0], [2.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
        >>> cross([bow]), cross([bow[[0, 2, 1, 3]]])
        (True, False)

    Source:
        Edges in the order of their left ends, so that only those above one another are compared; ours.
    """
    start = np.concatenate(rings)
    end = np.concatenate([np.concatenate([ring[1:], ring[:1]]) for ring in rings])
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.argsort(low[:, 0], kind="stable")
    start, end, low, high = start[order], end[order], low[order], high[order]
    count = np.searchsorted(low[:, 0], high[:, 0], side="right") - np.arange(len(start)) - 1
    first = np.repeat(np.arange(len(start)), count)
    second = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count) + first + 1
    near = (low[first, 1] <= high[second, 1]) & (low[second, 1] <= high[first, 1])
    first, second = first[near], second[near]
    a, b, c, d = start[first], end[first], start[second], end[second]
    sides = [_side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)]
    meet = (sides[0] * sides[1] <= 0) & (sides[2] * sides[3] <= 0)
    shared = _same(a, c) | _same(a, d) | _same(b, c) | _same(b, d)
    in_line = (sides[0] == 0) & (sides[1] == 0)
    overlap = in_line & _long(a, b, c, d)
    return bool((meet & ~shared & ~in_line).any() or overlap.any())


def _shorter(ring: Ring, tolerance: float) -> Ring:
    short = simplify(ring, tolerance)
    return short if area(short) * area(ring) > 0 else ring


def _side(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return 1, 0 or -1: on which side of lines points lie."""
    line, way = b - a, point - a
    return np.sign(line[:, 0] * way[:, 1] - line[:, 1] * way[:, 0])


def _same(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first == second).all(axis=1)


def _long(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Say which edges of one line have more than a point in common."""
    across = np.minimum(np.maximum(a, b), np.maximum(c, d)) - np.maximum(
        np.minimum(a, b), np.minimum(c, d)
    )
    return (across >= 0).all(axis=1) & (across > 0).any(axis=1)

"""Which values of masks are meant, and which were made of them by JPEG, smoothing, resizing, or one step of noise.

Judged by where the values stand, not by their count: a class has areas, or at least borders against its neighbors
that are as sharp as elsewhere; smoothing leaves values in between at every border, JPEG and noise leave values beside
the common ones. Classes that other classes count beside (ids 0, 1, 2) are never noise of each other.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from hrseg.data.check.findings import Seen
from hrseg.labels import channel_distances

TOPS = (255, 65535)
"""Largest values of 8 and 16 bits, which often mean "no label"."""
_AREA = 0.1  # a value has areas where this share of its pixels has only equal neighbors
_MOST = 4096  # values that are looked at; of more no table can be made
_FEW = 8  # thin classes that a dataset may well have
_APART = 8  # steps between values that are not counted through


@dataclass(frozen=True)
class Levels:
    """Values that are meant, values made of them, and the largest distance to be taken back (0: not to be told)."""

    main: tuple[int, ...]
    odd: tuple[int, ...] = ()
    snap: int = 0


def find_levels(
    seen: Mapping[int, Seen], of_colors: bool, told: Collection[int] = (), jpeg: bool = False
) -> Levels:
    """Divide the values of masks into those that are meant and those that were made of them.

    Values that a class file names, `told`, are meant; `jpeg` says whether a mask was saved as JPEG.
    """
    values = sorted(seen, key=lambda value: -seen[value].pixels)
    solid = [value for value in values if value in told or _has_areas(seen[value])]
    if (
        solid and not of_colors
    ):  # a top value salted with its neighbor has no areas left, and is meant
        solid += [top for top in TOPS if top in seen and top not in solid and top - 1 in seen]
    if len(values) <= _MOST:
        solid = [v for v in solid if v in told or not _is_step_off(v, solid, seen, of_colors)]
        solid = solid or _commonest(seen, values, of_colors)
        loose = [value for value in values if value not in solid]
        if jpeg or (loose and _are_noise(seen, loose, solid, of_colors)):
            radius, share = (2 * _APART - 1, 1.0) if jpeg else (4, 0.1)
            main = _commonest(seen, solid, of_colors, radius, share)
            main += [value for value in told if value in seen and value not in main]
            odd = [value for value in values if value not in main]
            return Levels(tuple(main), tuple(odd), _snap(seen, main, odd, of_colors))
    return Levels(tuple(values))


def _are_noise(
    seen: Mapping[int, Seen], loose: list[int], solid: list[int], of_colors: bool
) -> bool:
    """Say whether values without areas were made of those with areas, rather than being small or thin classes."""
    counted = not of_colors and _counts_through([*loose, *solid])
    gap = _gap([v for v in solid if not (counted and v in TOPS)], of_colors)
    near = _distances(loose, solid, of_colors)
    close = counted or gap < _APART  # classes may stand side by side
    beside = not close and near.min() <= max(2, gap // 8)
    tops = {v for v in TOPS if v in solid and not any(0 < v - other < 32 for other in solid)}
    below_top = not of_colors and any(not tops.isdisjoint((v + 1, v + 2)) for v in loose)
    if beside or below_top:
        return True
    least = 2 if gap >= _APART else 3
    around = (
        gap >= 3 and len(solid) >= least
    )  # each has neighbors one step off, and nothing else is there
    around = around and bool((near.min(axis=0) <= 1).all() and (near.min(axis=1) <= 1).all())
    many = not close or not _counts_through(solid) or len(solid) > 2
    many = many and len(loose) > max(_FEW, 2 * len(solid))
    return (around and _stand_out(seen, loose, 2)) or (
        _stand_out(seen, loose, 4) and (many or _are_between(seen, loose, solid, close))
    )


def _has_areas(one: Seen) -> bool:
    return one.pixels - one.edge >= _AREA * one.pixels


def _is_step_off(value: int, others: list[int], seen: Mapping[int, Seen], of_colors: bool) -> bool:
    """Say whether a commoner value lies within two steps and the two never have areas in one mask."""
    commoner = others[: others.index(value)]
    near = _distances([value], commoner, of_colors)[0] <= 2
    return any(
        seen[value].inside.isdisjoint(seen[other].inside)
        for other, close in zip(commoner, near, strict=True)
        if close
    )


def _commonest(
    seen: Mapping[int, Seen],
    values: list[int],
    of_colors: bool,
    radius: int = 2,
    share: float = 1.0,
) -> list[int]:
    """Return the values, the most frequent first, without those near one that is so much commoner."""
    found: list[int] = []
    for value in sorted(values, key=lambda value: -seen[value].pixels):
        near = _distances([value], found, of_colors)[0] <= radius
        if not any(
            close and seen[value].pixels <= share * seen[other].pixels
            for other, close in zip(found, near, strict=True)
        ):
            found.append(value)
    return found


def _counts_through(values: Collection[int]) -> bool:
    """Say whether ids are counted from 0 or 1 on, a top value aside, rather than spread like gray levels."""
    numbers = [value for value in values if not any(0 <= top - value <= 2 for top in TOPS)]
    return not numbers or max(numbers) <= 4 * len(numbers) + 10


def _stand_out(seen: Mapping[int, Seen], loose: list[int], times: int) -> bool:
    """Say whether some value is commoner by far than most of these, unlike in noise or stripes of all values."""
    shares = sorted(seen[value].pixels for value in loose)
    return max(one.pixels for one in seen.values()) >= times * shares[len(shares) // 2]


def _are_between(seen: Mapping[int, Seen], loose: list[int], solid: list[int], close: bool) -> bool:
    """Say whether values lie between their neighbors since borders were smoothed, and not as thin classes do.

    Smoothing leaves no sharp border, thin classes leave most; and no dataset has a dozen thin classes that lie
    between their neighbors wherever they are.
    """
    between = [value for value in loose if seen[value].soft >= seen[value].pixels / 2]
    if not close and len(between) > max(_FEW, len(solid)):
        return True
    soft = sum(seen[value].soft for value in between)
    sharp = max((seen[value].sharp for value in between), default=0)
    least = 0.1 if not close else 0.5 if len(between) > 1 else 0.9
    return soft > 0 and soft >= least * (soft + sharp)


def _snap(seen: Mapping[int, Seen], main: list[int], odd: list[int], of_colors: bool) -> int:
    """Return how far odd values may be taken to the nearest main one; 0 where that would be a guess."""
    gap = _gap(main, of_colors)
    if len(main) < 2 or gap < 2 * _APART:
        return 0
    distances = _distances(odd, main, of_colors)
    nearest, near = distances.argmin(axis=1), distances.min(axis=1)
    for value, place, distance in zip(odd, nearest, near, strict=True):
        if distance <= gap / 4 and seen[value].pixels > seen[main[place]].pixels / 4:
            return 0  # two kinds of masks, or a class
    far = [seen[value].pixels for value, d in zip(odd, near, strict=True) if d > gap / 4]
    if len(main) == 2 and gap < 4 * _APART:
        return 0
    if not far:
        return (gap + 1) // 2 if len(main) == 2 else int(near.max(initial=0))
    # between three levels a border of the outer two looks like the middle one
    total = sum(one.pixels for one in seen.values())
    peak = len(far) < 3 or max(far) > sum(far) / 2
    if len(main) > 2 or peak or sum(far) > 0.4 * total or near.max() > (gap + 1) // 2:
        return 0
    return (gap + 1) // 2


def _gap(values: list[int], of_colors: bool) -> int:
    """Return the least distance between two of the values; of a single one, no limit."""
    apart = _distances(values, values, of_colors)
    np.fill_diagonal(apart, 2**31)
    return int(apart.min(initial=2**31))


def _distances(values: list[int], others: list[int], of_colors: bool) -> np.ndarray:
    one, other = (np.array(each, dtype=np.int64) for each in (values, others))
    return channel_distances(one, other, of_colors)

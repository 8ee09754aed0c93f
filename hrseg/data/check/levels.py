"""Separation of the values that masks were drawn with from those that JPEG, smoothing, resizing or noise made.

Position decides, not count: a class has areas, or at least borders as sharp as those of others; smoothing leaves
values in between at every border, JPEG and noise leave values beside the frequent ones. Classes with consecutive ids
(0, 1, 2) are never taken for noise of each other.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from hrseg.data.check.findings import ValueStats
from hrseg.labels import channel_distances

TOPS = (255, 65535)
"""Largest values of 8 and 16 bits, which often mean "no label"."""
_MIN_INNER = 0.1  # a value has areas where this share of its pixels has only equal neighbors
_MAX_VALUES = 4096  # of more values no table can be made
_THIN_CLASSES = 8  # a dataset may well have so many classes without areas
_WIDE_GAP = 8  # steps between values that are not consecutive


@dataclass(frozen=True)
class IntendedValues:
    """Values of masks, separated.

    Attributes:
        intended: Values that the masks were drawn with.
        artifacts: Values made of them.
        snap: Largest distance at which an artifact belongs to the nearest intended value; 0 where that is unknown.
    """

    intended: tuple[int, ...]
    artifacts: tuple[int, ...] = ()
    snap: int = 0


def find_intended(
    seen: Mapping[int, ValueStats],
    of_colors: bool,
    listed: Collection[int] = (),
    jpeg: bool = False,
) -> IntendedValues:
    """Separate the values of masks.

    Args:
        seen: Value → its statistics.
        of_colors: Whether values are colors.
        listed: Values that a class file names, which are always intended.
        jpeg: Whether a mask was saved as JPEG.
    """
    values = sorted(seen, key=lambda value: -seen[value].pixels)
    solid = [value for value in values if value in listed or _has_areas(seen[value])]
    # noise between a top value and its neighbor leaves neither with areas; the top value is the intended one
    if solid and not of_colors:
        solid += [top for top in TOPS if top in seen and top not in solid and top - 1 in seen]
    if len(values) <= _MAX_VALUES:
        solid = [v for v in solid if v in listed or not _is_step_off(v, solid, seen, of_colors)]
        solid = solid or _most_frequent(seen, values, of_colors)
        loose = [value for value in values if value not in solid]
        if jpeg or (loose and _are_noise(seen, loose, solid, of_colors)):
            radius, share = (2 * _WIDE_GAP - 1, 1.0) if jpeg else (4, 0.1)
            intended = _most_frequent(seen, solid, of_colors, radius, share)
            intended += [value for value in listed if value in seen and value not in intended]
            artifacts = [value for value in values if value not in intended]
            return IntendedValues(tuple(intended), tuple(artifacts), _snap(seen, intended, artifacts, of_colors))
    return IntendedValues(tuple(values))


def _are_noise(seen: Mapping[int, ValueStats], loose: list[int], solid: list[int], of_colors: bool) -> bool:
    """Return whether values without areas come from those with areas, rather than from small or thin classes."""
    consecutive = not of_colors and _are_consecutive([*loose, *solid])
    gap = _gap([v for v in solid if not (consecutive and v in TOPS)], of_colors)
    near = _distances(loose, solid, of_colors)  # (loose, solid)
    close = consecutive or gap < _WIDE_GAP  # classes may stand side by side
    beside = not close and near.min() <= max(2, gap // 8)
    tops = {v for v in TOPS if v in solid and not any(0 < v - other < 32 for other in solid)}
    below_top = not of_colors and any(not tops.isdisjoint((v + 1, v + 2)) for v in loose)
    if beside or below_top:
        return True
    least = 2 if gap >= _WIDE_GAP else 3
    # noise of one step: each solid value has a neighbor one step off, and there are no other values
    around = gap >= 3 and len(solid) >= least
    around = around and bool((near.min(axis=0) <= 1).all() and (near.min(axis=1) <= 1).all())
    many = not close or not _are_consecutive(solid) or len(solid) > 2
    many = many and len(loose) > max(_THIN_CLASSES, 2 * len(solid))
    return (around and _exceed_noise(seen, loose, 2)) or (
        _exceed_noise(seen, loose, 4) and (many or _are_smoothed(seen, loose, solid, close))
    )


def _has_areas(one: ValueStats) -> bool:
    return one.pixels - one.edge >= _MIN_INNER * one.pixels


def _is_step_off(value: int, others: list[int], seen: Mapping[int, ValueStats], of_colors: bool) -> bool:
    """Return whether a more frequent value is within two steps and the two never have areas in one mask."""
    frequent = others[: others.index(value)]
    near = _distances([value], frequent, of_colors)[0] <= 2
    return any(
        seen[value].inside.isdisjoint(seen[other].inside) for other, close in zip(frequent, near, strict=True) if close
    )


def _most_frequent(
    seen: Mapping[int, ValueStats],
    values: list[int],
    of_colors: bool,
    radius: int = 2,
    share: float = 1.0,
) -> list[int]:
    """Return the values, the most frequent first, without those near a much more frequent one."""
    found: list[int] = []
    for value in sorted(values, key=lambda value: -seen[value].pixels):
        near = _distances([value], found, of_colors)[0] <= radius
        if not any(
            close and seen[value].pixels <= share * seen[other].pixels for other, close in zip(found, near, strict=True)
        ):
            found.append(value)
    return found


def _are_consecutive(values: Collection[int]) -> bool:
    """Return whether ids are consecutive from 0 or 1 on, a top value aside, rather than spread like gray levels."""
    numbers = [value for value in values if not any(0 <= top - value <= 2 for top in TOPS)]
    return not numbers or max(numbers) <= 4 * len(numbers) + 10


def _exceed_noise(seen: Mapping[int, ValueStats], loose: list[int], times: int) -> bool:
    """Return whether some value is far more frequent than most of these, unlike in noise or stripes of all values."""
    shares = sorted(seen[value].pixels for value in loose)
    return max(one.pixels for one in seen.values()) >= times * shares[len(shares) // 2]


def _are_smoothed(seen: Mapping[int, ValueStats], loose: list[int], solid: list[int], close: bool) -> bool:
    """Return whether values are between their neighbors' because borders were smoothed, unlike thin classes.

    Smoothing leaves no sharp border, thin classes leave most; and no dataset has a dozen thin classes that are
    between their neighbors' values everywhere.
    """
    between = [value for value in loose if seen[value].soft >= seen[value].pixels / 2]
    if not close and len(between) > max(_THIN_CLASSES, len(solid)):
        return True
    soft = sum(seen[value].soft for value in between)
    sharp = max((seen[value].sharp for value in between), default=0)
    least = 0.1 if not close else 0.5 if len(between) > 1 else 0.9
    return soft > 0 and soft >= least * (soft + sharp)


def _snap(seen: Mapping[int, ValueStats], intended: list[int], artifacts: list[int], of_colors: bool) -> int:
    """Return the largest distance at which artifacts belong to the nearest intended value; 0 where it is ambiguous."""
    gap = _gap(intended, of_colors)
    if len(intended) < 2 or gap < 2 * _WIDE_GAP:
        return 0
    distances = _distances(artifacts, intended, of_colors)  # (artifacts, intended)
    nearest, near = distances.argmin(axis=1), distances.min(axis=1)
    for value, place, distance in zip(artifacts, nearest, near, strict=True):
        if distance <= gap / 4 and seen[value].pixels > seen[intended[place]].pixels / 4:
            return 0  # two kinds of masks, or a class of its own
    far = [seen[value].pixels for value, d in zip(artifacts, near, strict=True) if d > gap / 4]
    if len(intended) == 2 and gap < 4 * _WIDE_GAP:
        return 0
    if not far:
        return (gap + 1) // 2 if len(intended) == 2 else int(near.max(initial=0))
    # between three values, a smoothed border of the outer two equals the middle one
    total = sum(one.pixels for one in seen.values())
    peak = len(far) < 3 or max(far) > sum(far) / 2
    if len(intended) > 2 or peak or sum(far) > 0.4 * total or near.max() > (gap + 1) // 2:
        return 0
    return (gap + 1) // 2


def _gap(values: list[int], of_colors: bool) -> int:
    """Return the smallest distance between two of the values; 2**31 for a single one."""
    apart = _distances(values, values, of_colors)  # (values, values)
    np.fill_diagonal(apart, 2**31)
    return int(apart.min(initial=2**31))


def _distances(values: list[int], others: list[int], of_colors: bool) -> np.ndarray:
    one, other = (np.array(each, dtype=np.int64) for each in (values, others))
    return channel_distances(one, other, of_colors)

"""A street that never was: scenes drawn from a number, with exact masks, for the demo and for tests.

A pinhole camera looks along a street of houses with trees, lamps, signs, people and cars, in sun or under clouds.
The same index, seed and size give the same scene. Ours; no data of others went into it.
"""

import numpy as np

from hrseg.data.street.camera import Street
from hrseg.data.street.photograph import photograph
from hrseg.data.street.setting import ground, houses, shadow_of_houses, sky
from hrseg.data.street.things import Brush, lamp, person, sign, traffic, tree
from hrseg.errors import ConfigError

_FARTHEST = 10.0
"""Metres to the last thing on the pavement: farther ones would be smaller than a small network can see."""


def scene(
    index: int, size: tuple[int, int] = (128, 256), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street.

    Args:
        index: Which one; each index is another street.
        size: (height, width), at least 16 x 16.
        seed: Another seed, another town.

    Returns:
        uint8 RGB image and its uint8 mask in the ids of table "synthetic".

    Raises:
        ConfigError: The size is too small to hold a street.

    Shape:
        image (H, W, 3), mask (H, W)

    Example:
        >>> image, mask = scene(3)
        >>> image.shape, mask.shape, bool((scene(3)[0] == image).all())
        ((128, 256, 3), (128, 256), True)
    """
    if min(size) < 16:
        raise ConfigError(
            f"A scene of {size[0]} x {size[1]} pixels is too small; use at least 16 x 16."
        )
    return _drawn(Street(np.random.RandomState([seed & 0x7FFFFFFF, index]), size))


def _drawn(street: Street) -> tuple[np.ndarray, np.ndarray]:
    sky(street)
    ground(street)
    for left_right in (-1, 1):
        houses(street, left_right)
    if street.sunny:
        shadow_of_houses(street)
    things: list[tuple[float, Brush, float]] = list(traffic(street))
    kinds: tuple[tuple[Brush, int, float], ...] = (
        *((tree, 5, 9.0), (lamp, 4, 7.0)),
        *((sign, 4, 6.0), (person, 6, 4.0)),
    )
    for paint, most, nearest in kinds:  # at most so many, no nearer than so many metres
        for _ in range(street.rng.randint(1, most + 1)):
            z = nearest * (_FARTHEST / nearest) ** street.rng.uniform(0, 1)
            things.append((z, paint, float(street.rng.choice((-1, 1)))))
    for z, brush, side in sorted(things, key=lambda thing: -thing[0]):
        brush(street, z, side)
    return photograph(street), np.array(street.mask)

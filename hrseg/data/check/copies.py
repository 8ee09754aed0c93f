"""Images that come twice: exactly, by their decoded pixels, or nearly, by a thumbnail of 16 x 16 greys.

A copy of a training image in the validation set makes the score too good, whatever its file is called.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from hrseg.data.check.scan import THUMB, Look

BITS = 0.06
"""Share of the brighter-than-the-left-neighbour bits in which near copies may differ."""
STEPS = 4.0
"""Mean difference of their thumbnails, of 255."""
_ROWS = 256  # compared with everything at once, so that memory stays small

Couple = tuple[int, int]


def exact(looks: Sequence[Look]) -> list[list[int]]:
    """Return groups of positions whose images have the same pixels."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, look in enumerate(looks):
        if look.digest:
            groups[look.digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def near(looks: Sequence[Look]) -> list[Couple]:
    """Return couples of positions whose images look alike without being equal.

    Images without structure (nearly one grey) are left out: they all look alike.
    """
    known = [i for i, look in enumerate(looks) if look.thumb]
    if len(known) < 2:
        return []
    thumbs = np.array([np.frombuffer(looks[i].thumb, np.uint8) for i in known]).astype(np.float32)
    plain = thumbs.std(axis=1) < 4
    grid = thumbs.reshape(-1, THUMB, THUMB)
    bits = (grid[:, :, 1:] > grid[:, :, :-1]).reshape(len(known), -1).astype(np.float32)
    ones = bits.sum(axis=1)
    couples = []
    for start in range(0, len(known), _ROWS):
        part = slice(start, start + _ROWS)
        # differing bits of each two, as one matrix product: a + b - 2ab
        differ = ones[part, None] + ones[None] - 2 * bits[part] @ bits.T
        rows, columns = np.nonzero(differ <= BITS * bits.shape[1])
        rows = rows + start
        later = columns > rows
        for i, j in zip(rows[later].tolist(), columns[later].tolist(), strict=True):
            if plain[i] or plain[j]:
                continue
            first, second = looks[known[i]], looks[known[j]]
            if first.digest != second.digest and np.abs(thumbs[i] - thumbs[j]).mean() <= STEPS:
                couples.append((known[i], known[j]))
    return couples


def couples_of(groups: Sequence[Sequence[int]]) -> Iterator[Couple]:
    """Couple the first of each group with the others."""
    for group in groups:
        for other in group[1:]:
            yield group[0], other


def joined(count: int, couples: Sequence[Couple]) -> list[int]:
    """Return for each of `count` images the first image that it hangs together with.

    Example:
        >>> joined(4, [(0, 2), (2, 3)])
        [0, 1, 0, 0]
    """
    roots = list(range(count))

    def root(index: int) -> int:
        while roots[index] != index:
            roots[index] = roots[roots[index]]
            index = roots[index]
        return index

    for i, j in couples:
        low, high = sorted((root(i), root(j)))
        roots[high] = low
    return [root(index) for index in range(count)]

"""Groups of images that one split must hold whole: the folder of a patient or flight, the frames of a video, copies.

A copy of a training image in the validation set makes the score too good, whatever its file is called. Images are
compared exactly, by their decoded pixels, and nearly, by a thumbnail of 16 x 16 grays.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from hrseg.data.check.scan import THUMB, Look
from hrseg.errors import ConfigError, DataError

Item = TypeVar("Item", bound=Hashable)


def group_images(names: Mapping[Item, str], by: str) -> dict[str, list[Item]]:
    """Group images by their place below the root.

    Args:
        names: Image → its path below the root, without suffix.
        by: "none": each by itself; "folder": those of one folder; else a regular expression whose first group, or
            whole match, names the group.

    Raises:
        ConfigError: No regular expression.
        DataError: It does not match every image.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise ConfigError(
            f"--by '{by}' is no regular expression: {error}. Use none, folder, or one such as '^(.*)_[0-9]+$'."
        ) from error
    lost = []
    for item, name in names.items():
        if by == "none":
            groups[name].append(item)
        elif by == "folder":
            groups[name.rpartition("/")[0]].append(item)
        elif match := pattern.search(name):
            key = next((part for part in match.groups() if part is not None), match[0])
            groups[key].append(item)
        else:
            lost.append(name)
    if lost:
        raise DataError(
            f"--by '{by}' matches {len(names) - len(lost)} of {len(names)} images, but not {', '.join(lost[:3])}. "
            "Change it so that every image has a group; it is searched in the path below the root, without suffix."
        )
    return dict(groups)


def too_few(groups: Mapping[str, Sequence[object]], by: str, splits: Sequence[str]) -> DataError:
    """Return the error for groups that are fewer than the splits."""
    images = sum(map(len, groups.values()))
    return DataError(
        f"--by '{by}' makes {len(groups)} group{'s' * (len(groups) != 1)} of {images} image{'s' * (images != 1)}, too "
        f"few for {', '.join(splits)}. Choose another --by."
    )


def telling_folders(names: Mapping[Item, str]) -> list[str]:
    """Return the folders of images where they look like patients, flights or films; [] where they do not.

    There are three at least, most hold several images, and none holds more than half of all.

    Example:
        >>> telling_folders({i: f"p{i % 4}/{i}" for i in range(12)})
        ['p0', 'p1', 'p2', 'p3']
        >>> telling_folders({i: f"images/{i}" for i in range(12)})
        []
    """
    folders = group_images(names, "folder")
    several = sum(len(inside) > 1 for inside in folders.values())
    largest = max(map(len, folders.values()), default=0)
    apart = len(folders) >= 3 and 2 * several > len(folders) and 2 * largest <= len(names)
    return sorted(folders) if apart else []


BITS = 0.06
"""Share of the brighter-than-the-left-neighbor bits in which near copies may differ."""
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

    Images without structure (nearly one gray) are left out: they all look alike.
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


def pairs_of(groups: Sequence[Sequence[int]]) -> Iterator[Couple]:
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

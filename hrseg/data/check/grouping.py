"""Groups of images that must stay in one split: folders of one patient or flight, and exact or near duplicates.

A copy of a training image in the validation set makes the score too good, whatever its file is called. Exact
duplicates have equal decoded pixels, near duplicates similar thumbnails of 16 x 16 grays.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from hrseg.data.check.scan import THUMB, ScannedPair
from hrseg.errors import ConfigError, DataError

Item = TypeVar("Item", bound=Hashable)


def group_images(names: Mapping[Item, str], by: str) -> dict[str, list[Item]]:
    """Group images by their place below the root.

    Args:
        names: Image → its path below the root, without suffix.
        by: "none": no grouping; "folder": by folder; else a regular expression whose first group, or whole match,
            names the group.

    Raises:
        ConfigError: `by` is no regular expression.
        DataError: It does not match every image.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise ConfigError(
            f"--by '{by}' is no regular expression: {error}. Use none, folder, or one such as '^(.*)_[0-9]+$'."
        ) from error
    missed = []
    for item, name in names.items():
        if by == "none":
            groups[name].append(item)
        elif by == "folder":
            groups[name.rpartition("/")[0]].append(item)
        elif match := pattern.search(name):
            key = next(
                (part for part in match.groups() if part is not None),
                match[0],
            )
            groups[key].append(item)
        else:
            missed.append(name)
    if missed:
        raise DataError(
            f"--by '{by}' matches {len(names) - len(missed)} of {len(names)} images, but not {', '.join(missed[:3])}. "
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


def group_folders(names: Mapping[Item, str]) -> list[str]:
    """Return the folders that seem to hold one patient, flight or film each; [] where they do not.

    There are at least three, most hold several images, and none holds more than half of all.

    Example:
        >>> group_folders({i: f"p{i % 4}/{i}" for i in range(12)})
        ['p0', 'p1', 'p2', 'p3']
        >>> group_folders({i: f"images/{i}" for i in range(12)})
        []
    """
    folders = group_images(names, "folder")
    several = sum(len(inside) > 1 for inside in folders.values())
    largest = max(map(len, folders.values()), default=0)
    apart = len(folders) >= 3 and 2 * several > len(folders) and 2 * largest <= len(names)
    return sorted(folders) if apart else []


def hash_fraction(text: str) -> float:
    """Return a number from 0 to 1 that depends on the text alone, to divide images the same way each time."""
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


MAX_DIFFERING_BITS = 0.06
"""Share of the brighter-than-the-left-neighbor bits in which near duplicates may differ."""
MAX_MEAN_DIFFERENCE = 4.0
"""Mean difference of their thumbnails, of 255."""
_ROWS = 256  # thumbnails compared with all others at once, so that memory stays small

IndexPair = tuple[int, int]


def exact_duplicates(scanned: Sequence[ScannedPair]) -> list[IndexPair]:
    """Return pairs of positions whose images have the same pixels: the first of a kind with each of the others."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, entry in enumerate(scanned):
        if entry.digest:
            groups[entry.digest].append(index)
    return linked_pairs(groups.values())


def near_duplicates(scanned: Sequence[ScannedPair]) -> list[IndexPair]:
    """Return pairs of positions whose images look alike without being equal; nearly uniform images are left out."""
    present = [i for i, entry in enumerate(scanned) if entry.thumb]
    if len(present) < 2:
        return []
    thumbs = np.array([np.frombuffer(scanned[i].thumb, np.uint8) for i in present]).astype(np.float32)
    plain = thumbs.std(axis=1) < 4  # nearly uniform: their bits are noise
    grid = thumbs.reshape(-1, THUMB, THUMB)  # (images, THUMB, THUMB)
    bits = (grid[:, :, 1:] > grid[:, :, :-1]).reshape(len(present), -1).astype(np.float32)
    ones = bits.sum(axis=1)  # (images,)
    found = []
    for start in range(0, len(present), _ROWS):
        part = slice(start, start + _ROWS)
        # differing bits of each two, as one matrix product: a + b - 2ab
        differ = ones[part, None] + ones[None] - 2 * bits[part] @ bits.T
        rows, columns = np.nonzero(differ <= MAX_DIFFERING_BITS * bits.shape[1])
        rows = rows + start
        later = columns > rows  # each pair once
        for i, j in zip(rows[later].tolist(), columns[later].tolist(), strict=True):
            if plain[i] or plain[j]:
                continue
            first, second = scanned[present[i]], scanned[present[j]]
            if first.digest != second.digest and np.abs(thumbs[i] - thumbs[j]).mean() <= MAX_MEAN_DIFFERENCE:
                found.append((present[i], present[j]))
    return found


def linked_pairs(groups: Iterable[Sequence[int]]) -> list[IndexPair]:
    """Return pairs that connect each group: its first member with each of the others."""
    return [(group[0], other) for group in groups for other in group[1:]]


def component_roots(count: int, index_pairs: Sequence[IndexPair]) -> list[int]:
    """Return, for each of `count` images, the first image of its connected component.

    Example:
        >>> component_roots(4, [(0, 2), (2, 3)])
        [0, 1, 0, 0]
    """
    roots = list(range(count))

    def root(index: int) -> int:
        while roots[index] != index:
            roots[index] = roots[roots[index]]  # path halving keeps later searches short
            index = roots[index]
        return index

    for i, j in index_pairs:
        low, high = sorted((root(i), root(j)))
        roots[high] = low
    return [root(index) for index in range(count)]

"""Groups of images that one split must hold whole: the folder of a patient or flight, the frames of a video."""

import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

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

"""Reader of binary masks, one for each class or object of an image.

Layouts: masks/CLASS/NAME.png, NAME_CLASS.png, NAME_1.png, NAME_2.png … and masks/NAME/….png beside images/, and
ID/images/ID.png with ID/masks/*.png (Data Science Bowl 2018). They have no painting order, so smaller objects cover
larger ones.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from hrseg.convert.attributes import OBJECT, UNNAMED
from hrseg.convert.base import Object, Record, Source
from hrseg.convert.classes import SourceClasses, standard_split
from hrseg.data.layouts.pairs import name_of, visible_images
from hrseg.errors import DataError
from hrseg.imaging import image_size, read_mask
from hrseg.imaging.polygons import Patch, Size, place

_IMAGES = ("images", "image", "imgs", "img", "jpegimages")
_MASKS = ("masks", "mask", "annotations", "labels", "gt", "ground_truth")
_NOT_CLASS = re.compile(r"(?:^|(?<=[_\W]))(?:masks?|labels?|seg|gt|\d+)(?=[_\W]|$)|^[_\W]+|[_\W]+$")
"""Parts of a name beside the class."""
Found = dict[tuple[str, str], tuple[Path, list[tuple[str, Path]]]]
"""(split, name) → image, and class and file of each of its masks."""


def recognizes(path: Path) -> bool:
    """Return whether images have several binary masks each, or masks are in folders of classes."""
    found, alone = _find(path, None) if path.is_dir() else ({}, 0)
    masks = [mask for _, parts in found.values() for mask in parts]
    largest = max((len(parts) for _, parts in found.values()), default=0)
    if alone > len(masks) or (largest < 2 and len({label for label, _ in masks}) < 2):
        return False  # one mask of one kind for each image is no more than a dataset of pairs
    try:
        return all(_pixels(mask) is not None for _, mask in masks[:8])
    except (DataError, ValueError):
        return False


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the folder with images/ and masks/, or with a folder for each image."""
    found, alone = _find(path, images)
    if not found:
        raise DataError(
            f"No binary masks in {path} that belong to images. Known are masks/CLASS/NAME.png, NAME_CLASS.png beside "
            "images/, and ID/images with ID/masks; name the folder of the images with --images."
        )
    source = Source(order="area")
    source.skipped["masks without an image"] = alone
    for (split, name), (image, masks) in sorted(found.items()):
        objects = [Object(label, partial(_draw_mask, mask), mask.name) for label, mask in masks]
        source.records.append(Record(name, image, f"image '{name}'", split, objects=objects))
    source.add_labels(classes.names if classes else ())
    source.notes = (UNNAMED,) * (OBJECT in source.classes)
    return source


def _find(path: Path, images: Path | None) -> tuple[Found, int]:
    """Return images with their masks, and the number of masks that belong to none."""
    found = _find_per_image(path)
    if found:
        return found, 0
    alone = 0
    for root in (path, *(p for p in sorted(path.glob("*")) if standard_split(p.name))):
        folders = {p.name.lower(): p for p in sorted(root.glob("*")) if p.is_dir()}
        masks, photos = (
            next((folders[name] for name in names if name in folders), root) for names in (_MASKS, _IMAGES)
        )
        photos = images or photos
        if photos != root and masks == root:
            continue
        split = "" if root == path else standard_split(root.name)
        below = "*" if photos == root else "**/*"
        known = {name_of(image, photos): image for image in visible_images(photos, below)}
        if masks == photos:  # all in one folder: what belongs to another image is a mask
            known = {n: image for n, image in known.items() if not _image_and_class(n, known)[0]}
        found |= {(split, name): (image, []) for name, image in known.items()}
        for mask in visible_images(masks, "*" if masks == root else "**/*"):
            if mask in known.values():
                continue
            name, label = _image_and_class(name_of(mask, masks), known)
            if name:
                found[split, name][1].append((label, mask))
            alone += not name
    return (found if any(parts for _, parts in found.values()) else {}), alone


def _find_per_image(path: Path) -> Found:
    """Return ID/images/ID.png with ID/masks/*.png."""
    found: Found = {}
    for folder in sorted([*path.glob("*/masks"), *path.glob("*/*/masks")]):
        name = folder.parent.name
        image = visible_images(folder.parent / "images", "*")
        if len(image) == 1 and image[0].stem == name:
            split = standard_split(folder.parent.parent.name.rpartition("_")[2])
            masks = [(OBJECT, mask) for mask in visible_images(folder, "*")]
            found[split, name] = (image[0], masks)
    return found


def _image_and_class(name: str, images: Mapping[str, Path]) -> tuple[str, str]:
    """Return the image and the class in a mask's name; empty texts where there is no image.

    Example:
        >>> _image_and_class("car/a", {"a": Path("a.jpg")}), _image_and_class("a_mask_car_1", {"a": Path("a.jpg")})
        (('a', 'car'), ('a', 'car'))
    """
    parts = name.split("/")
    for index, part in enumerate(parts[:-1]):
        rest = "/".join(parts[:index] + parts[index + 1 :])
        image = rest if rest in images else re.sub(r"[-_. ]?mask$", "", rest)
        if image in images and not standard_split(part):
            return image, part
    for end in range(len(name) - 1, 0, -1):
        if name[end] in "/_-. " and name[:end] in images:
            return name[:end], _NOT_CLASS.sub("", _NOT_CLASS.sub("", name[end:])) or OBJECT
    return "", ""


def _pixels(file: Path) -> np.ndarray | None:
    """Return where a mask is set; None where it has more than two values."""
    values = read_mask(file)
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            return None
        values = values[..., 0]
    if file.suffix.lower() in (".jpg", ".jpeg") and values.max() > 1:
        return values > 127  # JPEG spreads the two values
    used = np.unique(values)
    return values != 0 if len(used) == 1 or (len(used) == 2 and used[0] == 0) else None


def _draw_mask(file: Path, size: Size) -> Patch:
    if image_size(file) != size:
        raise ValueError(f"it has {image_size(file)} pixels (height, width), and its image {size}")
    pixels = _pixels(file)
    if pixels is None:
        raise ValueError("it has more values than 0 and one other, as a mask of one class would")
    return place(pixels, 0, 0, size)

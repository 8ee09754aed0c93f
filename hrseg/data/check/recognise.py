"""Which layout a tree lies in: a known dataset by its folders and file names, else one's own files.

A known dataset brings class names with it, so folders alone are not enough: file names or the root's name must
agree, or class 1 of somebody's own two would be called "wall".
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from hrseg.data.check.pairing import Found, pair_any
from hrseg.data.layouts import LAYOUTS, Pair, find_pairs
from hrseg.data.layouts.pairs import gather_lonely
from hrseg.errors import DataError, unknown_choice

SIGNS: dict[str, tuple[tuple[tuple[str, ...], ...], str]] = {
    "cityscapes": ((("leftImg8bit", "gt*"),), r"_leftImg8bit$"),
    "ade20k": ((("images/training", "annotations/training"),), r"^ADE_"),
    "pascal_context": (
        (
            ("JPEGImages", "SegmentationClassContext"),
            ("VOC2010/SegmentationClassContext",),
            ("JPEGImages", "trainval/*.mat"),
        ),
        r"^\d{4}_\d{6}$",
    ),
    "lip": ((("train_images", "train_segmentations"), ("TrainVal_images",)), r"^\d+_\d+$"),
    "coco_stuff": (
        (
            ("train/image", "train/label"),
            ("images/train20*", "annotations/train20*"),
            ("imageLists", "annotations"),
        ),
        r"^(COCO_\w+_)?\d{12}$",
    ),
    "voc2012": (
        (
            ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation/train.txt"),
            ("VOC2012/ImageSets/Segmentation/train.txt",),
        ),
        r"^\d{4}_\d{6}$",
    ),
    "camvid": ((("train", "trainannot"),), r"^(\d{4}(TP|E5|R0)_|Seq05VD_)"),
    "isaid": ((("img_dir/train", "ann_dir/train/*_instance_color_RGB.png"),), r"^P\d{4}"),
    "loveda": ((("img_dir/train", "ann_dir/train"),), r"(?!)"),
    "potsdam": ((("img_dir/train", "ann_dir/train"),), r"^\d_\d+_\d+_\d+_\d+_\d+$"),
    "vaihingen": ((("img_dir/train", "ann_dir/train"),), r"^area\d+_\d+"),
}
"""Layout → sets of places that must be there, any of them, and what its file names look like."""


@dataclass
class Tree:
    """A tree, recognised.

    Attributes:
        root: Its folder.
        layout: A row of LAYOUTS; "folder" for one's own files.
        found: Its pairs, and what has no partner.
        similar: Known layouts that it lies like without being one.
        plain: Whether data.layout and data.root alone give these pairs.
    """

    root: Path
    layout: str
    found: Found
    similar: tuple[str, ...] = ()
    plain: bool = True
    splits: dict[str, list[Pair]] = field(init=False)

    def __post_init__(self) -> None:
        self.splits = self.found.splits


def recognise(root: Path, layout: str | None = None) -> Tree:
    """Find out how a tree lies, and pair its files.

    Args:
        root: Its folder.
        layout: A row of LAYOUTS, where somebody knows.

    Raises:
        DataError: No such folder or layout, or nothing that could be paired.
    """
    if not root.is_dir():
        raise DataError(f"Folder {root} does not exist. Give the folder of a dataset.")
    if layout is not None and layout not in LAYOUTS:
        raise DataError(unknown_choice("layout", layout, LAYOUTS))
    if layout not in (None, "folder"):
        return Tree(root, layout, known(root, str(layout)))
    similar = []
    for name in SIGNS if layout is None else ():
        if not _lies_like(root, name):
            continue
        try:
            found = known(root, name)
        except DataError:
            continue
        if _called_like(root, name, found):
            return Tree(root, name, found)
        similar.append(name)
    return own(root, tuple(similar))


def own(root: Path, similar: tuple[str, ...] = ()) -> Tree:
    """Take a tree as one's own images and masks.

    Raises:
        DataError: No image, or no mask.
    """
    found = pair_any(root)
    if not any(pair.mask for pairs in found.splits.values() for pair in pairs):
        raise DataError(_nothing(root, found))
    return Tree(root, "folder", found, similar, plain=_is_plain(root, found))


def known(root: Path, layout: str) -> Found:
    """Pair a known layout, listing whatever has no partner.

    Raises:
        DataError: It has no split.
    """
    found, first = Found(), None
    for split in _splits(layout, root):
        with gather_lonely() as lonely:
            try:
                pairs = find_pairs(layout, root, split)
            except DataError as error:
                first = first or error
                continue
        if pairs:
            found.splits[split] = pairs
        for names, kind, place, _ in lonely:
            paths = [place / name for name in names]
            (found.masks_alone if kind == "mask" else found.images_alone).extend(paths)
    if not found.splits:
        raise first or DataError(f"{root} holds nothing of layout '{layout}'. Check the folder.")
    return found


def _splits(layout: str, root: Path) -> tuple[str, ...]:
    if layout == "folder":
        return ("train", "val", "test")
    names = tuple(name for name in LAYOUTS[layout].splits or () if name in ("train", "val", "test"))
    return names + (
        ("train_extra",) if (root / "gtCoarse").is_dir() and layout == "cityscapes" else ()
    )


def _lies_like(root: Path, layout: str) -> bool:
    return any(all(any(root.glob(place)) for place in places) for places in SIGNS[layout][0])


def _called_like(root: Path, layout: str, found: Found) -> bool:
    parts = "/".join(root.resolve().parts[-2:]).lower()
    if layout in parts or layout.partition("_")[0] in re.split(r"[^a-z0-9]", parts):
        return True
    stems = [pair.image.stem for pairs in found.splits.values() for pair in pairs]
    fitting = sum(bool(re.search(SIGNS[layout][1], stem)) for stem in stems)
    return fitting > len(stems) / 2


def _is_plain(root: Path, found: Found) -> bool:
    """Say whether layout "folder" finds the same pairs in train and val by itself."""
    if not {"train", "val"} <= set(found.splits) or found.images_alone or found.masks_alone:
        return False
    try:
        for split, pairs in found.splits.items():
            theirs = {(pair.image, pair.mask) for pair in find_pairs("folder", root, split)}
            if theirs != {(pair.image, pair.mask) for pair in pairs}:
                return False
    except DataError:
        return False
    return True


def _nothing(root: Path, found: Found) -> str:
    alone = len(found.images_alone)
    if alone:
        return (
            f"{root} holds {alone:,} images and no mask that belongs to one, such as "
            f"{found.images_alone[0].relative_to(root)}. A mask is a file of the same name in a folder called masks, "
            "labels or annotations, or NAME_mask.png beside the image. Polygons become masks with: hrseg data convert"
        )
    if found.masks_alone:
        return (
            f"{root} holds {len(found.masks_alone):,} masks and no image that belongs to one, such as "
            f"{found.masks_alone[0].relative_to(root)}. Put the images into a folder called images."
        )
    return f"{root} holds no image. Give the folder that holds both images and masks; unpack archives first."

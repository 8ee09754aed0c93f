"""Recognition of a dataset's layout: a known dataset by its folders and file names, else layout "folder".

A known dataset brings class names with it, so folders alone are not enough: file names or the root's name must
agree, or class 1 of a private two-class dataset would be called "wall".
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hrseg.data.check.findings import counted
from hrseg.data.check.pairing import Pairing, pair_any
from hrseg.data.layouts import LAYOUTS, Pair, find_pairs
from hrseg.data.layouts.pairs import collect_unpaired
from hrseg.errors import DataError, unknown_choice

SIGNS: dict[str, tuple[tuple[tuple[str, ...], ...], str]] = {
    "cityscapes": ((("leftImg8bit", "gt*"), ("*/leftImg8bit", "*/gt*")), r"_leftImg8bit$"),
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
"""Layout → sets of globs, one of which must match completely, and a pattern of its file names."""


@dataclass
class Tree:
    """A folder and its recognized layout.

    Attributes:
        root: The folder.
        layout: A row of LAYOUTS; "folder" for private data.
        pairing: Its pairs, and files without a partner.
        similar: Known layouts with the same folders but other file names.
        plain: Whether data.layout and data.root alone (and the pattern) give these pairs.
        masks: Pattern of the masks, as given by the user.
        unmasked: Class of the images without a mask, as given by the user.
    """

    root: Path
    layout: str
    pairing: Pairing
    similar: tuple[str, ...] = ()
    plain: bool = True
    masks: str | None = None
    unmasked: str | None = None

    @property
    def splits(self) -> dict[str, list[Pair]]:
        """Split → its pairs."""
        return self.pairing.splits


def recognize(root: Path, layout: str | None = None, masks: str | None = None, unmasked: str | None = None) -> Tree:
    """Recognize the layout of a folder and pair its files.

    A pattern of masks (see `mask_of`) or a class of the images without a mask implies layout "folder".

    Raises:
        ConfigError: The pattern cannot be used.
        DataError: No such folder or layout, or nothing that could be paired.
    """
    if not root.is_dir():
        raise DataError(f"Folder {root} does not exist. Give the folder of a dataset.")
    if layout is not None and layout not in LAYOUTS:
        raise DataError(unknown_choice("layout", layout, LAYOUTS))
    as_folder = layout == "folder" or masks is not None or unmasked is not None
    if layout is not None and not as_folder:
        found = _pair_known(root, layout)
        return Tree(root, layout, found, plain=_is_complete(found))
    similar = []
    for name in SIGNS if not as_folder else ():
        if not _has_folders_of(root, name):
            continue
        try:
            found = _pair_known(root, name)
        except DataError:
            continue
        if _is_named_like(root, name, found):
            return Tree(root, name, found, plain=_is_complete(found))
        similar.append(name)
    return own_files(root, tuple(similar), masks, unmasked)


def own_files(root: Path, similar: tuple[str, ...] = (), masks: str | None = None, unmasked: str | None = None) -> Tree:
    """Pair a folder as layout "folder".

    Raises:
        DataError: No image, or no mask.
    """
    found = pair_any(root, masks)
    if not any(pair.mask for pairs in found.splits.values() for pair in pairs):
        raise DataError(_no_pairs_text(root, found))
    if unmasked is not None:
        found.add_bare(root)
    plain = _is_plain(root, found, masks, unmasked is not None)
    return Tree(root, "folder", found, similar, plain, masks, unmasked)


def _pair_known(root: Path, layout: str) -> Pairing:
    """Pair a known layout, with the files that have no partner.

    Raises:
        DataError: It has no split.
    """
    found, first = Pairing(), None
    for split in _splits(layout, root):
        with collect_unpaired() as unpaired:
            try:
                pairs = find_pairs(layout, root, split)
            except DataError as error:
                first = first or error
                continue
        if pairs:
            found.splits[split] = pairs
        for names, kind, place, _ in unpaired:
            paths = [place / name for name in names]
            (found.masks_alone if kind == "mask" else found.images_alone).extend(paths)
    if not found.splits:
        raise first or DataError(f"{root} holds nothing of layout '{layout}'. Check the folder.")
    return found


def _splits(layout: str, root: Path) -> list[str]:
    known = ("train", "val", "test")
    if layout == "folder":
        return list(known)
    splits = [split for split in LAYOUTS[layout].splits or () if split in known]
    coarse = layout == "cityscapes" and (root / "gtCoarse").is_dir()
    return splits + ["train_extra"] * coarse


def _has_folders_of(root: Path, layout: str) -> bool:
    return any(all(any(root.glob(place)) for place in places) for places in SIGNS[layout][0])


def _is_named_like(root: Path, layout: str, found: Pairing) -> bool:
    parts = "/".join(root.resolve().parts[-2:]).lower()
    if layout in parts or layout.partition("_")[0] in re.split(r"[^a-z0-9]", parts):
        return True
    stems = [pair.image.stem for pairs in found.splits.values() for pair in pairs]
    fitting = sum(bool(re.search(SIGNS[layout][1], stem)) for stem in stems)
    return fitting > len(stems) / 2


def _is_complete(found: Pairing) -> bool:
    """Return whether train and val are there and all files have a partner."""
    return {"train", "val"} <= set(found.splits) and not found.images_alone + found.masks_alone


def _is_plain(root: Path, found: Pairing, masks: str | None, bare: bool) -> bool:
    """Return whether layout "folder" finds the same pairs in all splits by itself."""
    if not _is_complete(found):
        return False
    try:
        for split, pairs in found.splits.items():
            theirs = find_pairs("folder", root, split, masks=masks, bare=bare)
            if {pair[:2] for pair in theirs} != {pair[:2] for pair in pairs}:
                return False
    except DataError:
        return False
    return True


def _no_pairs_text(root: Path, found: Pairing) -> str:
    images, masks = found.images_alone, found.masks_alone
    notes = f" {' '.join(found.notes)}" if found.notes else ""
    if images and masks:
        image, mask = (paths[0].relative_to(root).as_posix() for paths in (images, masks))
        pattern = Path(mask).with_name(f"{{stem}}{masks[0].suffix}").as_posix()
        return (
            f"{root} holds {counted(len(images), 'image')} such as {image}, and {counted(len(masks), 'mask')} such as "
            f"{mask}, but no name of one fits a name of the other. Give them the same names, or a pattern of "
            f"the masks, for example --masks '{pattern}'.{notes}"
        )
    if images:
        return (
            f"{root} holds {counted(len(images), 'image')} and no mask that belongs to one, such as "
            f"{images[0].relative_to(root)}. A mask is a file of the same name in a folder called masks, "
            "labels or annotations, or NAME_mask.png beside the image; --masks takes a pattern of any other place. "
            f"Polygons become masks with: hrseg data convert.{notes}"
        )
    if masks:
        return (
            f"{root} holds {counted(len(masks), 'mask')} and no image that belongs to one, such as "
            f"{masks[0].relative_to(root)}. Put the images into a folder called images.{notes}"
        )
    return f"{root} holds no image. Give the folder that holds both images and masks; unpack archives first.{notes}"

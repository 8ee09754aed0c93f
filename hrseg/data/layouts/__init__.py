"""Folder layouts of datasets: from a root and a split to pairs of image and mask paths.

A layout is one function and one row of LAYOUTS. Only lists are opened here; images and masks are found and paired,
and files without a partner are reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hrseg.data.layouts.aerial import isaid, tiles
from hrseg.data.layouts.devkit import pascal_context, voc2012
from hrseg.data.layouts.own import folder
from hrseg.data.layouts.pairs import Pair
from hrseg.data.layouts.scenes import ade20k, coco_stuff, lip
from hrseg.data.layouts.streets import camvid, cityscapes
from hrseg.errors import ConfigError, DataError, unknown_choice
from hrseg.imaging.archives import ArchivedPath, archived_root, located

__all__ = ["LAYOUTS", "Layout", "Pair", "find_pairs"]


@dataclass(frozen=True)
class Layout:
    """One row of LAYOUTS.

    Attributes:
        find: (root, split) → pairs.
        table: Name of the label table; None where the user provides one.
        splits: Names of the splits; None allows any folder name.
    """

    find: Callable[[Path, str], list[Pair]]
    table: str | None
    splits: tuple[str, ...] | None


def find_pairs(
    layout: str,
    root: str | Path | None,
    split: str,
    *,
    masks: str | None = None,
    bare: bool = False,
) -> list[Pair]:
    """Find the images and masks of one split, in name order.

    Args:
        layout: A row of LAYOUTS.
        root: The dataset's folder; it may hold zip archives instead of their content, or be one.
        split: "train", "val", "test", or another split of the layout.
        masks: Pattern of the mask of an image, such as "masks/{stem}.jpg.png"; for layout "folder".
        bare: Whether images of layout "folder" may lack a mask.

    Raises:
        ConfigError: A pattern for another layout than "folder".
        DataError: Unknown layout or split, missing folder, empty split, or files without a partner.
    """
    if layout not in LAYOUTS:
        raise DataError(unknown_choice("layout", layout, LAYOUTS))
    row = LAYOUTS[layout]
    if row.splits is not None and split not in row.splits:
        raise DataError(
            f"Layout '{layout}' has no split '{split}'. Splits: {', '.join(row.splits)}. Set data.train_split, "
            "data.val_split or data.test_split."
        )
    if root is None:
        raise DataError(f"data.root is not set. Layout '{layout}' needs the folder of the dataset: data.root=PATH.")
    root = archived_root(Path(root).expanduser())
    if not root.is_dir():
        parent = next(folder for folder in root.absolute().parents if folder.is_dir())
        raise DataError(
            f"Dataset folder {root} does not exist (its nearest existing parent is {parent.resolve()}). Set data.root "
            "to the folder of the dataset."
        )
    if layout == "folder":
        found = folder(root, split, masks, bare)
    elif masks is not None:
        raise ConfigError(
            f"data.masks is '{masks}', but layout '{layout}' defines the places of its masks. Remove it, or set "
            "data.layout=folder."
        )
    else:
        found = row.find(root, split)
    pairs = sorted(found, key=lambda pair: pair.name)
    if not isinstance(root, ArchivedPath):
        return pairs
    return [p._replace(image=located(p.image), mask=p.mask and located(p.mask)) for p in pairs]


_SPLITS = ("train", "val", "test")
_COARSE = ("train_extra", "coarse_train", "coarse_val", "coarse")

LAYOUTS: dict[str, Layout] = {
    "cityscapes": Layout(cityscapes, "cityscapes", (*_SPLITS, "trainval", *_COARSE)),
    "ade20k": Layout(ade20k, "ade20k", _SPLITS),
    "pascal_context": Layout(pascal_context, "pascal_context_59", ("train", "val", "trainval")),
    "lip": Layout(lip, "lip", ("train", "val")),
    "coco_stuff": Layout(coco_stuff, "coco_stuff", ("train", "val")),
    "voc2012": Layout(voc2012, "voc2012", (*_SPLITS, "trainval", "trainaug")),
    "camvid": Layout(camvid, "camvid", (*_SPLITS, "trainval")),
    "loveda": Layout(tiles, "loveda", _SPLITS),
    "potsdam": Layout(tiles, "potsdam", _SPLITS),
    "vaihingen": Layout(tiles, "potsdam", _SPLITS),
    "isaid": Layout(isaid, "isaid", _SPLITS),
    "folder": Layout(folder, None, None),
}

"""Layouts of the VOC development kit: PASCAL VOC 2012 with its augmentation, and PASCAL-Context on VOC 2010."""

from pathlib import Path

from hrseg.data.layouts.pairs import Pair, listing, pair_by_list, read_list
from hrseg.errors import DataError

_IMAGE = "JPEGImages/{}.jpg"


def voc2012(root: Path, split: str) -> list[Pair]:
    """Pair JPEGImages with SegmentationClass by ImageSets/Segmentation/SPLIT.txt.

    "trainaug" is train and aug.txt (or trainaug.txt) with the masks of SegmentationClassAug, which are the
    10,582 images that mmsegmentation's converter makes of VOC and SBD. "test" has no masks.
    """
    root = _inner(root, "VOC2012")
    lists = root / "ImageSets" / "Segmentation"
    names = set(read_list(lists / f"{'train' if split == 'trainaug' else split}.txt", _UNPACK_VOC))
    masks = ["SegmentationClass/{}.png"]
    if split == "trainaug":
        more = next((f for f in (lists / "aug.txt", lists / "trainaug.txt") if f.is_file()), None)
        if more is None:
            raise DataError(
                f"Split 'trainaug' needs {lists}/aug.txt or trainaug.txt; there is {listing(lists)}. Make it from "
                "SBD, for example with mmsegmentation's voc_aug.py, or set data.train_split=train."
            )
        names |= set(read_list(more, _UNPACK_VOC))
        masks.append("SegmentationClassAug/{}.png")
    return pair_by_list(sorted(names), _IMAGE, [] if split == "test" else masks, root, _UNPACK_VOC)


def pascal_context(root: Path, split: str) -> list[Pair]:
    """Pair JPEGImages with SegmentationClassContext, or with the released trainval/*.mat of 459 ids.

    Splits are ImageSets/SegmentationContext/SPLIT.txt, or where that folder is missing ImageSets/Main/.
    """
    if split == "trainval":
        return [pair for part in ("train", "val") for pair in pascal_context(root, part)]
    root = _inner(root, "VOC2010")
    own = root / "ImageSets" / "SegmentationContext"
    names = read_list((own if own.is_dir() else own.parent / "Main") / f"{split}.txt", _GET_CONTEXT)
    masks = ["SegmentationClassContext/{}.png", "trainval/{}.mat"]
    return pair_by_list(names, _IMAGE, masks, root, _GET_CONTEXT)


def _inner(root: Path, year: str) -> Path:
    """Return the year's folder in VOCdevkit."""
    return root / year if (root / year).is_dir() else root


_UNPACK_VOC = "Unpack VOCtrainval_11-May-2012.tar there"
_GET_CONTEXT = (
    "Put VOC 2010 there, and either SegmentationClassContext/ with ImageSets/SegmentationContext/ as "
    "mmsegmentation's pascal_context.py writes them, or trainval/*.mat of the PASCAL-Context page"
)

"""Layouts of street scenes: Cityscapes and CamVid."""

from pathlib import Path

from hrseg.data.layouts.pairs import Pair, list_images, pair_by_stem, refuse_unpaired

_TOGETHER = {"trainval": ("train", "val"), "coarse": ("coarse_train", "train_extra")}
_UNPACK_CITYSCAPES = "Unpack leftImg8bit_trainvaltest.zip there"


def cityscapes(root: Path, split: str) -> list[Pair]:
    """Pair leftImg8bit/SPLIT/CITY/*_leftImg8bit.png with gtFine (gtCoarse for train_extra and coarse).

    `_labelIds.png` is preferred; where only `_labelTrainIds.png` exists the pair has that table. The
    split "test" has dummy masks on disk and gives none. "coarse" is train_extra and train, both with coarse
    masks; val stays out of it.
    """
    if split in _TOGETHER:
        return [pair for part in _TOGETHER[split] for pair in cityscapes(root, part)]
    coarse = split in ("train_extra", "coarse_train", "coarse_val")
    truth = "gtCoarse" if coarse else "gtFine"
    folder = split.removeprefix("coarse_")
    place = _inside(root, "leftImg8bit") / folder
    masks = _inside(root, truth)
    images = list_images(place, "*/*_leftImg8bit.*", root, _UNPACK_CITYSCAPES)
    pairs, lacking, met = [], [], set()
    for image in images:
        stem = image.stem.removesuffix("_leftImg8bit")
        place = masks / folder / image.parent.name
        ids = place / f"{stem}_{truth}_labelIds.png"
        train_ids = place / f"{stem}_{truth}_labelTrainIds.png"
        name = f"{image.parent.name}/{stem}"
        met.add(name)
        if split == "test":
            pairs.append(Pair(image, None, name))
        elif ids.is_file():
            pairs.append(Pair(image, ids, name))
        elif train_ids.is_file():
            pairs.append(Pair(image, train_ids, name, "cityscapes_trainids"))
        else:
            lacking.append(str(ids.relative_to(root)))
    archive = "gtCoarse.zip" if coarse else "gtFine_trainvaltest.zip"
    refuse_unpaired(lacking, "image", root, "mask", f"Unpack {archive} there")
    if split != "test":
        there = (masks / folder).glob(f"*/*_{truth}_label*Ids.png")
        names = {f"{mask.parent.name}/{mask.name.split(f'_{truth}_')[0]}" for mask in there}
        refuse_unpaired(names - met, "mask", masks, "image", _UNPACK_CITYSCAPES)
    return pairs


def _inside(root: Path, name: str) -> Path:
    """Return a folder below the root, or below the folder of the archive it was unpacked from."""
    place = root / name
    return place if place.is_dir() else next(iter(sorted(root.glob(f"*/{name}"))), place)


def camvid(root: Path, split: str) -> list[Pair]:
    """Pair train/ with trainannot/ (val/ with valannot/, test/ with testannot/), as in the SegNet tutorial.

    The split "trainval" is both.
    """
    if split in _TOGETHER:
        return [pair for part in _TOGETHER[split] for pair in camvid(root, part)]
    hint = f"It should hold {split}/ and {split}annot/"
    return pair_by_stem(list_images(root / split, "*", root, hint), root / f"{split}annot", root)

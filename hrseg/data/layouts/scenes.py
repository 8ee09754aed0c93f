"""Layouts of scenes and people: ADE20K, COCO-Stuff and LIP."""

from pathlib import Path

from hrseg.data.layouts.pairs import (
    Pair,
    list_images,
    listing,
    name_of,
    pair_by_list,
    pair_by_stem,
    pair_found,
    read_list,
    refuse_unpaired,
    visible_images,
)
from hrseg.errors import DataError


def ade20k(root: Path, split: str) -> list[Pair]:
    """Pair images/training (or validation) of ADEChallengeData2016 with annotations/.

    "test" is images/testing, or what release_test.zip unpacks to, release_test/testing; it has no masks.
    """
    if split == "test":
        places = [root / "images" / "testing", root / "release_test" / "testing"]
        place = places[not places[0].is_dir()]
        return [
            Pair(image, None, name_of(image, place))
            for image in list_images(place, "*", root, "Unpack release_test.zip there")
        ]
    folder = {"train": "training", "val": "validation"}[split]
    images = list_images(root / "images" / folder, "*", root, "Unpack ADEChallengeData2016.zip there")
    return pair_by_stem(images, root / "annotations" / folder, root)


def coco_stuff(root: Path, split: str) -> list[Pair]:
    """Pair COCO-Stuff in any of its published layouts.

    In this order: SPLIT/image with SPLIT/label, as the official HRNet lists; images/train2014 (test2014 is
    val; or train2017, val2017) with annotations/ of the same name, masks with or without _labelTrainIds; or
    the released 10k folder, imageLists/train.txt (test.txt is val) with images/ and annotations/*.mat.
    """
    if (root / split / "image").is_dir():
        images = list_images(root / split / "image", "*", root, _GET_COCO_STUFF)
        return pair_by_stem(images, root / split / "label", root)
    for year in {"train": ("train2014", "train2017"), "val": ("test2014", "val2017")}[split]:
        if (root / "images" / year).is_dir():
            return _by_annotations(root, year)
    listed = root / "imageLists" / {"train": "train.txt", "val": "test.txt"}[split]
    if listed.is_file():
        names = read_list(listed, _GET_COCO_STUFF)
        return pair_by_list(names, "images/{}.jpg", ["annotations/{}.mat"], root, "Unpack cocostuff-10k there again")
    raise DataError(
        f"{root} has no split '{split}' of COCO-Stuff: neither {split}/image/, images/{split}2014/ nor "
        f"imageLists/ is there; it holds {listing(root)}. {_GET_COCO_STUFF}, or set data.root."
    )


def _by_annotations(root: Path, year: str) -> list[Pair]:
    images = list_images(root / "images" / year, "*", root, _GET_COCO_STUFF)
    place = root / "annotations" / year
    masks: dict[str, Path] = {}
    for mask in visible_images(place, "*"):  # as published, or else renumbered by mmsegmentation
        stem = mask.stem.removesuffix("_labelTrainIds")
        if mask.stem == stem or stem not in masks:
            masks[stem] = mask
    found = {image: masks.get(image.stem) for image in images}
    refuse_unpaired(set(masks) - {i.stem for i in images}, "mask", place, "image", _GET_COCO_STUFF)
    return pair_found(found, root / "images" / year, f"Put their masks into {place}", False)


_GET_COCO_STUFF = "Unpack cocostuff-10k there"


def lip(root: Path, split: str) -> list[Pair]:
    """Pair SPLIT_images with SPLIT_segmentations, side by side or below LIP's TrainVal folders."""
    images = _first(root / f"{split}_images", root / "TrainVal_images" / f"{split}_images")
    masks = _first(
        root / f"{split}_segmentations",
        root / "TrainVal_parsing_annotations" / f"{split}_segmentations",
    )
    hint = "Unpack LIP's TrainVal_images.zip and TrainVal_parsing_annotations.zip there"
    return pair_by_stem(list_images(images, "*", root, hint), masks, root)


def _first(*places: Path) -> Path:
    return next((place for place in places if place.is_dir()), places[0])

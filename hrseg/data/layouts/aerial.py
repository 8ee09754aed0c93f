"""Layouts of aerial images as written by mmsegmentation's converters: LoveDA, Potsdam, Vaihingen, iSAID."""

from pathlib import Path

from hrseg.data.layouts.pairs import Pair, list_images, name_of, pair_by_stem, pair_found

_HINT = "Run mmsegmentation's converter of this dataset"


def tiles(root: Path, split: str) -> list[Pair]:
    """Pair img_dir/SPLIT with ann_dir/SPLIT; "test" may have no masks."""
    images = list_images(root / "img_dir" / split, "*", root, _HINT)
    masks = root / "ann_dir" / split
    if split == "test" and not masks.is_dir():
        return [Pair(image, None, name_of(image, images[0].parent)) for image in images]
    return pair_by_stem(images, masks, root)


def isaid(root: Path, split: str) -> list[Pair]:
    """Pair img_dir/SPLIT/NAME.png with ann_dir/SPLIT/NAME_instance_color_RGB.png."""
    images = list_images(root / "img_dir" / split, "*", root, _HINT)
    if split == "test":
        return [Pair(image, None, image.stem) for image in images]
    place = root / "ann_dir" / split
    masks = {image: place / f"{image.stem}_instance_color_RGB.png" for image in images}
    step = f"Put NAME_instance_color_RGB.png into {place}"
    return pair_found(masks, images[0].parent, step, bare=False)

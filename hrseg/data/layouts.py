"""How datasets lie on disk: a root and a split become pairs of image and mask paths.

A layout is one function and one row of LAYOUTS. Nothing is opened here; files are only found and paired, and
whatever has no partner is named.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hrseg.errors import DataError, unknown_choice
from hrseg.imaging import IMAGE_SUFFIXES


class Pair(NamedTuple):
    """One image and its mask.

    Attributes:
        image: Image file.
        mask: Mask file; None where a split has no masks.
        name: Stable short name, relative to the split and without suffix.
        table: Label table of this mask where it is not the layout's own.
    """

    image: Path
    mask: Path | None
    name: str
    table: str | None = None


@dataclass(frozen=True)
class Layout:
    """One row of LAYOUTS.

    Attributes:
        find: (root, split) → pairs.
        table: Name of the label table, or None where the user brings one.
        splits: Split names that are known; None means any folder name.
    """

    find: Callable[[Path, str], list[Pair]]
    table: str | None
    splits: tuple[str, ...] | None


def find_pairs(layout: str, root: str | Path | None, split: str) -> list[Pair]:
    """Find the images and masks of one split, in name order.

    Args:
        layout: A row of LAYOUTS.
        root: The dataset's folder.
        split: "train", "val", "test", or what else the layout knows.

    Raises:
        DataError: Unknown layout or split, missing folder, empty split, or files without a partner.
    """
    if layout not in LAYOUTS:
        raise DataError(unknown_choice("layout", layout, LAYOUTS))
    row = LAYOUTS[layout]
    if row.splits is not None and split not in row.splits:
        raise DataError(
            f"Layout '{layout}' has no split '{split}'. Splits: {', '.join(row.splits)}. Set data.train_split or "
            "data.val_split."
        )
    if root is None:
        raise DataError(
            f"data.root is not set. Layout '{layout}' needs the folder of the dataset: data.root=PATH."
        )
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(
            f"Dataset folder {root} does not exist{_nearest(root)}. Set data.root to the folder of the dataset."
        )
    return sorted(row.find(root, split), key=lambda pair: pair.name)


def cityscapes(root: Path, split: str) -> list[Pair]:
    """Pair leftImg8bit/SPLIT/CITY/*_leftImg8bit.png with gtFine (gtCoarse for train_extra and coarse).

    `_labelIds.png` is preferred; where only `_labelTrainIds.png` exists the pair says so by its table. The
    split "test" has dummy masks on disk and gives none.
    """
    if split == "trainval":
        return cityscapes(root, "train") + cityscapes(root, "val")
    coarse = split in ("train_extra", "coarse_train", "coarse_val")
    truth = "gtCoarse" if coarse else "gtFine"
    folder = split.removeprefix("coarse_")
    images = _images(root / "leftImg8bit" / folder, "*/*_leftImg8bit.*", root, _UNPACK_CITYSCAPES)
    pairs, lacking = [], []
    for image in images:
        stem = image.stem.removesuffix("_leftImg8bit")
        place = root / truth / folder / image.parent.name
        ids = place / f"{stem}_{truth}_labelIds.png"
        train_ids = place / f"{stem}_{truth}_labelTrainIds.png"
        name = f"{image.parent.name}/{stem}"
        if split == "test":
            pairs.append(Pair(image, None, name))
        elif ids.is_file():
            pairs.append(Pair(image, ids, name))
        elif train_ids.is_file():
            pairs.append(Pair(image, train_ids, name, "cityscapes_trainids"))
        else:
            lacking.append(str(ids.relative_to(root)))
    _refuse_lonely(lacking, f"{truth}_trainvaltest.zip or gtCoarse.zip", root)
    return pairs


def ade20k(root: Path, split: str) -> list[Pair]:
    """Pair images/training (or validation) of ADEChallengeData2016 with annotations/."""
    folder = {"train": "training", "val": "validation"}[split]
    images = _images(root / "images" / folder, "*", root, "Unpack ADEChallengeData2016.zip there")
    return _pair_by_stem(images, root / "annotations" / folder, root)


def camvid(root: Path, split: str) -> list[Pair]:
    """Pair train/ with trainannot/ (val/ with valannot/, test/ with testannot/), as in the SegNet tutorial."""
    hint = f"It should hold {split}/ and {split}annot/"
    return _pair_by_stem(_images(root / split, "*", root, hint), root / f"{split}annot", root)


def folder(root: Path, split: str) -> list[Pair]:
    """Pair a user's own files.

    In this order: a list file SPLIT.txt with "image mask" on each line (mask left out: none), or
    images/SPLIT/ with masks/SPLIT/, or SPLIT/images/ with SPLIT/masks/. Partners share a stem; subfolders
    are followed.
    """
    listed = root / f"{split}.txt"
    if listed.is_file():
        return _from_list(listed, root)
    for images, masks in (
        (root / "images" / split, root / "masks" / split),
        (root / split / "images", root / split / "masks"),
    ):
        if images.is_dir():
            found = _images(images, "**/*", root, "Put images there")
            if split == "test" and not masks.is_dir():
                return [Pair(image, None, _name(image, images)) for image in found]
            return _pair_by_stem(found, masks, root, images)
    raise DataError(
        f"{root} has no split '{split}': neither images/{split}/, {split}/images/ nor {split}.txt is there; it holds "
        f"{_listing(root)}. Make one of them, or set data.{split}_split."
    )


_UNPACK_CITYSCAPES = "Unpack leftImg8bit_trainvaltest.zip there"
LAYOUTS: dict[str, Layout] = {
    "cityscapes": Layout(
        cityscapes,
        "cityscapes",
        ("train", "val", "trainval", "test", "train_extra", "coarse_train", "coarse_val"),
    ),
    "ade20k": Layout(ade20k, "ade20k", ("train", "val")),
    "camvid": Layout(camvid, "camvid", ("train", "val", "test")),
    "folder": Layout(folder, None, None),
}


def _images(place: Path, pattern: str, root: Path, hint: str) -> list[Path]:
    found = sorted(p for p in place.glob(pattern) if p.suffix.lower() in IMAGE_SUFFIXES)
    found = [path for path in found if path.is_file() and not path.name.startswith(".")]
    if not found:
        missing = "" if place.is_dir() else ", which does not exist"
        raise DataError(
            f"No images in {place}{missing}; {root} holds {_listing(root)}. {hint}, or set data.root."
        )
    return found


def _pair_by_stem(
    images: list[Path], masks: Path, root: Path, base: Path | None = None
) -> list[Pair]:
    base = base or images[0].parent
    if not masks.is_dir():
        raise DataError(
            f"No mask folder {masks}; {root} holds {_listing(root)}. Put a mask there for each image in {base}."
        )
    available: dict[str, Path] = {}
    for path in sorted(masks.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if _name(path, masks) in available:
                raise DataError(
                    f"Two masks for one image: {available[_name(path, masks)]} and {path}. Keep one of them."
                )
            available[_name(path, masks)] = path
    names = [_name(image, base) for image in images]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"Two images in {base} are called {twice}. Give each its own name.")
    _refuse_lonely(
        [str(i) for i, n in zip(images, names, strict=True) if n not in available],
        f"masks of the same name in {masks}",
        root,
    )
    extra = sorted(set(available) - set(names))
    if extra:
        raise DataError(
            f"{len(extra)} masks in {masks} have no image, such as {', '.join(extra[:5])}. Put their images into {base}, or "
            "move the masks away."
        )
    return [Pair(i, available[n], n) for i, n in zip(images, names, strict=True)]


def _from_list(listed: Path, root: Path) -> list[Pair]:
    pairs = []
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        words = [w.strip() for w in (line.split("\t") if "\t" in line else line.split())]
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 2:
            raise DataError(
                f"{listed}, line {number} has {len(words)} words; it should be 'image mask'. Separate them by a tab "
                "where a path holds spaces."
            )
        paths = [root / word for word in words]
        for path in paths:
            if not path.is_file():
                raise DataError(
                    f"{listed}, line {number}: no such file {path}. Mend the line or add the file."
                )
        name = str(Path(words[0]).with_suffix(""))
        pairs.append(Pair(paths[0], paths[1] if len(paths) == 2 else None, name))
    if not pairs:
        raise DataError(f"{listed} lists no image. Write 'image mask' on each line.")
    return pairs


def _refuse_lonely(lacking: Iterable[str], source: str, root: Path) -> None:
    lacking = list(lacking)
    if lacking:
        shown = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
        raise DataError(
            f"{len(lacking)} images in {root} have no mask, such as {shown}. Add {source}, or move the images "
            "away."
        )


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).with_suffix("").as_posix()


def _listing(place: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in place.iterdir())
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "") if names else "nothing"


def _nearest(path: Path) -> str:
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    return f" (its nearest existing parent is {parent.resolve()})"

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
    split "test" has dummy masks on disk and gives none. "coarse" is train_extra and train, both with coarse
    masks; val stays out of it.
    """
    if split in _TOGETHER:
        return [pair for part in _TOGETHER[split] for pair in cityscapes(root, part)]
    coarse = split in ("train_extra", "coarse_train", "coarse_val")
    truth = "gtCoarse" if coarse else "gtFine"
    folder = split.removeprefix("coarse_")
    images = _images(root / "leftImg8bit" / folder, "*/*_leftImg8bit.*", root, _UNPACK_CITYSCAPES)
    pairs, lacking, met = [], [], set()
    for image in images:
        stem = image.stem.removesuffix("_leftImg8bit")
        place = root / truth / folder / image.parent.name
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
    _refuse_lonely(lacking, "image", root, "mask", f"Unpack {archive} there")
    if split != "test":
        masks = (root / truth / folder).glob(f"*/*_{truth}_label*Ids.png")
        names = {f"{mask.parent.name}/{mask.name.split(f'_{truth}_')[0]}" for mask in masks}
        _refuse_lonely(names - met, "mask", root / truth, "image", _UNPACK_CITYSCAPES)
    return pairs


def ade20k(root: Path, split: str) -> list[Pair]:
    """Pair images/training (or validation) of ADEChallengeData2016 with annotations/.

    "test" is images/testing, or what release_test.zip unpacks to, release_test/testing; it has no masks.
    """
    if split == "test":
        places = [root / "images" / "testing", root / "release_test" / "testing"]
        place = places[not places[0].is_dir()]
        return [
            Pair(image, None, _name(image, place))
            for image in _images(place, "*", root, "Unpack release_test.zip there")
        ]
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


_TOGETHER = {"trainval": ("train", "val"), "coarse": ("coarse_train", "train_extra")}
_UNPACK_CITYSCAPES = "Unpack leftImg8bit_trainvaltest.zip there"
LAYOUTS: dict[str, Layout] = {
    "cityscapes": Layout(
        cityscapes,
        "cityscapes",
        (
            *("train", "val", "trainval", "test"),
            *("train_extra", "coarse_train", "coarse_val", "coarse"),
        ),
    ),
    "ade20k": Layout(ade20k, "ade20k", ("train", "val", "test")),
    "camvid": Layout(camvid, "camvid", ("train", "val", "test")),
    "folder": Layout(folder, None, None),
}


def _images(place: Path, pattern: str, root: Path, hint: str) -> list[Path]:
    found = _visible(place, pattern)
    if not found:
        missing = "" if place.is_dir() else ", which does not exist"
        raise DataError(
            f"No images in {place}{missing}; {root} holds {_listing(root)}. {hint}, or set data.root."
        )
    return found


def _visible(place: Path, pattern: str) -> list[Path]:
    """Return the image files in name order, without hidden ones such as in .ipynb_checkpoints/."""
    return sorted(
        path
        for path in place.glob(pattern)
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
        and path.is_file()
    )


def _pair_by_stem(
    images: list[Path], masks: Path, root: Path, base: Path | None = None
) -> list[Pair]:
    base = base or images[0].parent
    if not masks.is_dir():
        raise DataError(
            f"No mask folder {masks}; {root} holds {_listing(root)}. Put a mask there for each image in {base}."
        )
    available: dict[str, Path] = {}
    for path in _visible(masks, "**/*"):
        twin = available.setdefault(_name(path, masks), path)
        if twin != path:
            raise DataError(f"Two masks for one image: {twin} and {path}. Keep one of them.")
    names = [_name(image, base) for image in images]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"Two images in {base} are called {twice}. Give each its own name.")
    bare = [path.name for path, name in zip(images, names, strict=True) if name not in available]
    _refuse_lonely(bare, "image", base, "mask", f"Put masks of the same name into {masks}")
    _refuse_lonely(set(available) - set(names), "mask", masks, "image", f"Put images into {base}")
    return [Pair(i, available[n], n) for i, n in zip(images, names, strict=True)]


def _from_list(listed: Path, root: Path) -> list[Pair]:
    try:
        lines = listed.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listed} cannot be read: {error}. Save it as UTF-8 text.") from error
    pairs: dict[str, Pair] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = [word.strip() for word in (line.split("\t") if "\t" in line else line.split())]
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
        image, mask = paths[0], paths[1] if len(paths) == 2 else None
        # a name is a place below an output folder, so nothing in it may lead out
        parts = Path(words[0]).with_suffix("").parts
        name = "/".join(part for part in parts if part not in ("..", Path(words[0]).anchor))
        if name in pairs:
            raise DataError(
                f"{listed}, line {number}: '{name}' was listed before, as {pairs[name].image}. Give each image one "
                "line and its own name."
            )
        pairs[name] = Pair(image, mask, name)
    if not pairs:
        raise DataError(f"{listed} lists no image. Write 'image mask' on each line.")
    return list(pairs.values())


def _refuse_lonely(names: Iterable[str], kind: str, place: Path, partner: str, step: str) -> None:
    names = sorted(names)
    if names:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        what = f"{kind}s" if len(names) > 1 else kind
        raise DataError(
            f"{len(names)} {what} in {place} {'have' if len(names) > 1 else 'has'} no {partner}, such as {shown}. "
            f"{step}, or move the {what} away."
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

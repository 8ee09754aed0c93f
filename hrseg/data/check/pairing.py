"""Pairing the files of any tree: names first, and where they say nothing, a look into some files.

Nothing is refused here. What has no partner is listed, and what was left aside is said.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hrseg.data.check.roles import IMAGE, MASK, OTHER, Named, rank, read_name
from hrseg.data.layouts import Pair
from hrseg.errors import DataError
from hrseg.imaging import IMAGE_SUFFIXES, read_mask

_KEYS: tuple[Callable[[Named], Hashable], ...] = (
    lambda f: (f.split, f.group, f.stem),
    lambda f: (f.group, f.stem),
    lambda f: (f.split, f.stem),
    lambda f: f.stem,
    lambda f: re.sub(r"[^a-z0-9]", "", f.stem.lower()) or f.stem,
)
"""What partners share, strictest first; a key counts where it is single on both sides."""
_LISTS = re.compile(
    r"(train|training|val|valid|validation|test|testing)(set|_?list|_?files)?$", re.I
)
_SPLIT_OF = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_LOOKS = 3  # files opened per folder where names say nothing
_FEW = 64  # a mask has fewer values than this


@dataclass
class Found:
    """What lies in a tree.

    Attributes:
        splits: Split → pairs; "all" where there are no splits.
        images_alone: Images without a mask, though others of their split have one.
        masks_alone: Masks without an image.
        notes: What was left aside, in sentences.
        where: Where images and masks lie, in a few words.
    """

    splits: dict[str, list[Pair]] = field(default_factory=dict)
    images_alone: list[Path] = field(default_factory=list)
    masks_alone: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    where: str = ""


def pair_any(root: Path) -> Found:
    """Pair the images and masks of any tree."""
    files = [read_name(path, root) for path in image_files(root)]
    aside = [file for file in files if file.role == OTHER]
    files = [file for file in files if file.role != OTHER]
    if not any(file.role == MASK for file in files):
        files = _by_looking(files)
    images = [file for file in files if file.role in (IMAGE, "")]
    masks = [file for file in files if file.role == MASK]
    found = Found()
    if aside:
        found.notes.append(
            f"{len(aside):,} files such as {aside[0].path.relative_to(root)} look like instances or previews and "
            "were left aside."
        )
    partners, kinds = _best_families(images, masks)
    for kind, count in kinds[1:]:
        found.notes.append(
            f"{count:,} more masks of another kind ({'/'.join(kind)}) were left aside; "
            f"{'/'.join(kinds[0][0])} was used."
        )
    used = {kind for kind, _ in kinds}
    chosen = {kinds[0][0]} if kinds else set()
    matched = set(partners.values())
    found.masks_alone = [
        m.path for m in masks if m not in matched and (m.family in chosen or m.family not in used)
    ]
    listed = {} if any(image.split for image in images) else _listed(root, images)
    in_split: dict[str, list[Named]] = defaultdict(list)
    for image in images:
        mask = partners.get(image)
        split = image.split or listed.get(image.path, "") or (mask.split if mask else "") or "all"
        in_split[split].append(image)
    for split in sorted(in_split, key=_order):
        with_mask = [image for image in in_split[split] if image in partners]
        if with_mask:
            bare = [image.path for image in in_split[split] if image not in partners]
            found.images_alone += bare
            chosen_images = with_mask
        elif split == "test" and partners:
            chosen_images = in_split[split]
        else:
            found.images_alone += [image.path for image in in_split[split]]
            continue
        names = _names([image.path for image in chosen_images], root)
        found.splits[split] = [
            Pair(image.path, partners[image].path if image in partners else None, name)
            for image, name in zip(chosen_images, names, strict=True)
        ]
    found.where = _where(partners, root)
    return found


def image_files(root: Path) -> list[Path]:
    """Return all visible image files in name order, links to folders followed once."""
    found, seen = [], set()
    for place, folders, names in os.walk(root, followlinks=True):
        true = os.path.realpath(place)
        if true in seen:
            folders.clear()
            continue
        seen.add(true)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        found += [
            Path(place, name)
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return found


def _match(images: Iterable[Named], masks: Iterable[Named]) -> dict[Named, Named]:
    lonely_images, lonely_masks = list(images), list(masks)
    partners: dict[Named, Named] = {}
    for key in _KEYS:
        ours, theirs = _single(lonely_images, key), _single(lonely_masks, key)
        for value, image in ours.items():
            if value in theirs and not _contradict(image, theirs[value]):
                partners[image] = theirs[value]
        taken = set(partners.values())
        lonely_images = [image for image in lonely_images if image not in partners]
        lonely_masks = [mask for mask in lonely_masks if mask not in taken]
    return partners


def _contradict(image: Named, mask: Named) -> bool:
    return bool(image.split and mask.split and image.split != mask.split)


def _single(files: Sequence[Named], key: Callable[[Named], Hashable]) -> dict[Hashable, Named]:
    counts = Counter(key(file) for file in files)
    return {key(file): file for file in files if counts[key(file)] == 1}


def _best_families(
    images: Sequence[Named], masks: Sequence[Named]
) -> tuple[dict[Named, Named], list[tuple[tuple[str, ...], int]]]:
    """Match each kind of masks; the best one counts, others fill what it leaves."""
    families: dict[tuple[str, ...], list[Named]] = defaultdict(list)
    for mask in masks:
        families[mask.family].append(mask)
    matches = {family: _match(images, found) for family, found in families.items()}
    if not matches:
        return {}, []
    most = max(len(found) for found in matches.values())
    order = sorted(
        (family for family in matches if matches[family]),
        key=lambda family: (len(matches[family]) < 0.9 * most, rank(family), -len(matches[family])),
    )
    partners: dict[Named, Named] = {}
    aside = []
    for family in order:
        new = {image: mask for image, mask in matches[family].items() if image not in partners}
        if len(new) < len(matches[family]):
            aside.append((family, len(matches[family]) - len(new)))
        partners |= new
    return partners, [(order[0], len(matches[order[0]])), *aside] if order else []


def _by_looking(files: Sequence[Named]) -> list[Named]:
    """Find masks where no name tells: PNG beside JPEG of one stem, or folders whose files hold few values."""
    suffixes: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for file in files:
        suffixes[file.path.parent, file.path.stem].add(file.path.suffix.lower())
    lossy = {".jpg", ".jpeg", ".webp"}
    twins = {key for key, found in suffixes.items() if found & lossy and found - lossy}
    if twins:
        return [
            replace(file, role=MASK, family=("beside",))
            if (file.path.parent, file.path.stem) in twins and file.path.suffix.lower() not in lossy
            else file
            for file in files
        ]
    folders: dict[Path, list[Named]] = defaultdict(list)
    for file in files:
        folders[file.path.parent].append(file)
    flat = {place for place, inside in folders.items() if _holds_masks(inside)}
    if not flat or len(flat) == len(folders):
        return list(files)
    return [
        replace(file, role=MASK, family=("few values",), group=())
        if file.path.parent in flat
        else replace(file, group=())
        for file in files
    ]


def _holds_masks(files: Sequence[Named]) -> bool:
    for file in files[:: max(1, len(files) // _LOOKS)][:_LOOKS]:
        if file.path.suffix.lower() in (".jpg", ".jpeg"):
            return False
        try:
            values = read_mask(file.path)
        except DataError:
            continue
        rows = values.reshape(-1, values.shape[-1]) if values.ndim == 3 else values.reshape(-1, 1)
        if len(np.unique(rows[:: max(1, len(rows) // 50_000)], axis=0)) > _FEW:
            return False
    return True


def _listed(root: Path, images: Sequence[Named]) -> dict[Path, str]:
    """Return the split of each image that lists such as train.txt name."""
    by_name: dict[str, Path | None] = {}
    for image in images:
        relative = image.path.relative_to(root)
        for name in {
            str(relative),
            str(relative.with_suffix("")),
            relative.name,
            relative.stem,
            image.stem,
        }:
            by_name[name] = None if by_name.get(name, image.path) != image.path else image.path
    splits: dict[Path, str] = {}
    for path in sorted(
        [*root.glob("*.txt"), *root.glob("*/*.txt"), *root.glob("*/*/*.txt"), *root.glob("*.lst")]
    ):
        told = _LISTS.fullmatch(path.stem)
        if not told:
            continue
        split = _SPLIT_OF.get(told[1].lower(), told[1].lower())
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        names = [re.split(r"[\t, ]", line.strip())[0].strip('"') for line in lines if line.strip()]
        met = [place for name in names if (place := _named(name, by_name)) is not None]
        if names and len(met) >= 0.8 * len(names):
            splits |= {place: splits.get(place, split) for place in met}
    return splits


def _named(name: str, by_name: dict[str, Path | None]) -> Path | None:
    name = name.removeprefix("./")
    return by_name.get(name) or by_name.get(Path(name).name) or by_name.get(Path(name).stem)


def _names(paths: Sequence[Path], root: Path) -> list[str]:
    """Return stable short names: the stem, or more of the path where stems come twice."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    return [path.relative_to(root).with_suffix("").as_posix() for path in paths]


def _order(split: str) -> tuple[int, str]:
    known = ("train", "val", "test", "all")
    return (known.index(split) if split in known else len(known), split)


def _where(partners: dict[Named, Named], root: Path) -> str:
    if not partners:
        return ""
    image, mask = next(iter(partners.items()))
    shown = [
        (
            file.path.relative_to(root).parent
            / f"*{file.path.stem.partition(file.stem)[2]}{file.path.suffix}"
        ).as_posix()
        for file in (image, mask)
    ]
    return f"{shown[0]} with {shown[1]}"

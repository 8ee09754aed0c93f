"""Pairing of the images and masks of any folder by file names, and by file contents where names do not show them.

No file raises an error here: files without a partner and files left aside are listed.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hrseg.data.check.file_names import (
    IMAGE,
    MASK,
    OTHER,
    Lists,
    ParsedName,
    constant_affixes,
    cut_off,
    rank,
    read_lists,
    read_names,
    spectral_rank,
    twin_affix,
)
from hrseg.data.check.findings import counted
from hrseg.data.layouts import Pair
from hrseg.data.layouts.pairs import mask_of, name_of
from hrseg.errors import DataError
from hrseg.imaging import ARRAY_SUFFIXES, IMAGE_SUFFIXES, JPEG_SUFFIXES, LOSSY_SUFFIXES, read_mask

_KEYS: tuple[Callable[[ParsedName], Hashable], ...] = (
    lambda f: (f.split, f.group, f.stem),
    lambda f: (f.group, f.stem),
    lambda f: (f.split, f.stem),
    lambda f: f.stem,
    lambda f: re.sub(r"[^a-z0-9]", "", f.stem.lower()) or f.stem,
)
"""Keys that partners share, strictest first; a key counts where it is unique on both sides."""
_SAMPLES = 3  # files opened per folder without a role in its name
_MAX_MASK_VALUES = 64


@dataclass
class Pairing:
    """Pairs and other files of a folder.

    Attributes:
        splits: Split → pairs; "all" where there are no splits.
        images_alone: Images without a mask, though others of their split have one.
        masks_alone: Masks without an image.
        notes: Sentences about files left aside.
        where: Patterns of images and masks, for the report.
        bare: Split → images without a mask.
    """

    splits: dict[str, list[Pair]] = field(default_factory=dict)
    images_alone: list[Path] = field(default_factory=list)
    masks_alone: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    where: str = ""
    bare: dict[str, list[Path]] = field(default_factory=dict)

    def add_bare(self, root: Path) -> None:
        """Add the images without a mask to their splits."""
        for split, paths in self.bare.items():
            masks = {pair.image: pair.mask for pair in self.splits.get(split, ())}
            self.splits[split] = _pairs([*masks, *paths], masks, root)
        self.images_alone, self.bare = [], {}


def pair_any(root: Path, masks: str | None = None) -> Pairing:
    """Pair the images and masks of any tree.

    Args:
        root: Its folder.
        masks: Pattern of the mask of an image, as `mask_of` takes it; None pairs by names.

    Raises:
        DataError: The pattern is invalid, or gives no mask, or one mask for two images.
    """
    files = read_names(image_files(root), root)
    lists = read_lists(root, files)
    partners = lists.partners if masks is None else _by_pattern(files, root, masks)
    roles = dict.fromkeys(partners.values(), MASK) | dict.fromkeys(partners, IMAGE)
    # a list or pattern takes precedence over names
    files = [replace(file, role=roles.get(file.path, file.role)) for file in files]
    aside = [file for file in files if file.role == OTHER]
    files = [file for file in files if file.role != OTHER]
    if not any(file.role == MASK for file in files):
        files = _masks_by_content(files)
    done = {*partners, *partners.values()}
    loose = [file for file in files if file.path not in done]
    images, unpaired = _align_groups(
        [file for file in loose if file.role != MASK], [file for file in loose if file.role == MASK]
    )
    images, spare = _one_image_each(images, unpaired, root)
    matched, kinds = _best_families(images, unpaired) if masks is None else ({}, [])
    partners |= {image.path: mask.path for image, mask in matched.items()}
    used = {*partners.values(), *(mask.path for _, others in kinds for mask in others)}
    found = Pairing(
        notes=[*lists.notes, *_aside_notes(root, aside, spare, kinds)],
        where=_patterns_text(partners, files, root),
        masks_alone=[mask.path for mask in unpaired if mask.path not in used],
    )
    images = [image for image in images if image.path not in partners]
    images += [file for file in files if file.path in partners]
    images.sort(key=lambda file: file.path)
    _fill_splits(found, images, files, partners, lists, root)
    return found


def _aside_notes(
    root: Path,
    aside: Sequence[ParsedName],
    spare: Sequence[ParsedName],
    kinds: Sequence[tuple[tuple[str, ...], list[ParsedName]]],
) -> list[str]:
    """Return sentences about files that are left aside."""
    notes = [
        f"{counted(len(left), 'file')} such as {left[0].path.relative_to(root)} {what}; left aside."
        for what, left in (
            ("with instances or previews by the name", aside),
            ("beside an image of the same name that fits the masks better", spare),
        )
        if left
    ]
    return notes + [
        f"{counted(len(others), 'mask')} of another kind ({'/'.join(kind)}), left aside; "
        f"{'/'.join(kinds[0][0])} is used."
        for kind, others in kinds[1:]
        if others
    ]


def _fill_splits(
    found: Pairing,
    images: Sequence[ParsedName],
    files: Sequence[ParsedName],
    partners: dict[Path, Path],
    lists: Lists,
    root: Path,
) -> None:
    """Sort the pairs into splits by lists and folder names, and list images without a mask."""
    of_file = {file.path: file.split for file in files}
    by_lists = bool(lists.partners) or not any(image.split for image in images)
    in_split: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        listed = lists.splits.get(image.path, "") if by_lists else ""
        of_mask = of_file[partners[image.path]] if image.path in partners else ""
        in_split[listed or image.split or of_mask or "all"].append(image.path)
    for split in sorted(in_split, key=_split_order):
        taken = [path for path in in_split[split] if path in partners]
        bare = [path for path in in_split[split] if path not in partners]
        if not taken and split == "test" and partners:
            taken, bare = bare, []  # the masks of a test are often unpublished
        if bare:
            found.images_alone += bare
            found.bare[split] = bare
        if taken:
            found.splits[split] = _pairs(taken, partners, root)


def _by_pattern(files: Sequence[ParsedName], root: Path, pattern: str) -> dict[Path, Path]:
    """Pair by the user's pattern.

    Raises:
        DataError: It gives no existing mask, or one mask for two images.
    """
    there = {file.path for file in files}
    partners: dict[Path, Path] = {}
    expected = [mask_of(pattern, file.path, root) for file in files]
    for file, mask in zip(files, expected, strict=True):
        if mask in there and mask != file.path:
            partners[file.path] = mask
    # a pattern such as masks/{stem}.png takes the masks themselves for images too
    masks = set(partners.values())
    partners = {image: mask for image, mask in partners.items() if image not in masks}
    if not partners and files:
        image = next((file for file in files if file.role != MASK), files[0])
        place = mask_of(pattern, image.path, root)
        raise DataError(
            f"--masks '{pattern}' leads to no mask in {root}: for {image.path.relative_to(root)} it gives "
            f"{place.relative_to(root)}, which does not exist. {{stem}} is the image's name without its suffix, "
            "{name} with it, {folder} its folders below the root, {1} the first of them."
        )
    twice = [mask for mask, count in Counter(partners.values()).items() if count > 1]
    if twice:
        both = [image.relative_to(root) for image, mask in partners.items() if mask == twice[0]][:2]
        raise DataError(
            f"--masks '{pattern}' gives {both[0]} and {both[1]} the same mask {twice[0].relative_to(root)}. Add what "
            "tells them apart: {folder} for the image's folders, {1} for the first, or {name} for its whole name."
        )
    return partners


def _one_image_each(
    images: Sequence[ParsedName], masks: Sequence[ParsedName], root: Path
) -> tuple[list[ParsedName], list[ParsedName]]:
    """Keep one image per key: RGB before infrared, then the folder in which most images have masks."""
    key = _KEYS[0]
    wanted = {key(mask) for mask in masks}
    paired = Counter(image.path.parent for image in images if key(image) in wanted)
    inside = Counter(image.path.parent for image in images)
    versions: dict[Hashable, list[tuple[tuple[int, bool], ParsedName]]] = defaultdict(list)
    for image in images:
        few = 2 * paired[image.path.parent] < inside[image.path.parent]
        versions[key(image)].append(((spectral_rank(image.path, root), few), image))
    spare = set()
    for several in versions.values():
        best = min(its for its, _ in several)
        if sum(its == best for its, _ in several) == 1:
            spare |= {image for its, image in several if its != best}
    return [image for image in images if image not in spare], sorted(spare, key=str)


def _align_groups(
    images: Sequence[ParsedName], masks: Sequence[ParsedName]
) -> tuple[list[ParsedName], list[ParsedName]]:
    """Keep the group folders that both sides share; a mask's other folders name its kind where masks collide."""
    sides = [{part for file in files for part in file.group} for files in (images, masks)]
    shared = sides[0] & sides[1]
    called: list[dict[str, str]] = [{part: part for part in shared} for _ in sides]
    cuts = constant_affixes(sides[0] - shared, sides[1] - shared)
    for names, side, cut in zip(called, sides, cuts or (), strict=False):
        names |= {part: core for part in side - shared if (core := cut_off(part, cut))}
    common = [
        [replace(file, group=tuple(names[part] for part in file.group if part in names)) for file in files]
        for files, names in zip((images, masks), called, strict=True)
    ]
    counts = Counter((mask.family, _KEYS[0](mask)) for mask in common[1])
    return common[0], [
        replace(mask, family=(*mask.family, *(p for p in old.group if p not in called[1])))
        if counts[mask.family, _KEYS[0](mask)] > 1
        else mask
        for old, mask in zip(masks, common[1], strict=True)
    ]


def image_files(root: Path) -> list[Path]:
    """Return all visible image files in name order; links to folders are followed once."""
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
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES | ARRAY_SUFFIXES
        ]
    return found


def _match(images: Iterable[ParsedName], masks: Iterable[ParsedName]) -> dict[ParsedName, ParsedName]:
    """Match by full names, and where that fails for most masks, without a constant affix."""
    images, masks = list(images), list(masks)
    partners = _match_keys(images, masks)
    taken = set(partners.values())
    lonely = [[i for i in images if i not in partners], [m for m in masks if m not in taken]]
    if 2 * len(lonely[1]) < len(masks):
        return partners
    cuts = constant_affixes(*({file.stem for file in files} for files in lonely))
    if cuts is None:
        return partners
    bare = [
        {replace(file, stem=core): file for file in files if (core := cut_off(file.stem, cut))}
        for files, cut in zip(lonely, cuts, strict=True)
    ]
    found = _match_keys(list(bare[0]), list(bare[1]))
    return partners | {bare[0][image]: bare[1][mask] for image, mask in found.items()}


def _match_keys(images: Sequence[ParsedName], masks: Sequence[ParsedName]) -> dict[ParsedName, ParsedName]:
    partners: dict[ParsedName, ParsedName] = {}
    for key in _KEYS:
        ours, theirs = _unique(images, key), _unique(masks, key)
        for value, image in ours.items():
            mask = theirs.get(value)
            if mask and (not image.split or mask.split in ("", image.split)):
                partners[image] = mask
        taken = set(partners.values())
        images = [image for image in images if image not in partners]
        masks = [mask for mask in masks if mask not in taken]
    return partners


def _unique(files: Sequence[ParsedName], key: Callable[[ParsedName], Hashable]) -> dict[Hashable, ParsedName]:
    counts = Counter(key(file) for file in files)
    return {key(file): file for file in files if counts[key(file)] == 1}


def _best_families(
    images: Sequence[ParsedName], masks: Sequence[ParsedName]
) -> tuple[dict[ParsedName, ParsedName], list[tuple[tuple[str, ...], list[ParsedName]]]]:
    """Match each kind of masks; the best kind comes first, the others fill the gaps.

    Returns:
        The pairs, and for each kind, best first, the masks that were left aside.
    """
    families: dict[tuple[str, ...], list[ParsedName]] = defaultdict(list)
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
    partners: dict[ParsedName, ParsedName] = {}
    aside = []
    for family in order:
        new = {image: mask for image, mask in matches[family].items() if image not in partners}
        aside.append((family, [m for i, m in matches[family].items() if i not in new]))
        partners |= new
    return partners, aside


def _masks_by_content(files: Sequence[ParsedName]) -> list[ParsedName]:
    """Find masks where no name gives the role: PNG beside JPEG of one stem, or folders of files with few values."""
    suffixes: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for file in files:
        suffixes[file.path.parent, file.path.stem].add(file.path.suffix.lower())
    twins = {key for key, found in suffixes.items() if found & LOSSY_SUFFIXES and found - LOSSY_SUFFIXES}
    if twins:
        return [
            replace(file, role=MASK, family=("beside",))
            if (file.path.parent, file.path.stem) in twins and file.path.suffix.lower() not in LOSSY_SUFFIXES
            else file
            for file in files
        ]
    folders: dict[Path, list[ParsedName]] = defaultdict(list)
    for file in files:
        folders[file.path.parent].append(file)
    named = [file for inside in folders.values() for file in _masks_by_affix(inside)]
    if any(file.role == MASK for file in named):
        return named
    flat = {place for place, inside in folders.items() if _holds_masks(inside)}
    if not flat or len(flat) == len(folders):
        return list(files)
    return [replace(file, role=MASK, family=("few values",)) if file.path.parent in flat else file for file in files]


def _masks_by_affix(files: Sequence[ParsedName]) -> list[ParsedName]:
    """Find masks in a folder where each stem occurs twice, once with an affix."""
    cut = twin_affix({file.stem for file in files})
    if cut is None:
        return list(files)
    stems = {file.stem for file in files}
    longer = {file: core for file in files if (core := cut_off(file.stem, cut)) and core in stems}
    masks = _holds_masks(list(longer)), _holds_masks([f for f in files if f not in longer])
    if masks[0] == masks[1]:
        return list(files)
    return [
        replace(file, role=MASK, family=cut, stem=longer.get(file, file.stem))
        if (file in longer) == masks[0]
        else replace(file, role=IMAGE, stem=longer.get(file, file.stem))
        for file in files
    ]


def _holds_masks(files: Sequence[ParsedName]) -> bool:
    for file in files[:: max(1, len(files) // _SAMPLES)][:_SAMPLES]:
        if file.path.suffix.lower() in JPEG_SUFFIXES:
            return False
        try:
            values = read_mask(file.path)
        except DataError:
            continue
        rows = values.reshape(-1, values.shape[-1]) if values.ndim == 3 else values.reshape(-1, 1)
        if len(np.unique(rows[:: max(1, len(rows) // 50_000)], axis=0)) > _MAX_MASK_VALUES:
            return False
    return True


def _pairs(images: Sequence[Path], masks: Mapping[Path, Path | None], root: Path) -> list[Pair]:
    """Make pairs with short names: the stems, or the paths where stems occur twice."""
    names = [path.stem for path in images]
    if len(set(names)) < len(names):
        names = [name_of(path, root) for path in images]
    return [Pair(path, masks.get(path), name) for path, name in zip(images, names, strict=True)]


def _split_order(split: str) -> tuple[int, str]:
    known = ("train", "val", "test", "all")
    return (known.index(split) if split in known else len(known), split)


def _patterns_text(partners: dict[Path, Path], images: Sequence[ParsedName], root: Path) -> str:
    image = next((image for image in images if image.path in partners), None)
    if image is None:
        return ""
    mask = partners[image.path]
    tails = [path.stem.rpartition(image.stem or path.stem)[2] for path in (image.path, mask)]
    shown = [
        (path.relative_to(root).parent / f"*{tail}{path.suffix}").as_posix()
        for path, tail in zip((image.path, mask), tails, strict=True)
    ]
    return f"{shown[0]} with {shown[1]}"

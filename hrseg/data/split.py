"""Division of images by groups: into train, val and test, or into folds of which each validates once.

A group's split follows from a hash of its name and the seed alone, so that images that are added later change no other
group's split. A few groups move only where a split would be empty or lack a class. Folds are made equal in size.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.config import DataConfig
from hrseg.data.check.grouping import group_folders, group_images, hash_fraction, too_few
from hrseg.data.check.pairing import pair_any
from hrseg.data.dataset import read_ids
from hrseg.data.layouts import Pair
from hrseg.data.layouts.pairs import list_text, name_of, write_list
from hrseg.errors import ConfigError, DataError, first_few, percent
from hrseg.imaging import write_atomic
from hrseg.labels import IGNORE_INDEX, ClassTable, find_classes, pack_colors

TRAIN, VAL, TEST = "train", "val", "test"
FOLD_LISTS = "fold_*_{split}.txt"
"""Pattern of the lists of folds."""
MAX_GROUPS_AS_FOLDS = 20
"""Each fold is a training run."""
Progress = Callable[[int], Callable[[int], None]]


@dataclass(frozen=True)
class Division:
    """Division of a dataset.

    Attributes:
        root: The dataset's folder.
        splits: Split → its pairs, in name order.
        groups: Split → its groups.
        classes: Split → value of the masks → images that hold it.
        moved: Group whose split is not that of its hash → (from, to).
        kept: Split that is not divided → images in it.
        names: Value → class, where a file of classes names all of them.
        folders: Folders of several images each that the division cuts across.
    """

    root: Path
    splits: Mapping[str, Sequence[Pair]]
    groups: Mapping[str, Sequence[str]]
    classes: Mapping[str, Counter[int]]
    moved: Mapping[str, tuple[str, str]]
    kept: Mapping[str, int]
    names: Mapping[int, str]
    folders: Sequence[str] = ()

    @property
    def lists(self) -> dict[str, list[Pair]]:
        """Name of a list → its pairs: the splits; of each fold, all others to train on and itself to validate."""
        if TRAIN in self.splits:
            return {split: list(pairs) for split, pairs in self.splits.items()}
        lists = {}
        for fold, pairs in self.splits.items():
            lists[f"{fold}_train"] = [pair for other in self.splits if other != fold for pair in self.splits[other]]
            lists[f"{fold}_val"] = list(pairs)
        return lists

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {
            "root": str(self.root),
            "splits": {
                split: {
                    "images": len(pairs),
                    "groups": len(self.groups[split]),
                    "images_by_value": {str(v): n for v, n in sorted(self.classes[split].items())},
                }
                for split, pairs in self.splits.items()
            },
            "moved": {group: list(way) for group, way in self.moved.items()},
            "kept": dict(self.kept),
            "folders": list(self.folders),
        }

    def missing(self) -> dict[str, list[int]]:
        """Return split → values that only the masks of other splits hold."""
        union = set().union(*self.classes.values())
        missing = {split: sorted(union - set(found)) for split, found in self.classes.items()}
        return {split: values for split, values in missing.items() if values}

    def text(self, written: Sequence[Path]) -> str:
        """Format the division for the terminal, with the lists that were written."""
        total = sum(len(pairs) for pairs in self.splits.values())
        grouped = any(len(self.groups[split]) != len(self.splits[split]) for split in self.splits)
        lines = []
        files = dict(zip(self.lists, written, strict=True))
        for split, pairs in self.splits.items():
            inside = self.groups[split]
            groups = "" if not grouped else f" in {len(inside):,} groups" if len(inside) > 1 else f" of {inside[0]}"
            share = percent(len(pairs) / total)
            path = files.get(split) or files[f"{split}_val"]
            lines.append(f"  {split:<5} {len(pairs):>7,} images{groups}  {share:>7}  {path}")
        for group, (old, new) in list(self.moved.items())[:5]:
            lines.append(f"Moved from {old} to {new}, so that no split lacks a class: {group}")
        if len(self.moved) > 5:
            lines.append(f"and {len(self.moved) - 5} more.")
        for split, values in self.missing().items():
            shown = first_few([self.names.get(v, str(v)) for v in values], 8)
            lines.append(f"No mask of {split} holds {shown}: too few groups do.")
        for split, count in self.kept.items():
            lines.append(f"Left as it was: {split}, {count:,} images.")
        if TRAIN not in self.splits:
            words = ["--folds", str(len(self.splits)), "data.layout=folder", f"data.root={self.root}"]
            lines.append(
                "Each fold validates once, and FOLD_train.txt holds the others. Train: hrseg study RECIPE "
                + shlex.join(words)
            )
        if self.folders:
            lines.append(
                f"The images are in {len(self.folders)} folders such as {', '.join(self.folders[:3])}. If each is a "
                "patient, a flight or a film, its images belong in one split: --by folder --replace"
            )
        return "\n".join(lines)


def divide(
    root: str | Path,
    *,
    val: float | None = None,
    test: float | None = None,
    folds: int | None = None,
    by: str = "none",
    seed: int = 0,
    pool: str | None = None,
    masks: str | None = None,
    progress: Progress = lambda total: lambda count: None,
) -> Division:
    """Divide the pairs of a folder.

    Args:
        root: Folder of images and masks under any usual names.
        val: Share of the groups that validate; None takes 0.2.
        test: Share of the groups that test; None takes none.
        folds: Number of folds instead of splits, of equal size as far as the groups allow; 0 makes each group one.
        by: "none": each image is a group; "folder": the images of a folder are; else a regular expression whose
            first group, or whole match, names the group in the image's path.
        seed: Of the division.
        pool: Split whose images are divided, several with commas, or "all"; None takes all where there are no splits
            yet.
        masks: Pattern of the mask of an image, such as "masks/{stem}.jpg.png"; None pairs by name.
        progress: Callback for the reading of the masks.

    Raises:
        ConfigError: Impossible shares or folds, or an invalid expression.
        DataError: Nothing to divide, or too few groups.
    """
    root = Path(root).expanduser()
    if folds is not None and (folds == 1 or folds < 0):
        raise ConfigError(f"--folds {folds} leaves nothing to learn from. Give 2 or more; 5 is usual.")
    if folds is not None and (val, test) != (None, None):
        raise ConfigError("Folds validate in turn and have no shares. Leave --val and --test out, or --folds.")
    val, test = 0.2 if val is None else val, test or 0.0
    if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
        raise ConfigError(
            f"Shares of {val:g} for val and {test:g} for test leave nothing to learn from. Both are parts of 1, such "
            "as --val 0.2 --test 0.1."
        )
    if not root.is_dir():
        raise DataError(f"Folder {root} does not exist. Give the folder of a dataset.")
    found = pair_any(root, masks).splits
    pairs, kept = _pool({split: found[split] for split in found if found[split]}, pool, test, root)
    names = {pair: name_of(pair.image, root) for pair in pairs}
    groups = group_images(names, by)
    wanted = [TRAIN, VAL, *[TEST] * (test > 0)]
    if folds is not None:
        if folds == 0 and len(groups) > MAX_GROUPS_AS_FOLDS:
            raise ConfigError(
                f"--by '{by}' makes {len(groups)} groups, too many for a fold each. Name a number: --folds 5"
            )
        wanted = [f"fold_{number}" for number in range(1, (folds or max(2, len(groups))) + 1)]
    if len(groups) < len(wanted):
        raise too_few(groups, by, wanted)
    hashes = {group: hash_fraction(f"{seed}\n{group}") for group in groups}
    first = {group: VAL if number < val else TEST if number >= 1 - test else TRAIN for group, number in hashes.items()}
    table = find_classes(root)  # an unreadable one is refused before the masks are read
    held = _values(groups, progress(len(pairs)))
    classes = _classes(table, set().union(*held.values()))
    if classes:
        held = {g: Counter({v: n for v, n in held[g].items() if v in classes}) for g in held}
    if folds is None:
        final = _complete(first, hashes, held, wanted)
    else:
        first = final = _into_folds({group: len(inside) for group, inside in groups.items()}, hashes, wanted)
    inside = {split: sorted(g for g in groups if final[g] == split) for split in wanted}
    return Division(
        root,
        {s: sorted((p for g in inside[s] for p in groups[g]), key=lambda p: names[p]) for s in wanted},
        inside,
        {s: Counter(v for g in inside[s] for v in held[g].elements()) for s in wanted},
        {g: (first[g], final[g]) for g in sorted(groups) if first[g] != final[g]},
        kept,
        classes,
        group_folders(names) if by == "none" else (),
    )


def write_lists(division: Division, replace: bool = False) -> list[Path]:
    """Write train.txt, val.txt and test.txt, or fold_1_train.txt, fold_1_val.txt and so on, for layout "folder".

    Args:
        division: From `divide`.
        replace: Replace existing lists.

    Raises:
        DataError: A list exists already, or cannot be written.
    """
    lists = division.lists
    paths = {name: division.root / f"{name}.txt" for name in lists}
    there = [path.name for path in paths.values() if path.exists()]
    if there and not replace:
        raise DataError(
            f"{division.root} holds {', '.join(there)} already, and nothing is overwritten. Add --replace to write a "
            "new division."
        )
    with ExitStack() as stack:  # all are written before the first is renamed
        for name, path in paths.items():
            text = list_text(lists[name], division.root)
            write_list(stack.enter_context(write_atomic(path)), text)
    if TRAIN not in division.splits:  # lists of more folds than now would be taken for some of these
        for old in {*division.root.glob(FOLD_LISTS.format(split="*"))} - set(paths.values()):
            old.unlink()
    return list(paths.values())


def _pool(
    found: Mapping[str, Sequence[Pair]], pool: str | None, test: float, root: Path
) -> tuple[list[Pair], dict[str, int]]:
    """Return the pairs to divide, and the splits left alone."""
    named = [part.strip() for part in pool.split(",")] if pool else []
    keep_test = test == 0 and TEST in found and not {"all", TEST} & set(named)
    kept = {TEST: len(found[TEST])} if keep_test else {}
    there = [split for split in found if split not in kept]
    taken = there if named in ([], ["all"]) else named
    if unknown := [part for part in taken if part not in there]:
        raise ConfigError(f"{root} has no split '{unknown[0]}'. --from takes all, or of {', '.join(there)}.")
    lists = [split for split in there if (root / f"{split}.txt").is_file()]
    if pool is None and len(there) > 1 and not lists:
        raise DataError(
            f"{root} is divided already: {', '.join(there)}. Name the split to divide: --from {there[0]}, or "
            "--from all."
        )
    kept |= {split: len(found[split]) for split in there if split not in taken}
    pairs = [pair for split in taken for pair in found[split] if pair.mask is not None]
    if not pairs:
        raise DataError(f"{root} holds no image with a mask. Run: hrseg data check {shlex.quote(str(root))}")
    return pairs, kept


def _values(groups: Mapping[str, Sequence[Pair]], advance: Callable[[int], None]) -> dict[str, Counter[int]]:
    """Count, for each group and value of the masks, the images that hold it."""
    held: dict[str, Counter[int]] = {}
    for group, pairs in groups.items():
        held[group] = Counter()
        for pair in pairs:
            ids = read_ids(pair)
            if ids is not None and ids.ndim == 3:
                ids = pack_colors(ids)
            values = [] if ids is None else np.unique(ids).tolist()
            held[group].update(value for value in values if value != IGNORE_INDEX)
            advance(1)
    return held


def _classes(table: ClassTable | None, values: set[int]) -> dict[int, str]:
    """Return value → class, of ids or colors 0xRRGGBB; empty if the table lacks one of the values."""
    rows = table.labels.labels if table else ()
    packed = {int(pack_colors(np.array(row.color))): row for row in rows}
    for known in ({row.id: row for row in rows}, packed):
        if values <= set(known):
            return {v: row.name for v, row in known.items() if row.train_id != IGNORE_INDEX}
    return {}


def _into_folds(sizes: Mapping[str, int], hashes: Mapping[str, float], folds: Sequence[str]) -> dict[str, str]:
    """Assign groups to folds, largest first and each to the smallest fold; where all have their own, by name."""
    if len(sizes) == len(folds):
        return dict(zip(sorted(sizes), folds, strict=True))
    filled = dict.fromkeys(folds, 0)
    final = {}
    for group in sorted(sizes, key=lambda g: (-sizes[g], hashes[g])):
        final[group] = min(folds, key=lambda fold: filled[fold])
        filled[final[group]] += sizes[group]
    return final


def _complete(
    first: Mapping[str, str],
    hashes: Mapping[str, float],
    held: Mapping[str, Counter[int]],
    wanted: Sequence[str],
) -> dict[str, str]:
    """Move groups into splits that lack a class, rarest class first; those nearest to the border move."""
    final = dict(first)

    def inside(split: str, value: int | None) -> list[str]:
        return [g for g in final if final[g] == split and (value is None or value in held[g])]

    def move(split: str, value: int | None) -> None:
        givers = {s: inside(s, value) for s in wanted if s != split}
        possible = [
            g
            for s, groups in givers.items()
            if len(groups) > 1 or (split == TRAIN and groups)
            for g in groups
            if len(inside(s, None)) > 1 and (split == TRAIN or all(len(inside(s, v)) > 1 for v in held[g]))
        ]
        if possible:
            target = {VAL: 0.0, TEST: 1.0, TRAIN: 0.5}[split]
            final[min(possible, key=lambda g: (abs(hashes[g] - target), g))] = split

    for split in wanted:
        if not inside(split, None):
            move(split, None)
    frequency = Counter(value for values in held.values() for value in values)
    for value in sorted(frequency, key=lambda v: (frequency[v], v)):
        for split in wanted:
            if not inside(split, value):
                move(split, value)
    return final


def check_folds(data: DataConfig, folds: int, words: Sequence[str] = ()) -> None:
    """Check that the dataset is divided into this many folds: a mean over some of them would mislead.

    Args:
        data: With layout and root.
        folds: Their number.
        words: Arguments of `hrseg data split` that make them, for the message.

    Raises:
        ConfigError: It is not, or its layout reads no lists.
    """
    if data.layout != "folder":
        raise ConfigError(
            f"Folds are lists that layout folder reads, and data.layout is {data.layout}. Set data.layout=folder, and "
            "data.labels to the classes."
        )
    root = Path(data.root or ".")
    there = len(list(root.glob(FOLD_LISTS.format(split="val"))))
    if there != folds:
        raise ConfigError(
            f"{root} is divided into {there} folds, and the study has {folds}. Give the study as many, or divide it: "
            "hrseg data split " + shlex.join([str(root), *words, "--folds", str(folds), "--replace"])
        )

"""Suggested training recipe: split lists, crop, batch size, number of epochs, class table."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import numpy as np

from hrseg.data.check.findings import ClassRow, Finding, Recipe, counted, named
from hrseg.data.check.grouping import (
    IndexPair,
    component_roots,
    group_folders,
    group_images,
    hash_fraction,
    linked_pairs,
    too_few,
)
from hrseg.data.check.layout import Tree
from hrseg.data.check.scan import ScannedPair
from hrseg.data.layouts import LAYOUTS
from hrseg.data.layouts.pairs import list_text, name_of

CROP_AREA = 512 * 1024
"""Pixels of the largest suggested crop."""
STEPS = 4000
"""Optimizer steps of a suggested training; its epochs stay within EPOCHS."""
EPOCHS = (20, 200)
_STRIDE = 32


@dataclass(frozen=True)
class Start:
    """Backbone of the suggested recipe.

    Attributes:
        backbone: Its name.
        weights: Tag of weights that are on this machine already; None for random ones.
    """

    backbone: str
    weights: str | None


def suggest_crop(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return a crop (height, width) that most images fill, in multiples of 32.

    Example:
        >>> suggest_crop([(1024, 2048)] * 3), suggest_crop([(360, 480)]), suggest_crop([(20, 30)])
        ((512, 1024), (352, 480), (64, 64))
    """
    height, width = (float(np.percentile([size[i] for size in sizes], 25)) for i in (0, 1))
    shrink = min(1.0, math.sqrt(CROP_AREA / (height * width)))
    return _multiple_of_stride(height * shrink), _multiple_of_stride(width * shrink)


def _divide(
    scanned: Sequence[ScannedPair], linked: Sequence[IndexPair], val_share: float, seed: int
) -> dict[str, list[ScannedPair]]:
    """Divide images into train and val; linked images stay together, and each run divides alike."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, root in enumerate(component_roots(len(scanned), linked)):
        groups[root].append(index)
    # ordered by a hash of the name, so that a new image hardly moves others; unlike in `data.split`, the share is
    # exact, since a small validation set must not come out empty
    order: list[list[int]] = sorted(
        groups.values(), key=lambda group: hash_fraction(f"{seed}/{scanned[group[0]].pair.name}")
    )
    wanted = min(max(1, round(val_share * len(scanned))), len(scanned) - 1)
    val: set[int] = set()
    for group in order:
        if len(val) + len(group) <= wanted:
            val.update(group)
    if not val and len(order) > 1:
        smallest: list[int] = min(order, key=len)
        val = set(smallest)
    return {
        "train": [entry for i, entry in enumerate(scanned) if i not in val],
        "val": [entry for i, entry in enumerate(scanned) if i in val],
    }


@dataclass
class RecipeSplits:
    """Splits of the recipe.

    Attributes:
        splits: train, val and test → usable pairs.
        by_lists: Whether the recipe needs list files, since the layout alone gives other splits.
        findings: Findings about the division.
    """

    splits: dict[str, list[ScannedPair]]
    by_lists: bool
    findings: list[Finding] = field(default_factory=list)


def split_for_recipe(
    tree: Tree,
    scanned: Sequence[ScannedPair],
    linked: Sequence[IndexPair] = (),
    *,
    val_share: float = 0.2,
    seed: int = 0,
    by: str | None = None,
) -> RecipeSplits:
    """Divide the usable pairs into train and val, unless the tree is divided already; test stays test.

    Linked images stay in one split, and so do groups of `by`, see `group_images`; None keeps folders together that seem
    to hold one patient or flight each.

    Raises:
        ConfigError: `by` cannot be used.
        DataError: `by` makes fewer than two groups.
    """
    labeled = [entry for entry in scanned if entry.pair.mask or tree.unmasked is not None]
    usable = [entry for entry in labeled if entry.usable]
    splits: dict[str, list[ScannedPair]] = defaultdict(list)
    for entry in usable:
        splits[entry.split].append(entry)
    splits["test"] = [x for x in scanned if x.split == "test" and x.usable]
    division = RecipeSplits(splits, by_lists=not tree.plain or len(usable) < len(labeled))
    if splits["train"] and splits["val"]:
        return division
    division.by_lists = True
    pool = [entry for entry in usable if entry.split != "test"]
    if not pool:
        if usable:
            division.findings.append(Finding("error", "only_test", _ONLY_TEST))
        return division
    names = {entry.pair: _place(tree.root, entry) for entry in pool}
    folders = group_folders(names) if by is None else []
    groups = group_images(names, "folder" if folders else by or "none")
    if by not in (None, "none") and len(groups) < 2 < len(pool):
        raise too_few(groups, by, ("train", "val"))
    place = {entry.pair: index for index, entry in enumerate(pool)}
    within = [
        (place[scanned[i].pair], place[scanned[j].pair])
        for i, j in linked
        if scanned[i].pair in place and scanned[j].pair in place
    ]
    together = [*within, *linked_pairs([place[pair] for pair in g] for g in groups.values())]
    splits |= _divide(pool, together, val_share, seed)
    if folders:
        lost = _values(pool) - _values(splits["train"])
        if lost or not splits["val"]:
            splits |= _divide(pool, within, val_share, seed)
        division.findings.append(Finding("note", "folders", _folder_text(folders, len(lost))))
    if not splits["val"]:
        splits["val"] = splits["train"][:1]
        division.findings.append(Finding("warning", "one_image", _ONE_IMAGE))
    return division


_ONLY_TEST = (
    "All pairs are in split 'test', which is never trained on. If they are no test, rename the folder or the list, "
    "or divide them: hrseg data split ROOT --from test"
)
_ONE_IMAGE = (
    "There is one usable image, or copies of one, for both training and validation, so the score does not hold for "
    "other images. Add images."
)


def _folder_text(folders: Sequence[str], lost: int) -> str:
    text = f"The images are in {len(folders)} folders ({named(folders)}): patients, flights or films?"
    if lost:
        return (
            f"{text} Each whole in one split (--by folder) would leave the training without {counted(lost, 'value')} "
            "of the masks, so single images are divided. Divide by hand if images of a folder are similar."
        )
    return f"{text} The recipe keeps each in one split; --by none divides single images."


def _values(scanned: Sequence[ScannedPair]) -> set[int]:
    return {value for entry in scanned for value in entry.values or ()}


def _place(root: Path, entry: ScannedPair) -> str:
    path = entry.pair.image
    return name_of(path, root if path.is_relative_to(root) else Path(path.anchor))


def suggest_recipe(
    tree: Tree,
    division: RecipeSplits,
    rows: Sequence[ClassRow],
    *,
    labels: str | None,
    table_text: str | None,
    start: Start,
) -> Recipe | None:
    """Return the recipe, or None where nothing can be learned.

    Args:
        tree: The recognized dataset.
        division: Its splits.
        rows: Its classes.
        labels: Name or path of an existing class table.
        table_text: Text of a class table to be written beside the recipe.
        start: Network and weights.
    """
    train = division.splits["train"]
    classes = {row.name for row in rows if row.role == "class" and row.pixels} | {tree.unmasked}
    if not train or len(classes - {None}) < 2:
        return None
    lists = {}
    if division.by_lists:
        for split in ("train", "val", "test"):
            pairs = sorted((x.pair for x in division.splits[split]), key=attrgetter("name"))
            if pairs:
                lists[split] = list_text(pairs, tree.root)
        tables = {entry.pair.table or LAYOUTS[tree.layout].table for entry in train}
        if tree.layout != "folder" and labels is None:
            if len(tables) > 1:
                return None  # a list cannot say which mask is numbered in which way
            labels = tables.pop()
        tree = replace(tree, layout="folder")
    crop = suggest_crop([entry.size for entry in train])
    labels = "{beside}/labels.yaml" if table_text is not None else labels
    values = {"masks": tree.masks, "unmasked": tree.unmasked, "labels": labels}
    options = [f"  {key}: {_quoted(value)}" for key, value in values.items() if value is not None]
    options += [f"  {s}_split: '{{beside}}/{s}'   # the list {s}.txt there" for s in lists]
    return Recipe(_template(tree, train, rows, options, start, crop), table_text, lists)


def _template(
    tree: Tree,
    train: Sequence[ScannedPair],
    rows: Sequence[ClassRow],
    options: Sequence[str],
    start: Start,
    crop: tuple[int, int],
) -> str:
    batch = _batch(crop, len(train))
    epochs = min(max(math.ceil(STEPS * batch / len(train)), EPOCHS[0]), EPOCHS[1])
    # within the first epoch, so that a short try also runs
    warmup = min(100, len(train) // batch - 1)
    classes = [row for row in rows if row.role == "class"]
    rare = [row.name for row in classes if row.share < 0.02]
    scarce = any(row.share < 0.001 for row in classes) and len(train) >= 50
    sizes = Counter(entry.size for entry in train)
    (height, width), _ = sizes.most_common(1)[0]
    shape = f"{len(sizes)} sizes, often " * (len(sizes) > 1) + f"{height}x{width}"
    lines = [
        f"# {tree.root.resolve().name}: {counted(len(train), 'training image')} ({shape}), {len(classes)} classes.",
        "#",
        "# Source:    hrseg data check; a start to improve on, nothing in it was tuned on these images.",
        "# Run:       hrseg fit --config {stem}.yaml",
        "",
        "model:",
        f"  backbone: {start.backbone}",
        *[
            f"  weights: {start.weights}   # is on this machine; larger networks have hrnet_w18.ms_in1k and others",
            "  new_head: true",
        ][: 2 * bool(start.weights)],
        "",
        "data:",
        f"  layout: {tree.layout}",
        f"  root: {_quoted(str(tree.root.resolve()))}",
        *options,
        f"  crop: [{crop[0]}, {crop[1]}]",
        "  scale_min: 0.5",
        "  scale_max: 2.0",
        "  photometric: 0.3",
        *["  sampling: rare                # a class has less than a thousandth of the pixels"] * scarce,
        f"  batch_size: {batch}",
        "",
        "optim:",
        "  name: adamw",
        "  lr: 0.001",
        "  weight_decay: 0.01",
        "  no_decay_norms: true",
        *[f"  warmup_steps: {warmup}"] * bool(warmup),
        "",
        *[
            "loss:",
            f"  terms: {{cross_entropy: 1.0, dice: 1.0}}   # dice, since few pixels are {', '.join(rare[:3])}",
            "",
        ][: 3 * bool(rare)],
        "trainer:",
        f"  max_epochs: {epochs}",
        f"  val_every_epochs: {max(1, epochs // 20)}",
        "",
        "run:",
        "  name: {stem}",
    ]
    return "\n".join(lines) + "\n"


def _batch(crop: tuple[int, int], images: int) -> int:
    fits = max(2, min(8, round(8 * 512 * 512 / (math.prod(crop)))))
    return max(1, min(fits, images))


def _multiple_of_stride(side: float) -> int:
    return max(2 * _STRIDE, int(side) // _STRIDE * _STRIDE)


def _quoted(text: str) -> str:
    """Quote a path for YAML where it needs it."""
    plain = all(letter.isalnum() or letter in "/._-+" for letter in text) and text[:1] not in "-"
    return text if plain and text.isascii() else "'" + text.replace("'", "''") + "'"

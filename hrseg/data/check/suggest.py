"""A recipe that trains on what was found: crop, batch, length, table, and lists where the layout needs them."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrseg.data.check.copies import Couple, joined
from hrseg.data.check.recognise import Tree
from hrseg.data.check.result import ClassRow, Recipe, counted
from hrseg.data.check.scan import Look

CROP_AREA = 512 * 1024
"""Pixels of the largest crop that is suggested."""
STEPS = 4000
"""Optimiser steps that a suggested training takes, within EPOCHS."""
EPOCHS = (20, 200)
_STRIDE = 32


@dataclass(frozen=True)
class Start:
    """What the suggested network starts from: weights that are on this machine already.

    Attributes:
        backbone: Its name.
        weights: A tag, or None for a random start.
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
    return _stepped(height * shrink), _stepped(width * shrink)


def divide(
    looks: Sequence[Look], couples: Sequence[Couple], val_share: float, seed: int
) -> dict[str, list[Look]]:
    """Divide images into train and val: copies together, and the same way each time.

    Args:
        looks: All that may be used.
        couples: Positions of images that belong together.
        val_share: Part of the images for val.
        seed: Another seed, another division.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for index, first in enumerate(joined(len(looks), couples)):
        groups[first].append(index)
    # order by a hash of the name, so that a new image moves no other
    order: list[list[int]] = sorted(
        groups.values(),
        key=lambda group: hashlib.sha256(
            f"{seed}/{looks[group[0]].pair.name}".encode()
        ).hexdigest(),
    )
    wanted = max(1, round(val_share * len(looks)))
    val: set[int] = set()
    for group in order:
        if len(val) + len(group) <= max(wanted, 1) and len(val) < wanted:
            val |= set(group)
    if not val and len(order) > 1:
        smallest = min(order, key=len)
        val = set(smallest)
    return {
        "train": [look for i, look in enumerate(looks) if i not in val],
        "val": [look for i, look in enumerate(looks) if i in val],
    }


def suggest(
    tree: Tree,
    looks: Sequence[Look],
    rows: Sequence[ClassRow],
    *,
    labels: str | None,
    table_text: str | None,
    start: Start,
    couples: Sequence[Couple] = (),
    val_share: float = 0.2,
    seed: int = 0,
) -> Recipe | None:
    """Make the recipe.

    Args:
        tree: Where the files lie.
        looks: What they showed.
        rows: Classes and their shares.
        labels: Name or path of an existing table; None takes the layout's or `table_text`.
        table_text: A table to be written beside the recipe.
        start: Network and weights to start from.
        couples: Images that must stay in one split.
        val_share: Part that validates where there is no split.
        seed: Of that division.

    Returns:
        None where nothing can be learned.
    """
    good = [look for look in looks if look.good and look.pair.mask]
    parts = defaultdict(list)
    for look in good:
        parts[look.split].append(look)
    lists: dict[str, str] = {}
    if tree.layout == "folder" and not (
        tree.plain and len(good) == sum(bool(x.pair.mask) for x in looks)
    ):
        if not (parts["train"] and parts["val"]):
            pool = parts["train"] + parts["all"] + parts["val"] or good
            place = {id(look): index for index, look in enumerate(pool)}
            position = {index: place.get(id(look)) for index, look in enumerate(looks)}
            inside = [
                (a, b)
                for i, j in couples
                if (a := position[i]) is not None and (b := position[j]) is not None
            ]
            parts |= divide(pool, inside, val_share, seed)
            parts["val"] = parts["val"] or parts["train"][:1]
        tests = [look for look in looks if look.split == "test" and not look.image_error]
        lists = {split: _list(tree.root, parts[split]) for split in ("train", "val")}
        if tests:
            lists["test"] = _list(tree.root, [look for look in tests if look.good])
    train = parts["train"] or good
    if not train or len({row.name for row in rows if row.role == "class" and row.pixels}) < 2:
        return None
    crop = suggest_crop([look.size for look in train])
    batch = _batch(crop, len(train))
    epochs = min(max(math.ceil(STEPS * batch / len(train)), EPOCHS[0]), EPOCHS[1])
    return Recipe(
        _template(tree, train, rows, lists, labels, table_text, start, crop, batch, epochs),
        table_text,
        lists,
    )


def _template(
    tree: Tree,
    train: Sequence[Look],
    rows: Sequence[ClassRow],
    lists: dict[str, str],
    labels: str | None,
    table_text: str | None,
    start: Start,
    crop: tuple[int, int],
    batch: int,
    epochs: int,
) -> str:
    warmup = min(
        100, len(train) // batch - 1
    )  # within the first epoch, so that a short try runs too
    classes = [row for row in rows if row.role == "class"]
    rare = [row.name for row in classes if row.share < 0.02]
    sizes = Counter(look.size for look in train)
    (height, width), _ = sizes.most_common(1)[0]
    shape = (
        f"{height}x{width}" if len(sizes) == 1 else f"{len(sizes)} sizes, often {height}x{width}"
    )
    lines = [
        f"# {tree.root.resolve().name}: {counted(len(train), 'training image')} ({shape}), {len(classes)} classes.",
        "#",
        "# Source:    hrseg data check; a start to improve on, nothing in it was tuned on these images.",
        "# Run:       hrseg fit --config {stem}.yaml",
        "",
        "model:",
        f"  backbone: {start.backbone}",
    ]
    if start.weights:
        lines += [
            f"  weights: {start.weights}   # is on this machine; larger networks have hrnet_w18.ms_in1k and others",
            "  new_head: true",
        ]
    lines += [
        "",
        "data:",
        f"  layout: {tree.layout}",
        f"  root: {_quoted(str(tree.root.resolve()))}",
    ]
    if table_text is not None:
        lines.append("  labels: '{beside}/labels.yaml'")
    elif labels is not None:
        lines.append(f"  labels: {_quoted(labels)}")
    for split in lists:
        lines.append(f"  {split}_split: '{{beside}}/{split}'   # the list {split}.txt there")
    lines += [
        f"  crop: [{crop[0]}, {crop[1]}]",
        "  scale_min: 0.5",
        "  scale_max: 2.0",
        "  photometric: 0.3",
    ]
    if any(row.share < 0.001 for row in classes) and len(train) >= 50:
        lines.append(
            "  sampling: rare                # a class has less than a thousandth of the pixels"
        )
    lines += [
        f"  batch_size: {batch}",
        "",
        "optim:",
        "  name: adamw",
        "  lr: 0.001",
        "  weight_decay: 0.01",
        "  no_decay_norms: true",
        *([f"  warmup_steps: {warmup}"] if warmup else []),
        "",
    ]
    if rare:
        lines += [
            "loss:",
            f"  terms: {{cross_entropy: 1.0, dice: 1.0}}   # dice, since few pixels are {', '.join(rare[:3])}",
            "",
        ]
    lines += [
        "trainer:",
        f"  max_epochs: {epochs}",
        f"  val_every_epochs: {max(1, epochs // 20)}",
        "",
        "run:",
        "  name: {stem}",
    ]
    return "\n".join(lines) + "\n"


def _list(root: Path, looks: Sequence[Look]) -> str:
    lines = []
    for look in sorted(looks, key=lambda look: look.pair.name):
        words = [
            path.relative_to(root).as_posix() for path in (look.pair.image, look.pair.mask) if path
        ]
        lines.append("\t".join(words) if len(words) > 1 else f"{words[0]}\t")
    return "\n".join(lines) + "\n"


def _batch(crop: tuple[int, int], images: int) -> int:
    fits = max(2, min(8, round(8 * 512 * 512 / (crop[0] * crop[1]))))
    return max(1, min(fits, images))


def _stepped(side: float) -> int:
    return max(2 * _STRIDE, int(side) // _STRIDE * _STRIDE)


def _quoted(text: str) -> str:
    """Quote a path for YAML where it needs it."""
    plain = all(letter.isalnum() or letter in "/._-+" for letter in text) and text[:1] not in "-"
    return text if plain and text.isascii() else "'" + text.replace("'", "''") + "'"

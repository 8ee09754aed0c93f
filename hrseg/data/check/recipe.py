"""A recipe that trains on what was found: crop, batch, length, table, and lists where the layout needs them."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import numpy as np

from hrseg.data.check.findings import ClassRow, Finding, Recipe, counted, named
from hrseg.data.check.groups import (
    Couple,
    group_images,
    joined,
    pairs_of,
    telling_folders,
    too_few,
)
from hrseg.data.check.layout import Tree
from hrseg.data.check.scan import Look
from hrseg.data.layouts import LAYOUTS
from hrseg.data.layouts.pairs import list_text, name_of

CROP_AREA = 512 * 1024
"""Pixels of the largest crop that is suggested."""
STEPS = 4000
"""Optimizer steps that a suggested training takes, within EPOCHS."""
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
    """Divide images into train and val: copies together, and the same way each time."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, first in enumerate(joined(len(looks), couples)):
        groups[first].append(index)
    # order by a hash of the name, so that a new image moves no other
    order: list[list[int]] = sorted(
        groups.values(),
        key=lambda group: hashlib.sha256(
            f"{seed}/{looks[group[0]].pair.name}".encode(errors="surrogateescape")
        ).hexdigest(),
    )
    wanted = max(1, round(val_share * len(looks)))
    val: set[int] = set()
    for group in order:
        if len(val) + len(group) <= min(wanted, len(looks) - 1):
            val |= set(group)
    if not val and len(order) > 1:
        smallest: list[int] = min(order, key=len)
        val = set(smallest)
    return {
        "train": [look for i, look in enumerate(looks) if i not in val],
        "val": [look for i, look in enumerate(looks) if i in val],
    }


@dataclass
class Parts:
    """Who is in which split of the recipe.

    Attributes:
        splits: train, val and test → what can be used of them.
        by_lists: Whether lists must say so.
        findings: What is to be told about it.
    """

    splits: dict[str, list[Look]]
    by_lists: bool
    findings: list[Finding] = field(default_factory=list)


def part(
    tree: Tree,
    looks: Sequence[Look],
    couples: Sequence[Couple] = (),
    *,
    val_share: float = 0.2,
    seed: int = 0,
    by: str | None = None,
) -> Parts:
    """Divide what can be used into train and val, unless the tree is divided already; test stays test.

    Couples stay in one split, and so does what `by` groups, see `group_images`; None keeps folders whole that look like
    patients or flights.

    Raises:
        ConfigError: `by` cannot be used.
        DataError: `by` makes fewer than two groups.
    """
    able = [look for look in looks if look.pair.mask or tree.unmasked is not None]
    good = [look for look in able if look.good]
    splits: dict[str, list[Look]] = defaultdict(list)
    for look in good:
        splits[look.split].append(look)
    splits["test"] = [x for x in looks if x.split == "test" and x.good]
    parts = Parts(splits, by_lists=not tree.plain or len(good) < len(able))
    if splits["train"] and splits["val"]:
        return parts
    parts.by_lists = True
    pool = [look for look in good if look.split != "test"]
    if not pool:
        if good:
            parts.findings.append(Finding("error", "only_test", _ONLY_TEST))
        return parts
    names = {look.pair: _place(tree.root, look) for look in pool}
    folders = telling_folders(names) if by is None else []
    groups = group_images(names, "folder" if folders else by or "none")
    if by not in (None, "none") and len(groups) < 2 < len(pool):
        raise too_few(groups, by, ("train", "val"))
    place = {look.pair: index for index, look in enumerate(pool)}
    within = [
        (place[looks[i].pair], place[looks[j].pair])
        for i, j in couples
        if looks[i].pair in place and looks[j].pair in place
    ]
    together = [*within, *pairs_of([[place[pair] for pair in g] for g in groups.values()])]
    splits |= divide(pool, together, val_share, seed)
    if folders:
        lost = _values(pool) - _values(splits["train"])
        if lost or not splits["val"]:
            splits |= divide(pool, within, val_share, seed)
        parts.findings.append(Finding("note", "folders", _of_folders(folders, len(lost))))
    if not splits["val"]:
        splits["val"] = splits["train"][:1]
        parts.findings.append(Finding("warning", "one_image", _ONE_IMAGE))
    return parts


_ONLY_TEST = (
    "All pairs lie in split 'test', and no training uses a test. If they are not one, rename the folder or the list, "
    "or divide them: hrseg data split ROOT --from test"
)
_ONE_IMAGE = (
    "There is one usable image, or copies of one: it is learned and validated alike, so the score says nothing about "
    "other images. Add images."
)


def _of_folders(folders: Sequence[str], lost: int) -> str:
    text = f"Images lie in {len(folders)} folders ({named(folders)}): patients, flights or films?"
    if lost:
        return (
            f"{text} Each whole in one split (--by folder) would leave the training without {counted(lost, 'value')} "
            "of the masks, so single images are divided. Divide by hand if images of a folder look alike."
        )
    return f"{text} The recipe keeps each in one split; --by none divides single images."


def _values(looks: Sequence[Look]) -> set[int]:
    return {value for look in looks for value in look.values or ()}


def _place(root: Path, look: Look) -> str:
    path = look.pair.image
    return name_of(path, root if path.is_relative_to(root) else Path(path.anchor))


def suggest(
    tree: Tree,
    parts: Parts,
    rows: Sequence[ClassRow],
    *,
    labels: str | None,
    table_text: str | None,
    start: Start,
) -> Recipe | None:
    """Make the recipe, or return None where nothing can be learned.

    `labels` names an existing table, `table_text` is one to be written beside the recipe.
    """
    train = parts.splits["train"]
    classes = {row.name for row in rows if row.role == "class" and row.pixels} | {tree.unmasked}
    if not train or len(classes - {None}) < 2:
        return None
    lists = {}
    if parts.by_lists:
        used = [split for split in ("train", "val", "test") if parts.splits[split]]
        lists = {
            split: list_text(
                sorted((x.pair for x in parts.splits[split]), key=attrgetter("name")), tree.root
            )
            for split in used
        }
        tables = {look.pair.table or LAYOUTS[tree.layout].table for look in train}
        if tree.layout != "folder" and labels is None:
            if len(tables) > 1:
                return None  # a list cannot say which mask is numbered in which way
            labels = tables.pop()
        tree = replace(tree, layout="folder")
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
    warmup = min(100, len(train) // batch - 1)  # within the first epoch: a short try runs too
    classes = [row for row in rows if row.role == "class"]
    rare = [row.name for row in classes if row.share < 0.02]
    hardly = any(row.share < 0.001 for row in classes) and len(train) >= 50
    sizes = Counter(look.size for look in train)
    (height, width), _ = sizes.most_common(1)[0]
    shape = f"{len(sizes)} sizes, often " * (len(sizes) > 1) + f"{height}x{width}"
    options = {
        "masks": tree.masks,
        "unmasked": tree.unmasked,
        "labels": "{beside}/labels.yaml" if table_text is not None else labels,
    }
    given = [f"  {key}: {_quoted(value)}" for key, value in options.items() if value is not None]
    told = [f"  {s}_split: '{{beside}}/{s}'   # the list {s}.txt there" for s in lists]
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
        *given,
        *told,
        f"  crop: [{crop[0]}, {crop[1]}]",
        "  scale_min: 0.5",
        "  scale_max: 2.0",
        "  photometric: 0.3",
        *["  sampling: rare                # a class has less than a thousandth of the pixels"]
        * hardly,
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
    fits = max(2, min(8, round(8 * 512 * 512 / (crop[0] * crop[1]))))
    return max(1, min(fits, images))


def _stepped(side: float) -> int:
    return max(2 * _STRIDE, int(side) // _STRIDE * _STRIDE)


def _quoted(text: str) -> str:
    """Quote a path for YAML where it needs it."""
    plain = all(letter.isalnum() or letter in "/._-+" for letter in text) and text[:1] not in "-"
    return text if plain and text.isascii() else "'" + text.replace("'", "''") + "'"

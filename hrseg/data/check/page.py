"""Page of a dataset check: findings, classes, a contact sheet with masks to fade in, and the recipe."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.data.check.findings import ClassRow, Result, counted
from hrseg.data.check.scan import ScannedPair
from hrseg.data.dataset import read_ids
from hrseg.errors import DataError
from hrseg.imaging import read_image
from hrseg.viz.pages import Picture, render, thumbnails
from hrseg.viz.pages import write_page as write

SHEET = 24
"""Pairs on the contact sheet."""
SIDE = 440
"""Longest side of a picture there, in pixels."""
_FILES = 500  # listed under a finding


def write_page(result: Result, path: str | Path) -> None:
    """Write the page.

    Raises:
        DataError: The file cannot be written.
    """
    write(path, "check.html", **_values(result))


def page(result: Result) -> str:
    """Return the page as text."""
    return render("check.html", **_values(result))


def _values(result: Result) -> dict[str, Any]:
    splits = [split for split, n in result.splits.items() if n["masks"]]
    recipe = result.recipe
    blocks = []
    if recipe is not None:
        blocks = [
            (
                "write all files, and train",
                f"hrseg data check {shlex.quote(str(result.root))} --write mine.yaml\nhrseg fit --config mine.yaml",
            ),
            ("mine.yaml", recipe.text("mine")),
            ("mine_data/labels.yaml", recipe.labels),
        ]
    return {
        "title": result.root.resolve().name,
        "result": result,
        "verdict": _verdict(result),
        "tiles": _tiles(result),
        "findings": [
            (
                finding,
                counted(len(finding.files), "file") if len(finding.files) > 1 else "",
                finding.files[:_FILES],
                len(finding.files) - _FILES,
            )
            for finding in result.findings
        ],
        "classes": sorted(result.classes, key=lambda row: -row.pixels),
        "splits": splits if len(splits) > 1 else [],
        "largest": max((row.share for row in result.classes), default=0) or 1.0,
        "sheet": list(_sheet(result)),
        "blocks": [(name, text) for name, text in blocks if text is not None],
        "pairs": counted(result.images["count"], "pair"),
    }


def _verdict(result: Result) -> tuple[str, str]:
    """Level and sentence."""
    if result.errors:
        return "error", f"{counted(result.errors, 'error')} would stop or spoil a training"
    warnings = sum(finding.level == "warning" for finding in result.findings)
    if warnings:
        return "warning", f"Ready to train, with {counted(warnings, 'warning')}"
    return "good", "Ready to train"


def _tiles(result: Result) -> list[tuple[str, str, str]]:
    images, masks = result.images, result.masks
    splits = [f"{split} {n['images']:,}" for split, n in result.splits.items() if split != "all"]
    sizes = images["sizes"]
    frequent = f"{sizes[0]['height']} × {sizes[0]['width']}" if sizes else "none"
    learned = sum(row.role == "class" for row in result.classes)
    crop = " × ".join(map(str, images["crop"])) if images["crop"] else "none"
    return [
        ("Pairs", f"{images['count']:,}", " · ".join(splits) or "no splits yet"),
        ("Layout", result.layout, result.where or "as published"),
        (
            "Images",
            frequent,
            f"{counted(len(sizes), 'size')}, height × width · {_forms(images['forms'])}",
        ),
        ("Masks", counted(masks["values"], "value"), _forms(masks["forms"])),
        ("Classes", str(learned), Path(str(masks["table"] or "guessed")).name),
        ("Crop", crop, "suggested, height × width"),
        (
            "Mean",
            " ".join(f"{value:.2f}".removeprefix("0") for value in images["mean"]),
            "std " + " ".join(f"{value:.2f}" for value in images["std"]),
        ),
    ]


def _forms(forms: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {form}" for form, count in list(forms.items())[:3])


def _sheet(result: Result) -> Iterator[tuple[str, str, Picture, Picture]]:
    """Name, caption, image and mask of each pair of the contact sheet."""
    for one in chosen(result.scanned, result.classes):
        try:
            image, ids = read_image(one.pair.image), read_ids(one.pair)
        except DataError:
            continue
        if ids is not None:
            height, width = image.shape[:2]
            note = "" if one.size == one.mask_size else " · sizes differ"
            caption = f"{one.split} · {height} × {width}{note}"
            pictures = thumbnails(image, _painted(ids, result.classes), SIDE)
            yield one.pair.name, caption, *pictures


def chosen(scanned: Sequence[ScannedPair], rows: Iterable[ClassRow]) -> list[ScannedPair]:
    """Choose pairs to show: one for each rare or unknown value, then evenly from all splits."""
    readable = [one for one in scanned if one.kind in ("ids", "colors") and not one.image_error]
    picked: dict[int, ScannedPair] = {}
    firsts = [row.first for row in sorted(rows, key=lambda row: (row.role != "unknown", row.pixels))]
    for first in firsts[: SHEET // 3]:
        found = next((one for one in readable if str(one.pair.mask).endswith(first)), None)
        if found:
            picked[id(found)] = found
    step = max(1, len(readable) // max(1, SHEET - len(picked)))
    for one in readable[::step]:
        if len(picked) < SHEET:
            picked.setdefault(id(one), one)
    return [one for one in readable if id(one) in picked]


def _painted(ids: np.ndarray, rows: Sequence[ClassRow]) -> np.ndarray:
    """Paint a mask with the colors of the table; background and ignored values stay transparent.

    Shape:
        (H, W) or (H, W, 3) → (H, W, 4)
    """
    if ids.ndim == 3:
        painted = np.dstack([ids, np.full(ids.shape[:2], 255, np.uint8)])
        for row in rows:
            if _is_clear(row):
                color = [int(number) for number in row.value.strip("()").split(",")]
                painted[(ids == np.array(color)).all(axis=-1)] = 0
        return painted
    table = np.zeros((max(int(ids.max(initial=0)), 255) + 1, 4), np.uint8)  # id → RGBA
    for row in rows:
        if _is_clear(row):
            continue
        ends = [int(number) for number in row.value.split("-") if number.lstrip("-").isdecimal()]
        for value in range(ends[0], ends[-1] + 1) if len(ends) == 2 else ends:
            if 0 <= value < len(table):
                table[value] = (*row.color, 255)
    return table[ids.clip(0)]


def _is_clear(row: ClassRow) -> bool:
    return row.role == "ignored" or row.name == "background"

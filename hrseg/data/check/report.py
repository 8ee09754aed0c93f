"""Terminal report of a check."""

import shlex
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hrseg.data.check.findings import ClassRow, Result, counted
from hrseg.errors import columns, percent

MAX_ROWS = 40
"""Rows of a table on the terminal; page and JSON have all."""
_MARKS = {"error": "✗", "warning": "!", "note": "·"}
Style = Callable[[str, str], str]


def report(result: Result, written: Path | None = None, style: Style = lambda text, code: text) -> str:
    """Return the report; `style` colors a text by an ANSI code, `written` is where the recipe was saved."""
    parts = [_summary(result, style), _classes(result, style), _findings(result, style)]
    parts.append(_recipe(result, written, style))
    return "\n\n".join(part for part in parts if part)


def _summary(result: Result, style: Style) -> str:
    layout = result.layout if result.layout != "folder" else f"your own folder: {result.where}"
    parts = []
    for split, n in result.splits.items():
        masks_of = "" if n["masks"] == n["images"] else f" ({n['masks']:,} masks)"
        parts.append(f"{split} {n['images']:,}{masks_of}")
    splits = ", ".join(parts)
    if list(result.splits) == ["all"]:
        splits = splits.replace("all ", "none; pairs: ")
    images, masks = result.images, result.masks
    rows = [
        ("layout", layout),
        ("splits", splits),
        ("images", f"{_forms(images)}; {_sizes(images)}"),
        ("", f"mean {_numbers(images['mean'])}, std {_numbers(images['std'])}"),
        ("masks", f"{_forms(masks)}; {_kind(masks)}"),
    ]
    if masks["table"]:
        rows.append(("table", str(masks["table"])))
    title = style(str(result.root), "1")
    return "\n".join([title, *(f"  {style(f'{name:<8}', '2')}{text}" for name, text in rows)])


def _classes(result: Result, style: Style) -> str:
    if not result.classes:
        return ""
    splits = [split for split, n in result.splits.items() if n["masks"]]
    by_split = splits if len(splits) > 1 else []
    rows: list[tuple[str, ...]] = [("value", "name", "pixels", *by_split, "masks", "first in")]
    for one in _chosen(result.classes):
        name = one.name if one.role == "class" else f"({one.name or one.role})"
        shares = [percent(one.by_split.get(split, 0)) for split in by_split]
        rows.append((one.value, name, percent(one.share), *shares, f"{one.images:,}", one.first))
    lines = columns(rows, left=(1, len(rows[0]) - 1), indent="  ")
    lines[0] = style(lines[0], "2")
    if len(result.classes) > MAX_ROWS:
        lines.append(f"  … {len(result.classes) - MAX_ROWS} more (--json or --html shows all)")
    return "\n".join([style("Values of the masks", "1"), *lines])


def _chosen(rows: tuple[ClassRow, ...]) -> list[ClassRow]:
    """Choose unknown values and the most frequent classes where there are too many rows."""
    if len(rows) <= MAX_ROWS:
        return list(rows)
    keep = sorted(rows, key=lambda row: (row.role != "unknown", -row.pixels))[:MAX_ROWS]
    return [row for row in rows if row in keep]


def _findings(result: Result, style: Style) -> str:
    if not result.findings:
        return f"{style('Found', '1')}\n  nothing to complain of"
    codes = {"error": "31;1", "warning": "33", "note": "2"}
    lines = []
    for finding in result.findings:
        text = textwrap.fill(
            finding.text,
            100,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines.append(f"  {style(_MARKS[finding.level], codes[finding.level])} {text.lstrip()}")
    return "\n".join([style("Found", "1"), *lines])


def _recipe(result: Result, written: Path | None, style: Style) -> str:
    recipe = result.recipe
    if recipe is None:
        return f"{style('Recipe', '1')}\n  none: correct the errors marked ✗ first"
    if written is not None:
        beside = [path.name for path in recipe.files(written)][:-1]
        also = f" (and {', '.join(beside)} in {written.stem}_data)" if beside else ""
        text = recipe.text(written.stem, written.parent)
        return (
            f"{style(f'The recipe, written to {written}', '1')}{also}\n\n{_indented(text)}\n"
            f"{style('Train', '1')}\n  hrseg fit --config {shlex.quote(str(written))}"
        )
    # with lists of images the text alone would not train
    title = "The recipe, as --write saves it with its lists" if recipe.lists else "The recipe to paste"
    parts = [style(title, "1"), "", _indented(recipe.text("mine"))]
    if recipe.labels is not None:
        title = style("Its class table, mine_data/labels.yaml", "1")
        parts += [title, "", _indented(_shortened(recipe.labels))]
    check = f"hrseg data check {shlex.quote(str(result.root))}"
    parts += [
        style("Have all of it written, and train", "1"),
        f"  {check} --write mine.yaml",
        "  hrseg fit --config mine.yaml",
    ]
    return "\n".join(parts)


def _shortened(text: str) -> str:
    lines = text.splitlines()
    if len(lines) <= MAX_ROWS:
        return text
    return "\n".join([*lines[:MAX_ROWS], f"# … {len(lines) - MAX_ROWS} more lines"])


def _indented(text: str) -> str:
    return textwrap.indent(text.rstrip("\n"), "  ") + "\n"


def _forms(facts: Mapping[str, Any]) -> str:
    forms = ", ".join(f"{count:,} {form}" for form, count in facts["forms"].items())
    return forms or counted(facts["count"], "file")


def _sizes(images: Mapping[str, Any]) -> str:
    sizes = images["sizes"]
    if not sizes:
        return "none readable"
    shown = [f"{size['height']}x{size['width']}" for size in sizes]
    if len(sizes) == 1:
        return f"all {shown[0]} (height x width)"
    if len(sizes) <= 3:
        counts = [f"{size['count']:,}" for size in sizes]
        return ", ".join(f"{n} of {text}" for n, text in zip(counts, shown, strict=True))
    areas = [size["height"] * size["width"] for size in sizes]
    low, high = (shown[areas.index(area)] for area in (min(areas), max(areas)))
    return f"{len(sizes):,} sizes, {low} to {high}, most often {shown[0]}"


def _kind(masks: Mapping[str, Any]) -> str:
    kinds = masks["kinds"]
    if not kinds:
        return "none readable"
    if masks["binary"]:
        return "values 0 and 255"
    parts = [f"{count:,} of {kind}" for kind, count in kinds.items()]
    return ", ".join([*parts, f"{counted(masks['values'], 'value')} in all"])


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)

"""A result in words, for the terminal."""

import shlex
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hrseg.data.check.findings import ClassRow, Result, counted
from hrseg.errors import columns, percent

MOST_ROWS = 40
"""Values shown in a table on the terminal; the page and JSON have all."""
_MARKS = {"error": "✗", "warning": "!", "note": "·"}
Style = Callable[[str, str], str]


def report(
    result: Result, written: Path | None = None, style: Style = lambda text, code: text
) -> str:
    """Write the report."""
    parts = [
        _head(result, style),
        _classes(result, style),
        _findings(result, style),
        _end(result, written, style),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(result: Result, style: Style) -> str:
    layout = result.layout if result.layout != "folder" else f"your own folder: {result.where}"
    splits = ", ".join(
        f"{split} {n['images']:,}"
        + ("" if n["masks"] == n["images"] else f" ({n['masks']:,} masks)")
        for split, n in result.splits.items()
    )
    images, masks = result.images, result.masks
    rows = [
        ("layout", layout),
        (
            "splits",
            splits.replace("all ", "none; pairs: ") if list(result.splits) == ["all"] else splits,
        ),
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
    if len(result.classes) > MOST_ROWS:
        lines.append(f"  … {len(result.classes) - MOST_ROWS} more (--json or --html shows all)")
    return "\n".join([style("Values of the masks", "1"), *lines])


def _chosen(rows: tuple[ClassRow, ...]) -> list[ClassRow]:
    """Keep what needs a look where there are too many rows."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    keep = sorted(rows, key=lambda row: (row.role != "unknown", -row.pixels))[:MOST_ROWS]
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


def _end(result: Result, written: Path | None, style: Style) -> str:
    recipe = result.recipe
    if recipe is None:
        return f"{style('Recipe', '1')}\n  none: mend what is marked ✗ first"
    if written is not None:
        beside = [path.name for path in recipe.files(written)][:-1]
        also = f" (and {', '.join(beside)} in {written.stem}_data)" if beside else ""
        text = recipe.text(written.stem, written.parent)
        return (
            f"{style(f'The recipe, written to {written}', '1')}{also}\n\n{_indented(text)}\n"
            f"{style('Train', '1')}\n  hrseg fit --config {shlex.quote(str(written))}"
        )
    # with lists of images the text alone would not train
    title = (
        "The recipe, as --write saves it with its lists" if recipe.lists else "The recipe to paste"
    )
    parts = [style(title, "1"), "", _indented(recipe.text("mine"))]
    if recipe.labels is not None:
        parts += [
            style("Its class table, mine_data/labels.yaml", "1"),
            "",
            _indented(_short(recipe.labels)),
        ]
    root = shlex.quote(str(result.root))
    parts += [
        style("Have all of it written, and train", "1"),
        f"  hrseg data check {root} --write mine.yaml",
        "  hrseg fit --config mine.yaml",
    ]
    return "\n".join(parts)


def _short(text: str) -> str:
    lines = text.splitlines()
    if len(lines) <= MOST_ROWS:
        return text
    return "\n".join([*lines[:MOST_ROWS], f"# … {len(lines) - MOST_ROWS} more lines"])


def _indented(text: str) -> str:
    return textwrap.indent(text.rstrip("\n"), "  ") + "\n"


def _forms(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count:,} {form}" for form, count in facts["forms"].items()) or counted(
        facts["count"], "file"
    )


def _sizes(images: Mapping[str, Any]) -> str:
    sizes = images["sizes"]
    if not sizes:
        return "none readable"
    shown = [f"{size['height']}x{size['width']}" for size in sizes]
    if len(sizes) == 1:
        return f"all {shown[0]} (height x width)"
    if len(sizes) <= 3:
        return ", ".join(
            f"{size['count']:,} of {text}" for size, text in zip(sizes, shown, strict=True)
        )
    low, high = min(sizes, key=_area), max(sizes, key=_area)
    ends = f"{low['height']}x{low['width']} to {high['height']}x{high['width']}"
    return f"{len(sizes):,} sizes, {ends}, most often {shown[0]}"


def _area(size: Mapping[str, int]) -> int:
    return size["height"] * size["width"]


def _kind(masks: Mapping[str, Any]) -> str:
    kinds = masks["kinds"]
    if not kinds:
        return "none readable"
    if masks["binary"]:
        return "values 0 and 255"
    return (
        ", ".join(f"{count:,} of {kind}" for kind, count in kinds.items())
        + f", {counted(masks['values'], 'value')} in all"
    )


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)

"""Class table of a dataset: the layout's, a file's, or one inferred from the values of the masks.

Every inference becomes a finding, since a wrong table spoils a training without any error. Counts of pixels per value
are here as well.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hrseg.data.check.findings import (
    ClassRow,
    Finding,
    Level,
    Role,
    ValueStats,
    counted,
    relative,
    value_text,
    values_text,
)
from hrseg.data.check.guess_classes import TableBuilder, add_colors, add_ids, ignore_missing_data
from hrseg.data.check.layout import Tree
from hrseg.data.check.levels import IntendedValues, find_intended
from hrseg.data.check.scan import ScannedPair
from hrseg.data.layouts import LAYOUTS
from hrseg.errors import DataError, percent
from hrseg.labels import (
    IGNORE_INDEX,
    MAX_CLASSES,
    ClassTable,
    LabelSet,
    find_classes,
    load_labels,
    pack_colors,
)


def table_of(
    tree: Tree, scanned: Sequence[ScannedPair]
) -> tuple[LabelSet | None, str | None, str | None, Sequence[Finding]]:
    """Return the class table, its name or path if it exists, else the text of its file, and findings."""
    if tree.layout != "folder":
        return load_labels(str(LAYOUTS[tree.layout].table)), None, None, ()
    unreadable = []
    try:
        names = find_classes(tree.root)
    except DataError as error:  # the values of the masks are reported anyway
        names, unreadable = None, [Finding("error", "class_file", str(error))]
    masks = [entry for entry in scanned if entry.kind in ("ids", "colors")]
    if names and names.explicit and all(covers(names.labels, entry) for entry in masks):
        return names.labels, str(names.path), None, ()
    builder = TableBuilder()
    table = _infer_table(builder, scanned, names)
    findings = [*unreadable, *(_with_paths(finding, tree.root) for finding in builder.findings)]
    if table is None:
        return None, None, None, findings
    comment = f"Classes of {tree.root.resolve().name}, as hrseg data check found them. Change names and colors freely."
    if names:
        comment += f"\nNames are from {names.path.name}."
    return table, None, table.to_yaml(comment), findings


def _with_paths(finding: Finding, root: Path) -> Finding:
    files = tuple(relative(Path(file), root) for file in finding.files)
    text = finding.text.replace("{first}", files[0]) if files else finding.text
    return replace(finding, text=text, files=files)


def _palette(scanned: Sequence[ScannedPair], ids: Mapping[int, ValueStats]) -> np.ndarray | None:
    """Return the palette of palette masks, if it gives each used id a color of its own."""
    palettes = (entry.mask_form.palette for entry in scanned if entry.mask_form)
    palette = next((palette for palette in palettes if palette is not None), None)
    if palette is None:
        return None
    used = [value for value in ids if 0 <= value < len(palette)]
    colors = {tuple(palette[value].tolist()) for value in used}
    gray = all(len(set(color)) == 1 for color in colors)
    return None if len(colors) < len(used) or gray else palette


def covers(table: LabelSet, entry: ScannedPair) -> bool:
    """Return whether a table has every value of a mask."""
    return all(table.find(value, entry.kind == "colors") for value in entry.values or {})


def _infer_table(builder: TableBuilder, scanned: Sequence[ScannedPair], names: ClassTable | None) -> LabelSet | None:
    """Infer a table from the values of the masks."""
    ids, colors = seen_values(scanned, "ids"), seen_values(scanned, "colors")
    count = sum(entry.kind in ("ids", "colors") for entry in scanned)
    forms = [entry.mask_form for entry in scanned if entry.mask_form]
    by_color = _pixels(colors) > _pixels(ids)
    seen = colors if by_color else ids
    gray = by_color and all(value == (value & 255) * 0x010101 for value in seen)
    if gray:
        seen = {value & 255: replace(one, value=value & 255) for value, one in seen.items()}
    of_colors = by_color and not gray
    rows = names.rows if names else ()
    packed = {int(pack_colors(np.array(row.color))) for row in rows if row.color}
    listed = seen.keys() & (packed if of_colors else {row.id for row in rows if row.id is not None})
    if not of_colors:
        seen = ignore_missing_data(builder, seen, listed, {form.nodata for form in forms if form.nodata is not None})
    values = find_intended(seen, of_colors, listed, any(form.format == "JPEG" for form in forms))
    if values.artifacts:
        _report_artifacts(builder, seen, values, of_colors)
        if not values.snap:
            return None
    main = {value: seen[value] for value in values.intended}
    if of_colors:
        add_colors(builder, main, count, names)
    else:
        add_ids(builder, main, count, names, None if gray else _palette(scanned, ids))
    if gray:
        builder.rows = [replace(row, color=(row.id,) * 3) for row in builder.rows]
        builder.report(
            "note",
            "gray_rgb",
            "Masks hold ids as gray RGB, three equal channels. They are read by their gray; one channel would be "
            "smaller.",
        )
    try:
        return _merge_named(LabelSet("labels", tuple(builder.rows), values.snap), names)
    except DataError:
        extent = "" if of_colors or not seen else f" from {min(seen)} to {max(seen)}"
        builder.report(
            "error",
            "no_table",
            f"Masks hold {counted(len(seen), 'value')}{extent}, of which no table of 1 to "
            f"{MAX_CLASSES} classes with ids up to 65535 can be made. Are they instance numbers or photos? Give a "
            "table: --labels FILE.",
        )
        return None


def _pixels(seen: Mapping[int, ValueStats]) -> int:
    return sum(one.pixels for one in seen.values())


def _report_artifacts(
    builder: TableBuilder, seen: Mapping[int, ValueStats], values: IntendedValues, of_colors: bool
) -> None:
    """Report values that JPEG or resampling made, and how they are handled."""
    intended, artifacts = (values_text(v, of_colors, 6) for v in (sorted(values.intended), values.artifacts))
    pixels = sum(seen[value].pixels for value in values.artifacts)
    start = (
        f"Masks seem to be meant to hold {intended}, but {counted(pixels, 'pixel')} "
        f"({percent(pixels / _pixels(seen))}) hold {counted(len(values.artifacts), 'other value')} between or beside "
        f"them, such as {artifacts}, first in {{first}}: they were saved as JPEG, smoothed, or resized with "
        "interpolation. "
    )
    if values.snap:
        end = (
            f"Each is taken as the nearest of these, up to {values.snap} away ('snap' in the class table); edges are "
            "inexact. Better export the masks anew as PNG."
        )
    else:
        end = (
            "Their classes are ambiguous. Export the masks anew as PNG, without smoothing and with "
            "nearest-neighbor resizing; or, if these values are classes, name them in a table: --labels FILE."
        )
    level: Level = "warning" if values.snap else "error"
    builder.report(level, "smoothed", start + end, [str(seen[values.artifacts[0]].first)])


def _merge_named(inferred: LabelSet, names: ClassTable | None) -> LabelSet:
    """Return the named table with all its classes where the inferred one agrees with it, else the inferred one."""
    named = names.labels if names else inferred
    by_id = {row.id: row for row in named.labels}
    by_color = {row.color: row for row in named.labels} if names and names.by_color else {}
    pairs = [(row, by_color.get(row.color) or by_id.get(row.id)) for row in inferred.labels]
    ignored = {row for row in inferred.labels if row.train_id == IGNORE_INDEX}
    for row, found in pairs:
        void = found is None or found.train_id == IGNORE_INDEX
        if void != (row in ignored) or (found and not void and found.name != row.name):
            return inferred
    more = [row for row, found in pairs if found is None]
    if by_color:  # ids beside colors are arbitrary but unique
        more = [replace(row, id=max(by_id) + n) for n, row in enumerate(more, start=1)]
    return replace(named, labels=(*named.labels, *more), snap=inferred.snap)


def seen_values(scanned: Sequence[ScannedPair], kind: str) -> dict[int, ValueStats]:
    """Count every value of the masks of a kind, "ids" or "colors"."""
    seen: dict[int, ValueStats] = {}
    for number, entry in enumerate(scanned):
        if entry.kind == kind and entry.pair.mask is not None:
            for value, count in (entry.values or {}).items():
                one = seen.setdefault(value, ValueStats(value, entry.pair.mask, table=entry.pair.table))
                one.pixels += count
                one.images += 1
                one.by_split[entry.split] += count
                edge = (entry.edge or {}).get(value, 0)
                one.edge += edge
                one.soft += (entry.soft or {}).get(value, 0)
                one.sharp += entry.sharp
                if edge < count:
                    one.inside.add(number)
    return seen


def class_rows(
    scanned: Sequence[ScannedPair],
    labels: LabelSet | None,
    tables: Mapping[str, LabelSet],
    root: Path,
) -> list[ClassRow]:
    """Count every value of the masks by class; values of one class share a row."""
    seen = [(k, one) for k in ("colors", "ids") for _, one in sorted(seen_values(scanned, k).items())]
    totals = sum((one.by_split for _, one in seen), Counter[str]())
    rows: dict[tuple[str, str], ClassRow] = {}
    for kind, one in seen:
        of_colors = kind == "colors"
        table = labels if one.table is None else tables[one.table]
        role, name, color = _meaning(one.value, of_colors, table)
        text = value_text(one.value, of_colors)
        share = one.pixels / totals.total()
        shares = {split: count / totals[split] for split, count in one.by_split.items()}
        first = relative(one.first, root)
        row = ClassRow(text, name, color, role, one.pixels, share, one.images, first, shares)
        key = (role, name if role == "class" else text)
        before = rows.get(key)
        rows[key] = _merge_rows(before, row) if before else row
    return list(rows.values())


def _merge_rows(before: ClassRow, row: ClassRow) -> ClassRow:
    """Add up the rows of several ids of one class."""
    splits = {**before.by_split, **row.by_split}
    return replace(
        row,
        value=f"{before.value.partition('-')[0]}-{row.value}",
        pixels=before.pixels + row.pixels,
        share=before.share + row.share,
        images=max(before.images, row.images),
        first=before.first,
        by_split={s: before.by_split.get(s, 0) + row.by_split.get(s, 0) for s in splits},
    )


def _meaning(value: int, of_colors: bool, table: LabelSet | None) -> tuple[Role, str, tuple[int, int, int]]:
    row = table.find(value, of_colors) if table else None
    if row is None:
        return "unknown", "", (255, 0, 128) if table else (128, 128, 128)
    return "ignored" if row.train_id == IGNORE_INDEX else "class", row.name, row.color


def mean_and_std(scanned: Sequence[ScannedPair]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of R, G, B in 0..1 over all pixels."""
    pixels = sum(entry.size[0] * entry.size[1] for entry in scanned if not entry.image_error) or 1
    mean, squares = np.array([entry.sums for entry in scanned]).sum(axis=0) / pixels  # (3,) each
    return mean.tolist(), np.sqrt(np.maximum(squares - mean**2, 0)).tolist()

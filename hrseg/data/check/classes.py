"""A class table for masks that come without one: which values are classes, what they are called, what is ignored.

Every guess is told as a finding, since a wrong table teaches nonsense without any error. Here, too, pixels of every
value are counted, for the guess and for what is shown.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hrseg.data.check.findings import (
    ClassRow,
    Finding,
    Level,
    Role,
    Seen,
    below,
    counted,
    value_text,
    values_text,
)
from hrseg.data.check.guess_classes import Draft, by_colors, by_ids, set_aside
from hrseg.data.check.layout import Tree
from hrseg.data.check.levels import Levels, find_levels
from hrseg.data.check.scan import Look
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
    tree: Tree, looks: Sequence[Look]
) -> tuple[LabelSet | None, str | None, str | None, Sequence[Finding]]:
    """Return the table, the name or path it has already, or the text it is to be written with."""
    if tree.layout != "folder":
        return load_labels(str(LAYOUTS[tree.layout].table)), None, None, ()
    unread = []
    try:
        names = find_classes(tree.root)
    except DataError as error:  # the rest is told all the same
        names, unread = None, [Finding("error", "class_file", str(error))]
    if names and names.explicit:
        known = [knows(names.labels, x) for x in looks if x.kind in ("ids", "colors")]
        if all(known):
            return names.labels, str(names.path), None, ()
    draft = Draft()
    guess = _guessed(draft, looks, names)
    findings = [*unread, *(_with_paths(finding, tree.root) for finding in draft.findings)]
    if guess is None:
        return None, None, None, findings
    comment = f"Classes of {tree.root.resolve().name}, as hrseg data check found them. Change names and colors freely."
    if names:
        comment += f"\nNames are from {names.path.name}."
    return guess, None, guess.to_yaml(comment), findings


def _with_paths(finding: Finding, root: Path) -> Finding:
    files = tuple(below(Path(file), root) for file in finding.files)
    text = finding.text.replace("{first}", files[0]) if files else finding.text
    return replace(finding, text=text, files=files)


def _palette(looks: Sequence[Look], ids: Mapping[int, Seen]) -> np.ndarray | None:
    """Return the palette of palette masks, if it tells the used ids apart."""
    palettes = (look.mask_form.palette for look in looks if look.mask_form)
    palette = next((palette for palette in palettes if palette is not None), None)
    if palette is None:
        return None
    used = [value for value in ids if 0 <= value < len(palette)]
    colors = {tuple(palette[value].tolist()) for value in used}
    gray = all(len(set(color)) == 1 for color in colors)
    return None if len(colors) < len(used) or gray else palette


def knows(table: LabelSet, look: Look) -> bool:
    """Say whether a table has every value of a mask."""
    return all(table.find(value, look.kind == "colors") for value in look.values or {})


def _guessed(draft: Draft, looks: Sequence[Look], names: ClassTable | None) -> LabelSet | None:
    """Make a table for the values that masks hold."""
    ids, colors = seen_values(looks, "ids"), seen_values(looks, "colors")
    count = sum(look.kind in ("ids", "colors") for look in looks)
    forms = [look.mask_form for look in looks if look.mask_form]
    by_color = _pixels(colors) > _pixels(ids)
    seen = colors if by_color else ids
    gray = by_color and all(value == (value & 255) * 0x010101 for value in seen)
    if gray:
        seen = {value & 255: replace(one, value=value & 255) for value, one in seen.items()}
    of_colors = by_color and not gray
    rows = names.rows if names else ()
    packed = {int(pack_colors(np.array(row.color))) for row in rows if row.color}
    told = seen.keys() & (packed if of_colors else {row.id for row in rows if row.id is not None})
    if not of_colors:
        seen = set_aside(
            draft, seen, told, {form.nodata for form in forms if form.nodata is not None}
        )
    levels = find_levels(seen, of_colors, told, any(form.format == "JPEG" for form in forms))
    if levels.odd:
        _tell_odd(draft, seen, levels, of_colors)
        if not levels.snap:
            return None
    main = {value: seen[value] for value in levels.main}
    if of_colors:
        by_colors(draft, main, count, names)
    else:
        by_ids(draft, main, count, names, None if gray else _palette(looks, ids))
    if gray:
        draft.rows = [replace(row, color=(row.id,) * 3) for row in draft.rows]
        draft.say(
            "note",
            "gray_rgb",
            "Masks hold ids as gray RGB, three equal channels. They are read by their gray; one channel would be "
            "smaller.",
        )
    try:
        return _whole(LabelSet("labels", tuple(draft.rows), levels.snap), names)
    except DataError:
        draft.say(
            "error",
            "no_table",
            f"Masks hold {counted(len(seen), 'value')}{_extent(seen, of_colors)}, of which no table of 1 to "
            f"{MAX_CLASSES} classes with ids up to 65535 can be made. Are they instance numbers or photos? Give a "
            "table: --labels FILE.",
        )
        return None


def _pixels(seen: Mapping[int, Seen]) -> int:
    return sum(one.pixels for one in seen.values())


def _extent(seen: Mapping[int, Seen], of_colors: bool) -> str:
    if of_colors or not seen:
        return ""
    return f" from {min(seen)} to {max(seen)}"


def _tell_odd(draft: Draft, seen: Mapping[int, Seen], levels: Levels, of_colors: bool) -> None:
    """Tell which values are not meant, and what is done about them."""
    main, odd = (values_text(v, of_colors, 6) for v in (sorted(levels.main), levels.odd))
    pixels = sum(seen[value].pixels for value in levels.odd)
    start = (
        f"Masks seem to be meant to hold {main}, but {counted(pixels, 'pixel')} "
        f"({percent(pixels / _pixels(seen))}) hold {counted(len(levels.odd), 'other value')} between or beside them, "
        f"such as {odd}, first in {{first}}: they were saved as JPEG, smoothed, or resized with "
        "interpolation. "
    )
    if levels.snap:
        end = (
            f"Each is taken as the nearest of these, up to {levels.snap} away ('snap' in the class table); edges are "
            "inexact. Better export the masks anew as PNG."
        )
    else:
        end = (
            "Which classes they belong to cannot be told. Export the masks anew as PNG, without smoothing and with "
            "nearest-neighbor resizing; or, if these values are classes, name them in a table: --labels FILE."
        )
    level: Level = "warning" if levels.snap else "error"
    draft.say(level, "smoothed", start + end, [str(seen[levels.odd[0]].first)])


def _whole(guess: LabelSet, names: ClassTable | None) -> LabelSet:
    """Return the table that names the classes instead of its part that was seen, where both say the same."""
    told = names.labels if names else guess
    by_id = {row.id: row for row in told.labels}
    by_color = {row.color: row for row in told.labels} if names and names.by_color else {}

    pairs = [(row, by_color.get(row.color) or by_id.get(row.id)) for row in guess.labels]
    ignored = {row for row in guess.labels if row.train_id == IGNORE_INDEX}
    for row, found in pairs:
        void = found is None or found.train_id == IGNORE_INDEX
        if void != (row in ignored) or (found and not void and found.name != row.name):
            return guess
    more = [row for row, found in pairs if found is None]
    if by_color:  # ids of colors are of no matter, but each has its own
        more = [replace(row, id=max(by_id) + n) for n, row in enumerate(more, start=1)]
    return replace(told, labels=(*told.labels, *more), snap=guess.snap)


def seen_values(looks: Sequence[Look], kind: str) -> dict[int, Seen]:
    """Count every value of the masks of a kind, "ids" or "colors"."""
    seen: dict[int, Seen] = {}
    for number, look in enumerate(looks):
        if look.kind == kind and look.pair.mask is not None:
            for value, count in (look.values or {}).items():
                one = seen.setdefault(value, Seen(value, look.pair.mask, table=look.pair.table))
                one.pixels += count
                one.images += 1
                one.by_split[look.split] += count
                edge = (look.edge or {}).get(value, 0)
                one.edge += edge
                one.soft += (look.soft or {}).get(value, 0)
                one.sharp += look.sharp
                if edge < count:
                    one.inside.add(number)
    return seen


def class_rows(
    looks: Sequence[Look],
    labels: LabelSet | None,
    tables: Mapping[str, LabelSet],
    place: Callable[[Path], str],
) -> list[ClassRow]:
    """Name every value of the masks by the table; values of one name in one kind share a row."""
    seen = [(k, one) for k in ("colors", "ids") for _, one in sorted(seen_values(looks, k).items())]
    totals = sum((one.by_split for _, one in seen), Counter[str]())
    rows: dict[tuple[str, str], ClassRow] = {}
    for kind, one in seen:
        of_colors = kind == "colors"
        table = labels if one.table is None else tables[one.table]
        role, name, color = _meaning(one.value, of_colors, table)
        text = value_text(one.value, of_colors)
        share = one.pixels / totals.total()
        shares = {split: count / totals[split] for split, count in one.by_split.items()}
        first = place(one.first)
        row = ClassRow(text, name, color, role, one.pixels, share, one.images, first, shares)
        key = (role, name if role == "class" else text)
        before = rows.get(key)
        rows[key] = _joined(before, row) if before else row
    return list(rows.values())


def _joined(before: ClassRow, row: ClassRow) -> ClassRow:
    """Join the rows of several ids of one class."""
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


def _meaning(
    value: int, of_colors: bool, table: LabelSet | None
) -> tuple[Role, str, tuple[int, int, int]]:
    row = table.find(value, of_colors) if table else None
    if row is None:
        return "unknown", "", (255, 0, 128) if table else (128, 128, 128)
    return "ignored" if row.train_id == IGNORE_INDEX else "class", row.name, row.color


def mean_and_std(looks: Sequence[Look]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of R, G, B in 0..1 over all pixels."""
    pixels = sum(look.size[0] * look.size[1] for look in looks if not look.image_error) or 1
    mean, squares = np.array([look.sums for look in looks]).sum(axis=0) / pixels
    return mean.tolist(), np.sqrt(np.maximum(squares - mean**2, 0)).tolist()

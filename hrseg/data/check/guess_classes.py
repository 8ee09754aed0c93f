"""Class tables inferred from the ids or colors of masks, with a finding for each inference.

Ids: the meaning of 255, stray values, and whether names count from 0 or 1. Colors: names from a class file or a known
table, the meaning of black, and stray colors.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hrseg.data.check.findings import Finding, Level, ValueStats, values_text
from hrseg.data.check.levels import TOPS
from hrseg.errors import percent
from hrseg.imaging import NAN_ID
from hrseg.labels import (
    IGNORE_INDEX,
    VOID,
    ClassTable,
    Color,
    Label,
    distinct_colors,
    load_labels,
    table_names,
)

STRAY = 1e-5
"""Share of the pixels below which a value that occurs in a hundredth of the masks is a drawing error."""


class TableBuilder:
    """Rows of a class table under construction, and its findings."""

    def __init__(self) -> None:
        self.rows: list[Label] = []
        self.findings: list[Finding] = []
        self.learned = 0

    def report(self, level: Level, kind: str, text: str, files: Sequence[str] = ()) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, kind, text, tuple(files)))

    def add_class(self, value: int, name: str, color: Color) -> None:
        """Add a class."""
        self.rows.append(Label(value, self.learned, name, color))
        self.learned += 1

    def add_ignored(self, value: int, name: str, color: Color) -> None:
        """Add an ignored value."""
        self.rows.append(Label(value, IGNORE_INDEX, name, color))


def unpacked(value: int) -> Color:
    """Return the color of 0xRRGGBB."""
    return value >> 16, value >> 8 & 255, value & 255


def is_stray(one: ValueStats, total: int, masks: int) -> bool:
    """Return whether a value is likely a drawing error: a few pixels in a few masks."""
    return masks >= 5 and one.images <= max(1, masks // 100) and one.pixels / total < STRAY


_RARE_ZERO = 0.2  # below this share, id 0 is "no class" where names count from 1
_RARE_NODATA = 0.05  # up to this share, a positive nodata value of the files is no class


def ignore_missing_data(
    builder: TableBuilder,
    seen: Mapping[int, ValueStats],
    listed: Collection[int],
    nodata: Collection[float],
) -> dict[int, ValueStats]:
    """Add the values that mark missing data as ignored, and return the others.

    Args:
        builder: Gets the rows and findings.
        seen: Value → its statistics.
        listed: Values that a class file names, which stay classes.
        nodata: Nodata values that the files declare.
    """
    total = sum(one.pixels for one in seen.values()) or 1
    groups: dict[str, list[int]] = defaultdict(list)
    rest = [value for value in sorted(seen) if value >= 0 and value not in (*TOPS, *nodata)]
    for value in sorted(seen):
        share = seen[value].pixels / total
        if value == NAN_ID:
            groups["not numbers"].append(value)
        elif value < 0:
            groups["negative"].append(value)
        elif value in listed:
            continue
        elif value in nodata and value not in TOPS and (share > _RARE_NODATA or len(rest) < 2):
            builder.report(
                "warning",
                "no_data",
                f"The files call {value} 'no data', but it has {percent(share)} of the pixels, first in {{first}}, "
                f"and is taken as a class. If it means none, write ignore: [{value}] into the table.",
                [str(seen[value].first)],
            )
        elif value in nodata:
            groups["'no data' by the files' own words"].append(value)
        elif value == 2**31 - 1 or (value == 65535 and not _are_gray_levels(sorted(seen))):
            groups["the largest of 16 or 32 bits"].append(value)
    for why, values in groups.items():
        pixels = sum(seen[value].pixels for value in values)
        builder.report(
            "warning" if pixels > _RARE_NODATA * total else "note",
            "no_data",
            f"{percent(pixels / total)} of the pixels hold {values_text(values)}, first in {{first}}; as {why} they "
            "are taken as 'no label' and are not learned.",
            [str(seen[values[0]].first)],
        )
    aside = {value for values in groups.values() for value in values}
    for value in aside - {NAN_ID}:
        builder.add_ignored(value, "no data", (0, 0, 0))
    return {value: one for value, one in seen.items() if value not in aside}


def add_ids(
    builder: TableBuilder,
    seen: Mapping[int, ValueStats],
    masks: int,
    names: ClassTable | None,
    palette: np.ndarray | None,
) -> None:
    """Add the rows of masks that hold ids."""
    total = sum(one.pixels for one in seen.values()) or 1
    listed = {row.id: row for row in names.rows if row.id is not None} if names else {}
    stray = [v for v, one in seen.items() if is_stray(one, total, masks) and v not in listed and v != 255]
    stray = sorted(stray) if len(stray) < len(seen) else []
    if stray:
        odd = [seen[value] for value in stray]
        builder.report(
            "warning",
            "odd_value",
            f"{'Ids' if len(odd) > 1 else 'Id'} {values_text(stray)} {'have' if len(odd) > 1 else 'has'} only "
            f"{sum(one.pixels for one in odd):,} pixels in {max(one.images for one in odd)} of {masks} masks, first in "
            "{first}. Taken as ignored; a slip of the brush?",
            [str(odd[0].first)],
        )
    values = sorted(set(seen).difference(stray))
    levels = _are_gray_levels(values)
    void = {255} if 255 in values and not levels and 255 not in listed else set()
    classes = [value for value in values if value not in void]
    names_of = _name_ids(builder, classes, seen[0].pixels / total if 0 in seen else 0.0, names, levels)
    colors = distinct_colors(len(classes))
    for value, color in zip(classes, colors, strict=True):
        if palette is not None and value < len(palette):
            color = tuple(palette[value].tolist())
        elif value == 0:
            color = (0, 0, 0)
        name = names_of[value]
        (builder.add_ignored if name.lower() in VOID else builder.add_class)(value, name, color)
    for value in sorted(void):
        builder.add_ignored(value, "unlabelled", (255, 255, 255))
        share = percent(seen[value].pixels / total)
        text = f"Value 255 ({share} of the pixels) is taken as 'no label' and is not learned."
        others = [seen[v] for v in classes if v != 0]
        if 0 in classes and others and sum(one.pixels for one in others) < seen[value].pixels:
            rare = min(others, key=lambda one: one.pixels)
            builder.report(
                "warning",
                "unlabelled",
                f"{text} It covers more than all classes but 0 together: if it means foreground, correct the masks "
                f"that hold {rare.value}, first {{first}}.",
                [str(rare.first)],
            )
            continue
        builder.report("note", "unlabelled", text)
    for value in stray:
        builder.add_ignored(value, f"stray {value}", (0, 0, 0))
    if levels and classes != [0, 255] and len(classes) > 1:
        builder.report(
            "note",
            "gray_levels",
            f"Masks use spread gray levels ({', '.join(map(str, classes[:8]))}); each level is a class, 255 too.",
        )


def _are_gray_levels(values: Sequence[int]) -> bool:
    """Return whether the top value is a gray level, as in 0, 255 or 0, 85, 170, 255, rather than 'no label'."""
    top = 65535 if max(values, default=0) > 255 else 255
    others = [value for value in values if value != top]
    if top not in values or not others:
        return False
    spread = 4 * others[-1] >= top if top > 255 else others[-1] > 4 * len(others) + 10
    return others == [0] or (len(others) <= 16 and spread)


def _name_ids(
    builder: TableBuilder,
    values: Sequence[int],
    zero: float,
    names: ClassTable | None,
    levels: bool,
) -> dict[int, str]:
    """Return the name of each id."""
    names_of = {value: "background" if value == 0 else f"class {value}" for value in values}
    if len(values) == 2 and values[0] == 0:
        names_of[values[1]] = "foreground"
    if not names:
        if 0 < zero < 0.05 and len(values) > 3 and not levels:
            builder.report(
                "warning",
                "reduce_zero",
                f"Id 0 covers only {percent(zero)} of the pixels. If it means 'no class', as in ADE20K, move it from "
                "'classes' to 'ignore: [0]' in the table.",
            )
        return names_of
    listed = [row.name for row in names.rows]
    where = names.path.name
    if all(row.id is not None for row in names.rows):
        by_id = {int(row.id or 0): row.name for row in names.rows}
        unknown = [value for value in values if value not in by_id]
        for value in unknown:
            names_of[value] = f"class {value}"
        if unknown:
            builder.report(
                "warning",
                "unnamed",
                f"{where} does not name the ids {', '.join(map(str, unknown[:10]))}; they are classes.",
            )
        return names_of | {value: by_id[value] for value in values if value in by_id}
    if levels and len(listed) == len(values):
        return dict(zip(values, listed, strict=True))
    if levels and len(listed) == len(values) - 1:
        return dict(zip(values, ["background", *listed], strict=True))
    if not values or values[-1] < len(listed):
        return {value: listed[value] for value in values}
    if values[-1] == len(listed):
        shifted = {value: listed[value - 1] for value in values if value > 0}
        if 0 in values:
            ignored = zero < _RARE_ZERO
            shifted[0] = "unlabelled" if ignored else "background"
            builder.report(
                "warning",
                "reduce_zero",
                f"{where} has {len(listed)} names and masks hold ids up to {values[-1]}, so names count from 1. Id 0 "
                f"({percent(zero)} of the pixels) is taken as "
                + ("'no class' and ignored (\"reduce zero\")." if ignored else "the class 'background'."),
            )
        return shifted
    builder.report(
        "warning",
        "names_do_not_fit",
        f"{where} has {len(listed)} names, but masks hold ids up to {values[-1]}. Ids are called by number; write the "
        "names into the table.",
    )
    return names_of


_BORDER = (224, 224, 192)  # outline of objects in VOC
_BASIC = {
    (0, 0, 0): "background",
    (255, 255, 255): "white",
    (255, 0, 0): "red",
    (0, 255, 0): "green",
    (0, 0, 255): "blue",
    (255, 255, 0): "yellow",
    (255, 0, 255): "magenta",
    (0, 255, 255): "cyan",
    (128, 128, 128): "gray",
}
_FEW_PIXELS = 0.02


def add_colors(builder: TableBuilder, seen: Mapping[int, ValueStats], masks: int, names: ClassTable | None) -> None:
    """Add the rows of masks that hold colors."""
    total = sum(one.pixels for one in seen.values()) or 1
    names_of, source = _named_colors(seen, total, names)
    main: list[int] = []
    stray: list[int] = []
    for value, one in sorted(seen.items(), key=lambda item: -item[1].pixels):
        has_name = unpacked(value) in names_of
        slip = bool(names and names.by_color) or is_stray(one, total, masks)
        (main if has_name or not slip else stray).append(value)
    if source:
        builder.report("note", "names_by_color", f"Colors are named by {source}.")
    black = seen[0].pixels / total if 0 in seen else 0.0
    two = len(main) <= 2
    listed = [row.color for row in names.rows] if names else []
    places = {color: place for place, color in enumerate(listed)}
    for value in sorted(main, key=lambda value: (places.get(unpacked(value), len(places)), value)):
        color = unpacked(value)
        name = names_of.get(color) or _BASIC.get(color, f"color {value:06x}")
        if two and name == "white":
            name = "foreground"
        nothing = color == _BORDER or (value == 0 and color not in names_of and not two and black < _FEW_PIXELS)
        if nothing or name.lower() in VOID:
            builder.add_ignored(0, "unlabelled" if nothing and value == 0 else name, color)
            builder.report(
                "note",
                "unlabelled",
                f"Color {color} ({percent(seen[value].pixels / total)} of the pixels) is not learned: "
                f"{'black is rare here' if nothing and value == 0 else 'it means no class'}.",
            )
        else:
            builder.add_class(0, name, color)
    if stray:
        pixels = sum(seen[value].pixels for value in stray)
        examples = ", ".join(str(unpacked(value)) for value in stray[:3])
        builder.report(
            "warning",
            "odd_value",
            f"{len(stray):,} stray colors such as {examples} have {percent(pixels / total)} of the pixels, first in "
            "{first}, and are ignored: they are in no class file, or slips of the brush.",
            [str(seen[stray[0]].first)],
        )
    for value in stray:
        builder.add_ignored(0, f"stray {value:06x}", unpacked(value))
    learned = [row for row in builder.rows if row.train_id != IGNORE_INDEX]
    others = [row for row in builder.rows if row.train_id == IGNORE_INDEX]
    builder.rows = [replace(row, id=number) for number, row in enumerate([*learned, *others])]


def _named_colors(seen: Mapping[int, ValueStats], total: int, names: ClassTable | None) -> tuple[dict[Color, str], str]:
    if names and names.by_color:
        return dict(names.by_color), names.path.name
    main = {unpacked(v) for v, one in seen.items() if one.pixels / total > STRAY} - {
        (0, 0, 0),
        _BORDER,
    }
    voc = [row.color for row in load_labels("voc2012").classes][1:]
    if len(main) < 3 or main == set(voc[: len(main)]):
        return {}, ""  # many tools draw with the first colors of VOC, whatever the classes
    fits: list[tuple[int, str, dict[Color, str]]] = []
    for table in set(table_names()) - {"synthetic"}:  # its masks are never files
        labels = load_labels(table)
        known = {row.color: row.name for row in reversed(labels.labels)}
        if main <= set(known) and 10 * len(main) >= len(known):  # else by chance
            void = {row.color for row in labels.labels} - {row.color for row in labels.classes}
            fits.append((len(known), table, known | dict.fromkeys(void, "void")))
    fits = [fit for fit in fits if fit[0] == min(fits)[0]]
    if not fits or len({tuple(names_of[color] for color in main) for _, _, names_of in fits}) > 1:
        return {}, ""
    _, table, names_of = min(fits, key=lambda fit: fit[1])
    for value, one in seen.items():  # a frequent color is never void by inference alone
        if names_of.get(unpacked(value)) == "void" and one.pixels >= _FEW_PIXELS * total:
            del names_of[unpacked(value)]
    return names_of, f"table '{table}'"

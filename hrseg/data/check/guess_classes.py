"""A class table as it comes together, from ids or from colors, with what is to be said about each guess.

Ids: what 255 means, which are slips, and where names count from. Colors: names by a file or a known table, black,
and smoothed edges.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hrseg.data.check.findings import Finding, Level, Seen, values_text
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
"""Share of the pixels below which a value that stands in a hundredth of the masks is a slip."""


class Draft:
    """Rows and findings as they come together."""

    def __init__(self) -> None:
        self.rows: list[Label] = []
        self.findings: list[Finding] = []
        self.learned = 0

    def say(self, level: Level, kind: str, text: str, files: Sequence[str] = ()) -> None:
        """Tell something."""
        self.findings.append(Finding(level, kind, text, tuple(files)))

    def learn(self, value: int, name: str, color: Color) -> None:
        """Add a class."""
        self.rows.append(Label(value, self.learned, name, color))
        self.learned += 1

    def ignore(self, value: int, name: str, color: Color) -> None:
        """Add a value without class."""
        self.rows.append(Label(value, IGNORE_INDEX, name, color))


def unpacked(value: int) -> Color:
    """Return the color of 0xRRGGBB."""
    return value >> 16, value >> 8 & 255, value & 255


def is_stray(one: Seen, total: int, masks: int) -> bool:
    """Say whether a value is likely a slip: a few pixels in a few masks."""
    return masks >= 5 and one.images <= max(1, masks // 100) and one.pixels / total < STRAY


_RARE_ZERO = 0.2
"""Share of id 0 below which it is "no class" where names count from 1."""
_RARE_NODATA = 0.05
"""Share up to which a positive "no data" value of the files is no class."""


def set_aside(
    draft: Draft, seen: Mapping[int, Seen], told: Collection[int], nodata: Collection[float]
) -> dict[int, Seen]:
    """Ignore and tell the values that mark missing data; return the others.

    Those that a class file names, `told`, stay; `nodata` is what the files themselves call "no data".
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
        elif value in told:
            continue
        elif value in nodata and value not in TOPS and (share > _RARE_NODATA or len(rest) < 2):
            draft.say(
                "warning",
                "no_data",
                f"The files call {value} 'no data', but it has {percent(share)} of the pixels, first in {{first}}, "
                f"and is taken as a class. If it means none, write ignore: [{value}] into the table.",
                [str(seen[value].first)],
            )
        elif value in nodata:
            groups["'no data' by the files' own words"].append(value)
        elif value == 2**31 - 1 or (value == 65535 and not _are_levels(sorted(seen))):
            groups["the largest of 16 or 32 bits"].append(value)
    for why, values in groups.items():
        pixels = sum(seen[value].pixels for value in values)
        draft.say(
            "warning" if pixels > _RARE_NODATA * total else "note",
            "no_data",
            f"{percent(pixels / total)} of the pixels hold {values_text(values)}, first in {{first}}; as {why} they "
            "are taken as 'no label' and are not learned.",
            [str(seen[values[0]].first)],
        )
    aside = {value for values in groups.values() for value in values}
    for value in aside - {NAN_ID}:
        draft.ignore(value, "no data", (0, 0, 0))
    return {value: one for value, one in seen.items() if value not in aside}


def by_ids(
    draft: Draft,
    seen: Mapping[int, Seen],
    masks: int,
    names: ClassTable | None,
    palette: np.ndarray | None,
) -> None:
    """Draw a table from ids."""
    total = sum(one.pixels for one in seen.values()) or 1
    told = {row.id: row for row in names.rows if row.id is not None} if names else {}
    stray = [
        v for v, one in seen.items() if is_stray(one, total, masks) and v not in told and v != 255
    ]
    stray = sorted(stray) if len(stray) < len(seen) else []
    if stray:
        odd = [seen[value] for value in stray]
        draft.say(
            "warning",
            "odd_value",
            f"{'Ids' if len(odd) > 1 else 'Id'} {values_text(stray)} {'have' if len(odd) > 1 else 'has'} only "
            f"{sum(one.pixels for one in odd):,} pixels in {max(one.images for one in odd)} of {masks} masks, first in "
            "{first}. Taken as ignored; a slip of the brush?",
            [str(odd[0].first)],
        )
    values = sorted(set(seen).difference(stray))
    levels = _are_levels(values)
    void = {255} if 255 in values and not levels and 255 not in told else set()
    classes = [value for value in values if value not in void]
    called = _called(draft, classes, seen[0].pixels / total if 0 in seen else 0.0, names, levels)
    drawn = distinct_colors(len(classes))
    for value, color in zip(classes, drawn, strict=True):
        if palette is not None and value < len(palette):
            color = tuple(palette[value].tolist())
        elif value == 0:
            color = (0, 0, 0)
        name = called[value]
        (draft.ignore if name.lower() in VOID else draft.learn)(value, name, color)
    for value in sorted(void):
        draft.ignore(value, "unlabelled", (255, 255, 255))
        share = percent(seen[value].pixels / total)
        text = f"Value 255 ({share} of the pixels) is taken as 'no label' and is not learned."
        others = [seen[v] for v in classes if v != 0]
        if 0 in classes and others and sum(one.pixels for one in others) < seen[value].pixels:
            rare = min(others, key=lambda one: one.pixels)
            draft.say(
                "warning",
                "unlabelled",
                f"{text} It covers more than all classes but 0 together: if it means foreground, mend the masks that "
                f"hold {rare.value}, first {{first}}.",
                [str(rare.first)],
            )
            continue
        draft.say("note", "unlabelled", text)
    for value in stray:
        draft.ignore(value, f"stray {value}", (0, 0, 0))
    if levels and classes != [0, 255] and len(classes) > 1:
        draft.say(
            "note",
            "gray_levels",
            f"Masks use spread gray levels ({', '.join(map(str, classes[:8]))}); each level is a class, 255 too.",
        )


def _are_levels(values: Sequence[int]) -> bool:
    """Say whether the top value is one of several gray levels rather than 'no label': 0 and 255, or 0, 85, 170, 255."""
    top = 65535 if max(values, default=0) > 255 else 255
    others = [value for value in values if value != top]
    if top not in values or not others:
        return False
    spread = 4 * others[-1] >= top if top > 255 else others[-1] > 4 * len(others) + 10
    return others == [0] or (len(others) <= 16 and spread)


def _called(
    draft: Draft, values: Sequence[int], zero: float, names: ClassTable | None, levels: bool
) -> dict[int, str]:
    """Name each value."""
    called = {value: "background" if value == 0 else f"class {value}" for value in values}
    if len(values) == 2 and values[0] == 0:
        called[values[1]] = "foreground"
    if not names:
        if 0 < zero < 0.05 and len(values) > 3 and not levels:
            draft.say(
                "warning",
                "reduce_zero",
                f"Id 0 covers only {percent(zero)} of the pixels. If it means 'no class', as in ADE20K, move it from "
                "'classes' to 'ignore: [0]' in the table.",
            )
        return called
    listed = [row.name for row in names.rows]
    where = names.path.name
    if all(row.id is not None for row in names.rows):
        told = {int(row.id or 0): row.name for row in names.rows}
        unknown = [value for value in values if value not in told]
        for value in unknown:
            called[value] = f"class {value}"
        if unknown:
            draft.say(
                "warning",
                "unnamed",
                f"{where} does not name the ids {', '.join(map(str, unknown[:10]))}; they are classes.",
            )
        return called | {value: told[value] for value in values if value in told}
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
            draft.say(
                "warning",
                "reduce_zero",
                f"{where} has {len(listed)} names and masks hold ids up to {values[-1]}, so names count from 1. Id 0 "
                f"({percent(zero)} of the pixels) is taken as "
                + (
                    "'no class' and ignored (\"reduce zero\")."
                    if ignored
                    else "the class 'background'."
                ),
            )
        return shifted
    draft.say(
        "warning",
        "names_do_not_fit",
        f"{where} has {len(listed)} names, but masks hold ids up to {values[-1]}. Ids are called by number; write the "
        "names into the table.",
    )
    return called


_BORDER = (224, 224, 192)  # VOC's line around things
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


def by_colors(draft: Draft, seen: Mapping[int, Seen], masks: int, names: ClassTable | None) -> None:
    """Draw a table from colors."""
    total = sum(one.pixels for one in seen.values()) or 1
    called, source = _named_colors(seen, total, names)
    main: list[int] = []
    odd: list[int] = []
    for value, one in sorted(seen.items(), key=lambda item: -item[1].pixels):
        told = unpacked(value) in called
        slip = bool(names and names.by_color) or is_stray(one, total, masks)
        (main if told or not slip else odd).append(value)
    if source:
        draft.say("note", "names_by_color", f"Colors are named by {source}.")
    black = seen[0].pixels / total if 0 in seen else 0.0
    two = len(main) <= 2
    listed = [row.color for row in names.rows] if names else []
    places = {color: place for place, color in enumerate(listed)}
    for value in sorted(main, key=lambda value: (places.get(unpacked(value), len(places)), value)):
        color = unpacked(value)
        name = called.get(color) or _BASIC.get(color, f"color {value:06x}")
        if two and name == "white":
            name = "foreground"
        nothing = color == _BORDER or (
            value == 0 and color not in called and not two and black < _FEW_PIXELS
        )
        if nothing or name.lower() in VOID:
            draft.ignore(0, "unlabelled" if nothing and value == 0 else name, color)
            draft.say(
                "note",
                "unlabelled",
                f"Color {color} ({percent(seen[value].pixels / total)} of the pixels) is not learned: "
                f"{'black is rare here' if nothing and value == 0 else 'it means no class'}.",
            )
        else:
            draft.learn(0, name, color)
    if odd:
        pixels = sum(seen[value].pixels for value in odd)
        examples = ", ".join(str(unpacked(value)) for value in odd[:3])
        draft.say(
            "warning",
            "odd_value",
            f"{len(odd):,} odd colors such as {examples} have {percent(pixels / total)} of the pixels, first in "
            "{first}, and are ignored: they are in no class file, or slips of the brush.",
            [str(seen[odd[0]].first)],
        )
    for value in odd:
        draft.ignore(0, f"stray {value:06x}", unpacked(value))
    learned = [row for row in draft.rows if row.train_id != IGNORE_INDEX]
    others = [row for row in draft.rows if row.train_id == IGNORE_INDEX]
    draft.rows = [replace(row, id=number) for number, row in enumerate([*learned, *others])]


def _named_colors(
    seen: Mapping[int, Seen], total: int, names: ClassTable | None
) -> tuple[dict[Color, str], str]:
    if names and names.by_color:
        return dict(names.by_color), names.path.name
    main = {unpacked(v) for v, one in seen.items() if one.pixels / total > STRAY} - {
        (0, 0, 0),
        _BORDER,
    }
    voc = [row.color for row in load_labels("voc2012").classes][1:]
    if len(main) < 3 or main == set(voc[: len(main)]):
        return {}, ""  # everybody's tool draws with the first colors of VOC
    fits: list[tuple[int, str, dict[Color, str]]] = []
    for table in set(table_names()) - {"synthetic"}:  # whose masks are in no file
        labels = load_labels(table)
        known = {row.color: row.name for row in reversed(labels.labels)}
        if main <= set(known) and 10 * len(main) >= len(known):  # else by chance
            void = {row.color for row in labels.labels} - {row.color for row in labels.classes}
            fits.append((len(known), table, known | dict.fromkeys(void, "void")))
    fits = [fit for fit in fits if fit[0] == min(fits)[0]]
    if not fits or len({tuple(called[color] for color in main) for _, _, called in fits}) > 1:
        return {}, ""
    _, table, called = min(fits, key=lambda fit: fit[1])
    for value, one in seen.items():  # a guess takes no color away that is common
        if called.get(unpacked(value)) == "void" and one.pixels >= _FEW_PIXELS * total:
            del called[unpacked(value)]
    return called, f"table '{table}'"

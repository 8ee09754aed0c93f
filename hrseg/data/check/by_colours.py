"""Classes of masks that hold colours: names by a file or a known table, black, and smoothed edges."""

from collections.abc import Mapping
from dataclasses import replace

from hrseg.data.check.draft import STRAY, Draft, is_stray, unpacked
from hrseg.data.check.result import Seen
from hrseg.data.labels import IGNORE_INDEX, VOID, ClassTable, Color, load_labels, table_names
from hrseg.shares import percent

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
    (128, 128, 128): "grey",
}
_FEW_PIXELS = 0.02


def by_colours(
    draft: Draft, seen: Mapping[int, Seen], masks: int, names: ClassTable | None
) -> None:
    """Draw a table from colours."""
    total = sum(one.pixels for one in seen.values()) or 1
    called, source = _named_colours(seen, total, names)
    main: list[int] = []
    odd: list[int] = []
    for value, one in sorted(seen.items(), key=lambda item: -item[1].pixels):
        told = unpacked(value) in called
        slip = bool(names and names.by_color) or is_stray(one, total, masks)
        (main if told or not slip else odd).append(value)
    if source:
        draft.say("note", "names_by_colour", f"Colours are named by {source}.")
    black = seen[0].pixels / total if 0 in seen else 0.0
    two = len(main) <= 2
    listed = [row.color for row in names.rows] if names else []
    places = {color: place for place, color in enumerate(listed)}
    for value in sorted(main, key=lambda value: (places.get(unpacked(value), len(places)), value)):
        color = unpacked(value)
        name = called.get(color) or _BASIC.get(color, f"colour {value:06x}")
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
                f"Colour {color} ({percent(seen[value].pixels / total)} of the pixels) is not learned: "
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
            f"{len(odd):,} odd colours such as {examples} have {percent(pixels / total)} of the pixels, first in "
            "{first}, and are ignored: they are in no class file, or slips of the brush.",
            [str(seen[odd[0]].first)],
        )
    for value in odd:
        draft.ignore(0, f"stray {value:06x}", unpacked(value))
    learned = [row for row in draft.rows if row.train_id != IGNORE_INDEX]
    others = [row for row in draft.rows if row.train_id == IGNORE_INDEX]
    draft.rows = [replace(row, id=number) for number, row in enumerate([*learned, *others])]


def _named_colours(
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
        return {}, ""  # everybody's tool draws with the first colours of VOC
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
    for value, one in seen.items():  # a guess takes no colour away that is common
        if called.get(unpacked(value)) == "void" and one.pixels >= _FEW_PIXELS * total:
            del called[unpacked(value)]
    return called, f"table '{table}'"

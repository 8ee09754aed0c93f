"""Classes of masks that hold numbers: what 255 means, which ids are slips, and where names count from."""

from collections.abc import Mapping, Sequence

import numpy as np

from hrseg.data.check.draft import Draft, is_stray
from hrseg.data.check.result import Seen
from hrseg.data.labels import VOID, ClassTable, Label, distinct_colors
from hrseg.shares import percent

_RARE_ZERO = 0.2
"""Share of id 0 below which it is "no class" where names count from 1."""


def by_ids(
    draft: Draft,
    seen: Mapping[int, Seen],
    masks: int,
    names: ClassTable | None,
    palette: np.ndarray | None,
) -> None:
    """Draw a table from ids."""
    total = sum(one.pixels for one in seen.values()) or 1
    low = sum(one.pixels for value, one in seen.items() if value <= 16)
    high = sum(one.pixels for value, one in seen.items() if 239 <= value <= 255)
    if len(seen) > 8 and min(low, high) > 0 and (low + high) / total > 0.9 and max(seen) <= 255:
        _smoothed(draft, seen, names)
        return
    told = {row.id: row for row in names.rows if row.id is not None} if names else {}
    stray = [
        v for v, one in seen.items() if is_stray(one, total, masks) and v not in told and v != 255
    ]
    for value in stray if len(stray) < len(seen) else ():
        one = seen[value]
        draft.say(
            "warning",
            "odd_value",
            f"Id {value} has only {one.pixels:,} pixels in {one.images} of {masks} masks, first in {{first}}. It is "
            "ignored; a slip of the brush?",
            [str(one.first)],
        )
    values = sorted(set(seen) - set(stray))
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
    for value in stray if len(stray) < len(seen) else ():
        draft.ignore(value, f"stray {value}", (0, 0, 0))
    if levels and classes != [0, 255] and len(classes) > 1:
        draft.say(
            "note",
            "grey_levels",
            f"Masks use spread grey levels ({', '.join(map(str, classes[:8]))}); each level is a class, 255 too.",
        )


def _are_levels(values: Sequence[int]) -> bool:
    """Say whether 255 is one of several grey levels rather than 'no label': 0 and 255, or 0, 85, 170, 255."""
    others = [value for value in values if value != 255]
    if 255 not in values or not others:
        return False
    return others == [0] or (len(others) <= 16 and others[-1] > 4 * len(others) + 10)


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


def _smoothed(draft: Draft, seen: Mapping[int, Seen], names: ClassTable | None) -> None:
    listed = [row.name for row in names.rows] if names else []
    called = (
        listed
        if len(listed) == 2
        else ["background", listed[0] if len(listed) == 1 else "foreground"]
    )
    for value in range(256):
        train_id = int(value >= 128)
        draft.rows.append(Label(value, train_id, called[train_id], (255 * train_id,) * 3))
    some = next(one for value, one in seen.items() if 16 < value < 239)
    draft.say(
        "warning",
        "smoothed",
        f"Masks are meant to hold 0 and 255 but hold {len(seen)} values, such as {some.value} in {{first}}: they were "
        "saved as JPEG or resized with smoothing. Values from 128 on are taken as foreground; edges are inexact.",
        [str(some.first)],
    )

"""Classes of masks that hold numbers: what 255 means, which ids are slips, and where names count from."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hrseg.data.check.draft import Draft, is_stray
from hrseg.data.check.levels import TOPS
from hrseg.data.check.result import Seen, value_text
from hrseg.data.labels import VOID, ClassTable, distinct_colors
from hrseg.imaging import NAN_ID
from hrseg.shares import percent

_RARE_ZERO = 0.2
"""Share of id 0 below which it is "no class" where names count from 1."""
_RARE_NODATA = 0.05
"""Share up to which a positive "no data" value of the files is no class."""


def set_aside(
    draft: Draft, seen: Mapping[int, Seen], told: Collection[int], nodata: Collection[float]
) -> dict[int, Seen]:
    """Ignore and tell the values that mark missing data; return the others.

    Args:
        draft: Gets the ignored rows.
        seen: Ids, with where they stand.
        told: Ids that a class file names.
        nodata: Values that the mask files themselves call "no data".
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
        shown = ", ".join(map(value_text, values[:5])) + ", …" * (len(values) > 5)
        draft.say(
            "warning" if pixels > _RARE_NODATA * total else "note",
            "no_data",
            f"{percent(pixels / total)} of the pixels hold {shown}, first in {{first}}; as {why} they are taken as "
            "'no label' and are not learned.",
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
        shown = ", ".join(map(str, stray[:5])) + ", …" * (len(odd) > 5)
        draft.say(
            "warning",
            "odd_value",
            f"{'Ids' if len(odd) > 1 else 'Id'} {shown} {'have' if len(odd) > 1 else 'has'} only "
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
            "grey_levels",
            f"Masks use spread grey levels ({', '.join(map(str, classes[:8]))}); each level is a class, 255 too.",
        )


def _are_levels(values: Sequence[int]) -> bool:
    """Say whether the top value is one of several grey levels rather than 'no label': 0 and 255, or 0, 85, 170, 255."""
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

"""A class table for masks that come without one: which values are classes, what they are called, what is ignored.

Every guess is told as a finding, since a wrong table teaches nonsense without any error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hrseg.data.check.by_colours import by_colours
from hrseg.data.check.by_ids import by_ids
from hrseg.data.check.draft import Draft
from hrseg.data.check.result import Finding, Seen
from hrseg.data.labels import IGNORE_INDEX, MAX_CLASSES, ClassTable, LabelSet


@dataclass(frozen=True)
class Guess:
    """A table, or the reason why there is none."""

    labels: LabelSet | None
    findings: tuple[Finding, ...] = ()


def guess_table(
    ids: Mapping[int, Seen],
    colours: Mapping[int, Seen],
    masks: int,
    names: ClassTable | None = None,
    palette: np.ndarray | None = None,
) -> Guess:
    """Make a table for the values that masks hold.

    Args:
        ids: Values of masks of ids.
        colours: Values of masks of colours, 0xRRGGBB.
        masks: How many masks there are.
        names: Class names found beside them.
        palette: Colours of palette masks.

    Example:
        >>> from pathlib import Path
        >>> seen = {value: Seen(value, Path("a.png"), 50, 1) for value in (0, 255)}
        >>> guess_table(seen, {}, 1).labels.names
        ['background', 'foreground']
    """
    draft = Draft()
    if sum(seen.pixels for seen in colours.values()) > sum(seen.pixels for seen in ids.values()):
        grey = {
            v & 255: replace(s, value=v & 255)
            for v, s in colours.items()
            if v == (v & 255) * 0x010101
        }
        if len(grey) == len(colours):
            by_ids(draft, grey, masks, names, None)
            draft.rows = [replace(row, color=(row.id,) * 3) for row in draft.rows]
            draft.say(
                "note",
                "grey_rgb",
                "Masks hold ids as grey RGB, three equal channels. They are read by their grey; one channel would be "
                "smaller.",
            )
        else:
            by_colours(draft, colours, masks, names)
    elif ids:
        by_ids(draft, ids, masks, names, palette)
    learned = [row for row in draft.rows if row.train_id != IGNORE_INDEX]
    if not learned or draft.learned > MAX_CLASSES:
        count = len(ids) + len(colours)
        draft.say(
            "error",
            "no_table",
            f"Masks hold {count:,} different values, of which no table of 1 to {MAX_CLASSES} classes can be made. Are "
            "they instance numbers or photos? Give a table: --labels FILE.",
        )
        return Guess(None, tuple(draft.findings))
    if len({row.train_id for row in learned}) == 1:
        draft.say(
            "error",
            "one_class",
            f"All labelled pixels are {learned[0].name}; a network needs two classes to tell apart.",
        )
    return Guess(_whole(LabelSet("labels", tuple(draft.rows)), names), tuple(draft.findings))


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
    return replace(told, labels=(*told.labels, *more))

"""A class table for masks that come without one: which values are classes, what they are called, what is ignored.

Every guess is told as a finding, since a wrong table teaches nonsense without any error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hrseg.data.check.by_colours import by_colours
from hrseg.data.check.by_ids import by_ids
from hrseg.data.check.draft import Draft
from hrseg.data.check.names import Names
from hrseg.data.check.result import Finding, Seen
from hrseg.data.labels import (
    IGNORE_INDEX,
    MAX_CLASSES,
    LabelSet,
)


@dataclass(frozen=True)
class Guess:
    """A table, or the reason why there is none."""

    labels: LabelSet | None
    findings: tuple[Finding, ...] = ()


def guess_table(
    ids: Mapping[int, Seen],
    colours: Mapping[int, Seen],
    masks: int,
    names: Names | None = None,
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
    return Guess(LabelSet("labels", tuple(draft.rows)), tuple(draft.findings))


def table_text(labels: LabelSet, comment: str) -> str:
    """Write a table as the YAML that `load_labels` reads."""
    merged = len({row.train_id for row in labels.labels if row.train_id != IGNORE_INDEX}) < sum(
        row.train_id != IGNORE_INDEX for row in labels.labels
    )
    lines = [f"# {line}" for line in comment.splitlines()] + ["classes:"]
    for row in labels.labels:
        train_id = f"train_id: {row.train_id}, " if merged or row.train_id == IGNORE_INDEX else ""
        name = "'" + row.name.replace("'", "''") + "'"
        plain = row.name.replace("_", "").replace(" ", "").isalpha() and row.name.isascii()
        shown = row.name if plain and row.name.lower() not in _YAML_WORDS else name
        lines.append(f"  - {{id: {row.id}, {train_id}name: {shown}, color: {list(row.color)}}}")
    return "\n".join(lines) + "\n"


_YAML_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"))

"""What the files hold in all: pixels of every value of the masks, mean and deviation of the images."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hrseg.data.check.result import ClassRow, Role, Seen, value_text
from hrseg.data.check.scan import Look
from hrseg.data.labels import IGNORE_INDEX, LabelSet


def seen_values(looks: Sequence[Look], kind: str) -> dict[int, Seen]:
    """Count every value of the masks of a kind, "ids" or "colours"."""
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
    below: Callable[[Path], str],
) -> list[ClassRow]:
    """Name every value of the masks by the table; values of one name in one kind share a row."""
    seen = [
        (k, one) for k in ("colours", "ids") for _, one in sorted(seen_values(looks, k).items())
    ]
    totals = sum((one.by_split for _, one in seen), Counter[str]())
    rows: dict[tuple[str, str], ClassRow] = {}
    for kind, one in seen:
        of_colors = kind == "colours"
        table = labels if one.table is None else tables[one.table]
        role, name, color = _meaning(one.value, of_colors, table)
        text = value_text(one.value, of_colors)
        share = one.pixels / totals.total()
        shares = {split: count / totals[split] for split, count in one.by_split.items()}
        first = below(one.first)
        row = ClassRow(text, name, color, role, one.pixels, share, one.images, first, shares)
        place = (role, name if role == "class" else text)
        before = rows.get(place)
        rows[place] = _joined(before, row) if before else row
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

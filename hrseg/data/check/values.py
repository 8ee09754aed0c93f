"""What the files hold in all: pixels of every value of the masks, mean and deviation of the images."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hrseg.data.check.result import ClassRow, Role, value_text
from hrseg.data.check.scan import Look
from hrseg.data.labels import IGNORE_INDEX, LabelSet


def class_rows(
    looks: Sequence[Look],
    labels: LabelSet | None,
    tables: Mapping[str, LabelSet],
    below: Callable[[Path], str],
) -> list[ClassRow]:
    """Count every value of the masks, named by the table; values of one name in one kind share a row."""
    first_in: dict[tuple[str, int], Path] = {}
    by_split: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    pixels: Counter[tuple[str, int]] = Counter()
    images: Counter[tuple[str, int]] = Counter()
    tables_of: dict[tuple[str, int], LabelSet | None] = {}
    totals: Counter[str] = Counter()
    for look in looks:
        if look.kind not in ("ids", "colours"):
            continue
        table = labels if look.pair.table is None else tables[look.pair.table]
        for value, count in (look.values or {}).items():
            key = (look.kind, value)
            first_in.setdefault(key, look.pair.mask or look.pair.image)
            tables_of.setdefault(key, table)
            by_split[key][look.split] += count
            pixels[key] += count
            images[key] += 1
            totals[look.split] += count
    whole = sum(totals.values()) or 1
    rows: dict[tuple[str, str], ClassRow] = {}
    for kind, value in sorted(first_in):
        key = (kind, value)
        role, name, color = _meaning(kind, value, tables_of[key])
        text = value_text(value, kind == "colours")
        shares = {split: count / totals[split] for split, count in by_split[key].items()}
        place = (role, name if role == "class" else text)
        before = rows.get(place)
        if before:  # several ids of one class
            merged = {
                s: before.by_split.get(s, 0) + shares.get(s, 0) for s in {*before.by_split, *shares}
            }
            rows[place] = ClassRow(
                f"{before.value.partition('-')[0]}-{text}",
                name,
                color,
                role,
                before.pixels + pixels[key],
                before.share + pixels[key] / whole,
                max(before.images, images[key]),
                before.first,
                merged,
            )
            continue
        rows[place] = ClassRow(
            text,
            name,
            color,
            role,
            pixels[key],
            pixels[key] / whole,
            images[key],
            below(first_in[key]),
            shares,
        )
    return list(rows.values())


def _meaning(
    kind: str, value: int, table: LabelSet | None
) -> tuple[Role, str, tuple[int, int, int]]:
    if table is None:
        return "unknown", "", (128, 128, 128)
    row = table.find(value, kind == "colours")
    if row is not None:
        return "ignored" if row.train_id == IGNORE_INDEX else "class", row.name, row.color
    return "unknown", "", (255, 0, 128)


def mean_and_std(looks: Sequence[Look]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of R, G, B in 0..1 over all pixels."""
    pixels = sum(look.size[0] * look.size[1] for look in looks if not look.image_error) or 1
    sums = np.array([look.sums[0] for look in looks]).sum(axis=0)
    squares = np.array([look.sums[1] for look in looks]).sum(axis=0)
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    return [round(float(v), 4) for v in mean], [round(float(v), 4) for v in std]

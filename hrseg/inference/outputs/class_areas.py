"""Tables of class areas: pixels, per cent and, where the pixel size is known, square meters.

One table for each image, as JSON or CSV, and one for all images of a run. Every class has a row, so that tables of
different images are comparable.
"""

import csv
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hrseg.errors import DataError, cell_text, parse_json
from hrseg.imaging import write_atomic
from hrseg.inference.outputs.options import Options

if TYPE_CHECKING:
    from hrseg.inference.prediction import Prediction

COLUMNS = ("class", "id", "pixels", "percent", "square_meters")
NO_CLASS = "no class"


def areas(prediction: "Prediction", options: Options) -> dict[str, Any]:
    """Return the table of one image; pixels without data are not counted."""
    labels, counts = prediction.labels, prediction.counts().tolist()
    pixels, known = sum(counts), options.pixel_areas(prediction)
    meters: list[float] | None = None
    if known is not None and (known == known[0, 0]).all():
        meters = [count * float(known[0, 0]) for count in counts]
    elif known is not None:  # degrees: pixels differ
        with_data = slice(None) if prediction.valid is None else prediction.valid
        sizes = np.broadcast_to(known, prediction.size)[with_data]  # (pixels with data,)
        meters = np.bincount(prediction.mask[with_data].ravel(), sizes.ravel(), minlength=256).tolist()
    rows = [
        _row(label.name, label.id, counts[i], pixels, meters[i] if meters else None)
        for i, label in enumerate(labels.classes)
    ]
    without = sum(counts[labels.num_classes :])
    if without:
        rest = sum(meters[labels.num_classes :]) if meters else None
        rows.append(_row(NO_CLASS, None, without, pixels, rest))
    height, width = prediction.size
    return {
        "image": prediction.origin or prediction.name,
        "height": height,
        "width": width,
        "pixels": pixels,
        "square_meters": None if meters is None else round(sum(meters), 4),
        "classes": rows,
    }


def write_areas(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write the table of one image as JSON or CSV, by the suffix."""
    write_table(target, areas(prediction, options))


def total(tables: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sum tables; square meters are given only if all tables have them.

    Example:
        >>> one = {"pixels": 4, "square_meters": 1.0, "classes": [_row("road", 7, 3, 4, 0.75)]}
        >>> total([one, one])["classes"]
        [{'class': 'road', 'id': 7, 'pixels': 6, 'percent': 75.0, 'square_meters': 1.5}]
    """
    images = pixels = 0
    meters_sum: float | None = 0.0
    sums: dict[tuple[str, int | None], list[Any]] = {}
    for table in tables:
        images += 1
        pixels += table["pixels"]
        meters_sum = _add(meters_sum, table["square_meters"])
        for row in table["classes"]:
            entry = sums.setdefault((row["class"], row["id"]), [0, 0.0])
            entry[0] += row["pixels"]
            entry[1] = _add(entry[1], row["square_meters"])
    ordered = sorted(sums.items(), key=lambda item: item[0][0] == NO_CLASS)
    rows = [
        _row(name, number, count, pixels, None if meters_sum is None else meters)
        for (name, number), (count, meters) in ordered
    ]
    square = None if meters_sum is None else round(meters_sum, 4)
    return {"images": images, "pixels": pixels, "square_meters": square, "classes": rows}


def read_table(path: Path) -> dict[str, Any]:
    """Read a table as JSON or CSV, by the suffix, or raise DataError."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            table: dict[str, Any] = parse_json(text)
            return table
        rows = [_parse_row(row) for row in csv.DictReader(text.splitlines())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"The area table {path} cannot be read: {error}. Predict that image again.") from error
    meters: Iterable[float | None] = (row["square_meters"] for row in rows)
    return {
        "pixels": sum(row["pixels"] for row in rows),
        "square_meters": functools.reduce(_add, meters, cast(float | None, 0.0)),
        "classes": rows,
    }


def write_table(path: Path, table: dict[str, Any]) -> None:
    """Write a table as JSON or CSV, by the suffix."""
    with write_atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".json":
            json.dump(table, file, ensure_ascii=False, indent=1)
            file.write("\n")
            return
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"class": cell_text(row["class"])} for row in table["classes"])


def _row(name: str, number: int | None, pixels: int, of: int, meters: float | None) -> dict[str, Any]:
    share = round(100 * pixels / of, 6) if of else 0.0
    square = None if meters is None else round(meters, 4)
    return dict(zip(COLUMNS, (name, number, pixels, share, square), strict=True))


def _parse_row(row: dict[str, str]) -> dict[str, Any]:
    meters, name = row["square_meters"], row["class"]
    return {
        "class": name.removeprefix("'") if cell_text(name[1:]) == name else name,
        "id": int(row["id"]) if row["id"] else None,
        "pixels": int(row["pixels"]),
        "percent": float(row["percent"]),
        "square_meters": float(meters) if meters else None,
    }


def _add(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second

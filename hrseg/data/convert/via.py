"""VIA, the VGG Image Annotator 2: projects and exported annotations as JSON, and annotations as CSV.

The class is an attribute of the region; later regions cover earlier ones. Points and polylines have no area.

Source:
    The files that version 2 of the tool writes; angles of ellipses are radians, clockwise on the screen.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.data.convert.attributes import (
    OBJECT,
    UNNAMED,
    class_attribute,
    class_of,
    header,
    read_rows,
)
from hrseg.data.convert.files import Images, corners, head, number, read_json, safe_name
from hrseg.data.convert.known import Known, split_name
from hrseg.data.convert.parts import MEND, Object, Record, Source, problem
from hrseg.data.convert.polygons import Patch, box, ellipse, fill
from hrseg.errors import DataError

_STEP = "Export the annotations of VIA again, as JSON or CSV"
_NO_AREA = {"point": "points", "polyline": "polylines"}
Regions = dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]]
"""Image → (place, shape, attributes) of each region."""


def recognises(path: Path) -> bool:
    """Say whether this is a file of VIA, or a folder of such files."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read files of VIA.

    Args:
        path: A JSON or CSV file, a folder of them, or one with a folder for each split.
        images: Folder of the images; None looks beside the file.
        classes: Order of the classes, and what numbers mean; None sorts names.

    Raises:
        DataError: Something in it is wrong.
    """
    files = _files(path) or ([path] if path.is_file() else [])
    if not files:
        raise DataError(f"No JSON or CSV file of VIA in {path}. {_STEP}.")
    found = {file: _of_csv(file) if file.suffix.lower() == ".csv" else _of_json(file) for file in files}
    regions = [region for images_ in found.values() for rows in images_.values() for region in rows]
    key = class_attribute((attributes for _, _, attributes in regions), str(path))
    aside: Counter[str] = Counter()
    records = []
    for file, by_image in found.items():
        split = split_name(file.parent.name)
        split = split if split in ("train", "val", "test") else ""
        finder = Images([images] if images else [file.parent, file.parent.parent / "images"])
        for name, rows in by_image.items():
            place = f"{file.name}, image '{name}'"
            objects = [item for row in rows if (item := _object(row, key, classes, aside))]
            image = finder.find(name, place)
            records.append(Record(safe_name(name), image, place, split, objects=objects))
    names = {item.label for record in records for item in record.objects}
    order = dict.fromkeys([*(classes.names if classes else ()), *sorted(names)])
    return Source(order, records, aside=aside, notes=(UNNAMED,) * (key is None and bool(names)))


def _files(path: Path) -> list[Path]:
    """Return the files of VIA in a folder, else in the folders below it."""
    if path.is_file():
        return [path] if _is_via(path) else []
    places = (path.glob("*"), path.glob("*/*"))
    return next((found for files in places if (found := sorted(filter(_is_via, files)))), [])


def _is_via(file: Path) -> bool:
    if file.suffix.lower() == ".csv":
        return "region_shape_attributes" in header(file)
    start = head(file) if file.suffix.lower() == ".json" else b""
    return start.startswith(b"{") and (
        b'"_via_' in start or (b'"regions"' in start and b'"filename"' in start)
    )


def _of_json(file: Path) -> Regions:
    content = read_json(file)
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise problem(str(file), "it holds no images of VIA", _STEP)
    found: Regions = {}
    for key, entry in entries.items():
        regions = entry.get("regions") if isinstance(entry, dict) else None
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        if not isinstance(regions, list) or not isinstance(entry.get("filename"), str):
            raise problem(f"{file.name}, entry '{key}'", "it has no filename and regions", _STEP)
        rows = found.setdefault(entry["filename"], [])
        for region in regions:
            place = f"{file.name}, image '{entry['filename']}', region {len(rows) + 1}"
            if not isinstance(region, dict):
                raise problem(place, "it is no region", MEND)
            shape, said = region.get("shape_attributes"), region.get("region_attributes") or {}
            rows.append((place, *_both(shape, said, place)))
    return found


def _of_csv(file: Path) -> Regions:
    found: Regions = {}
    for number_, row in enumerate(read_rows(file), start=2):
        place = f"{file.name}, line {number_}"
        name = row.get("filename") or row.get("#filename")
        if not name:
            raise problem(place, "it names no file", _STEP)
        rows = found.setdefault(name, [])
        try:
            shape, said = (json.loads(row[f"region_{k}attributes"] or "{}") for k in ("shape_", ""))
        except (KeyError, ValueError, RecursionError) as error:
            raise problem(place, f"its region is not JSON: {error}", _STEP) from error
        if shape:
            rows.append((place, *_both(shape, said, place)))
    return found


def _both(shape: Any, said: Any, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(shape, dict) or not isinstance(said, dict):
        raise problem(place, "its shape or its attributes are no mapping", MEND)
    return shape, said


def _object(
    region: tuple[str, dict[str, Any], dict[str, Any]],
    key: str | None,
    classes: Known | None,
    aside: Counter[str],
) -> Object | None:
    place, shape, said = region
    kind = str(shape.get("name"))
    if kind in _NO_AREA:
        aside[_NO_AREA[kind]] += 1
        return None
    try:
        label = class_of(said.get(key), classes) if key is not None else OBJECT
        if label is None:
            aside["regions without a class"] += 1
            return None
        if kind not in _DRAW:
            raise ValueError(f"its shape '{kind}' is unknown here")
        return Object(label, _DRAW[kind](shape), place.rpartition(", ")[2])
    except ValueError as error:
        raise problem(place, str(error), MEND) from error


def _polygon(shape: Mapping[str, Any]) -> partial[Patch]:
    x, y = shape.get("all_points_x"), shape.get("all_points_y")
    if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
        raise ValueError("its all_points_x and all_points_y are no lists of one length")
    return partial(fill, [corners(list(zip(x, y, strict=True)))])


def _rect(shape: Mapping[str, Any]) -> partial[Patch]:
    x, y, width, height = (number(shape.get(key)) for key in ("x", "y", "width", "height"))
    return partial(fill, [box(x, y, x + width, y + height)])


def _round(shape: Mapping[str, Any]) -> partial[Patch]:
    x, y = number(shape.get("cx")), number(shape.get("cy"))
    rx, ry = (number(shape.get(key, shape.get("r"))) for key in ("rx", "ry"))
    return partial(fill, [ellipse(x, y, rx, ry, math.degrees(number(shape.get("theta", 0))))])


_DRAW = {"polygon": _polygon, "rect": _rect, "circle": _round, "ellipse": _round}

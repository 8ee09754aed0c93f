"""VIA, the VGG Image Annotator 2: projects and exported annotations as JSON, and annotations as CSV.

The class is an attribute of the region; later regions cover earlier ones. Points and polylines have no area.

Source:
    The files that version 2 of the tool writes; angles of ellipses are radians, clockwise on the screen.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.convert.attributes import (
    OBJECT,
    UNNAMED,
    class_attribute,
    class_of,
    class_order,
    header,
    read_rows,
)
from hrseg.convert.base import MEND, LeftOut, Objects, Record, Source, each, problem
from hrseg.convert.classes import Known, known_split
from hrseg.convert.files import Images, corners, json_start, number, read_json, safe_name
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, box, ellipse, fill

_STEP = "Export the annotations of VIA again, as JSON or CSV"
_NO_AREA = {"point": "points", "polyline": "polylines"}
Region = tuple[str, Mapping[str, Any], Mapping[str, Any]]
"""Place, shape and attributes of a region."""


def recognizes(path: Path) -> bool:
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
    found = {
        (file, name): regions
        for file in files
        for name, regions in (_of_csv if _is_csv(file) else _of_json)(file).items()
    }
    said = [attributes for regions in found.values() for _, _, attributes in regions]
    key = class_attribute(said, str(path))
    finders = {
        file: Images([images] if images else [file.parent, file.parent.parent / "images"])
        for file in files
    }
    aside = LeftOut()
    source = Source({}, [], aside=aside)

    def make(item: tuple[Path, str]) -> Record:
        file, name = item
        place = f"{file.name}, image '{name}'"
        objects = Objects(place, aside)
        for region in found[item]:
            _add(objects, region, key, classes)
        return Record(
            safe_name(name),
            finders[file].find(name, place),
            place,
            known_split(file.parent.name),
            objects=objects.found,
        )

    records = each(found, make, source.broken)
    names = class_order(records, classes)
    notes = (UNNAMED,) * (key is None and bool(names))
    return replace(source, classes=names, records=records, notes=notes)


def _files(path: Path) -> list[Path]:
    """Return the files of VIA in a folder, else in the folders below it."""
    if path.is_file():
        return [path] if _is_via(path) else []
    places = (path.glob("*"), path.glob("*/*"))
    return next((found for files in places if (found := sorted(filter(_is_via, files)))), [])


def _is_csv(file: Path) -> bool:
    return file.suffix.lower() == ".csv"


def _is_via(file: Path) -> bool:
    if _is_csv(file):
        return "regionshapeattributes" in header(file)
    content = json_start(file) if file.suffix.lower() == ".json" else None
    if not isinstance(content, dict):
        return False
    first = next(iter(content.values()), None)
    return any(key.startswith("_via_") for key in content) or (
        isinstance(first, dict) and {"filename", "regions"} <= {*first}
    )


def _of_json(file: Path) -> dict[str, list[Region]]:
    content = read_json(file)
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise problem(str(file), "it holds no images of VIA", _STEP)
    attributes = content.get("_via_attributes")
    choices = attributes.get("region") if isinstance(attributes, dict) else None
    choices = choices if isinstance(choices, dict) else {}
    found: dict[str, list[Region]] = {}
    for key, entry in entries.items():
        regions = entry.get("regions") if isinstance(entry, dict) else None
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        if not isinstance(regions, list) or not isinstance(entry.get("filename"), str):
            raise problem(f"{file.name}, entry '{key}'", "it has no filename and regions", _STEP)
        rows = found.setdefault(entry["filename"], [])
        for region in regions:
            place = f"region {len(rows) + 1}"
            said = region if isinstance(region, dict) else {}
            shape, chosen = said.get("shape_attributes"), said.get("region_attributes") or {}
            row = _region(place, shape, chosen, f"{file.name}, entry '{key}'")
            rows.append((*row[:2], {k: _chosen(v, choices.get(k)) for k, v in row[2].items()}))
    return found


def _chosen(value: Any, attribute: Any) -> Any:
    """Return what a project says that a number of its list of choices means."""
    options = attribute.get("options") if isinstance(attribute, dict) else None
    if isinstance(options, dict) and isinstance(value, str) and value.isdecimal():
        return options.get(value) or value
    return value


def _of_csv(file: Path) -> dict[str, list[Region]]:
    found: dict[str, list[Region]] = {}
    for line, row in enumerate(read_rows(file), start=2):
        place = f"line {line}"
        name = row.get("filename") or row.get("#filename")
        if not name:
            raise problem(f"{file.name}, {place}", "it names no file", _STEP)
        rows = found.setdefault(name, [])
        try:
            shape, said = (json.loads(row[f"region_{k}attributes"] or "{}") for k in ("shape_", ""))
        except (KeyError, ValueError, RecursionError) as error:
            raise problem(
                f"{file.name}, {place}", f"its region is not JSON: {error}", _STEP
            ) from error
        if shape:
            rows.append(_region(place, shape, said, file.name))
    return found


def _region(place: str, shape: Any, said: Any, where: str) -> Region:
    if not isinstance(shape, dict) or not isinstance(said, dict):
        raise problem(f"{where}, {place}", "its shape or its attributes are no mapping", MEND)
    return place, shape, said


def _add(objects: Objects, region: Region, key: str | None, classes: Known | None) -> None:
    place, shape, said = region
    kind = str(shape.get("name"))
    if kind in _NO_AREA:
        objects.aside[_NO_AREA[kind]] += 1
        return
    try:
        label = class_of(said.get(key), classes) if key is not None else OBJECT
    except ValueError as error:
        raise problem(f"{objects.where}, {place}", str(error), MEND) from error
    if label is None:
        objects.aside.name("regions without a class", f"{objects.where}, {place}")
        return
    objects.add(place, label, partial(_draw, kind, shape))


def _draw(kind: str, shape: Mapping[str, Any]) -> partial[Patch]:
    if kind not in _DRAW:
        raise ValueError(f"its shape '{kind}' is unknown here")
    return _DRAW[kind](shape)


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

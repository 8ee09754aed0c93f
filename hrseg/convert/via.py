"""Reader of VIA, the VGG Image Annotator 2: projects and exported annotations as JSON, and annotations as CSV.

The class is an attribute of the region; later regions cover earlier ones. Points and polylines have no area.

Source:
    The files that version 2 of the tool writes; angles of ellipses are radians, clockwise on the screen.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.convert.attributes import (
    OBJECT,
    UNNAMED,
    class_attribute,
    class_of,
    read_header,
    read_rows,
)
from hrseg.convert.base import (
    FIX,
    Draw,
    ObjectList,
    Record,
    Source,
    data_error,
    oval,
    polygon,
    rectangle_at,
)
from hrseg.convert.classes import SourceClasses, standard_split
from hrseg.convert.files import Images, json_start, read_json, read_number, safe_name
from hrseg.errors import DataError, parse_json

_STEP = "Export the annotations of VIA again, as JSON or CSV"
_NO_AREA = {"point": "points", "polyline": "polylines"}
Region = tuple[str, Mapping[str, Any], Mapping[str, Any]]
"""Place, shape and attributes of a region."""


def recognizes(path: Path) -> bool:
    """Return whether this is a file of VIA, or a folder of such files."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read a JSON or CSV file, a folder of them, or one with a folder for each split.

    `classes` gives the order of the classes and the names of numbers.
    """
    files = _files(path) or ([path] if path.is_file() else [])
    if not files:
        raise DataError(f"No JSON or CSV file of VIA in {path}. {_STEP}.")
    found = {
        (file, name): regions
        for file in files
        for name, regions in (_read_csv if _is_csv(file) else _read_json)(file).items()
    }
    attributes = [row for regions in found.values() for _, _, row in regions]
    key = class_attribute(attributes, str(path))
    finders = {f: Images(images, f.parent, f.parent.parent / "images") for f in files}
    source = Source()

    def read_image(item: tuple[Path, str]) -> Record:
        file, name = item
        place = f"{file.name}, image '{name}'"
        objects = ObjectList(place, source.skipped)
        for region in found[item]:
            _add(objects, region, key, classes)
        image = finders[file].find(name, place)
        split = standard_split(file.parent.name)
        return Record(safe_name(name), image, place, split, objects=objects.objects)

    source.read_records(found, read_image)
    source.add_labels(classes.names if classes else ())
    source.notes = (UNNAMED,) * (key is None and bool(source.classes))
    return source


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
        return "regionshapeattributes" in read_header(file)
    content = json_start(file) if file.suffix.lower() == ".json" else None
    if not isinstance(content, dict):
        return False
    first = next(iter(content.values()), None)
    return any(key.startswith("_via_") for key in content) or (
        isinstance(first, dict) and {"filename", "regions"} <= {*first}
    )


def _read_json(file: Path) -> dict[str, list[Region]]:
    content = read_json(file)
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise data_error(str(file), "it holds no images of VIA", _STEP)
    attributes = content.get("_via_attributes")
    choices = attributes.get("region") if isinstance(attributes, dict) else None
    choices = choices if isinstance(choices, dict) else {}
    found: dict[str, list[Region]] = {}
    for key, entry in entries.items():
        where = f"{file.name}, entry '{key}'"
        regions = entry.get("regions") if isinstance(entry, dict) else None
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        if not isinstance(regions, list) or not isinstance(entry.get("filename"), str):
            raise data_error(where, "it has no filename and regions", _STEP)
        rows = found.setdefault(entry["filename"], [])
        for region in regions:
            fields = region if isinstance(region, dict) else {}
            chosen = fields.get("region_attributes") or {}
            name = f"region {len(rows) + 1}"
            place, shape, values = _region(name, fields.get("shape_attributes"), chosen, where)
            rows.append((place, shape, {k: _option(v, choices.get(k)) for k, v in values.items()}))
    return found


def _option(value: Any, attribute: Any) -> Any:
    """Return the name that a project gives to a number of its list of choices."""
    options = attribute.get("options") if isinstance(attribute, dict) else None
    if isinstance(options, dict) and isinstance(value, str) and value.isdecimal():
        return options.get(value) or value
    return value


def _read_csv(file: Path) -> dict[str, list[Region]]:
    found: dict[str, list[Region]] = {}
    for line, row in enumerate(read_rows(file), start=2):
        place = f"line {line}"
        where = f"{file.name}, {place}"
        name = row.get("filename") or row.get("#filename")
        if not name:
            raise data_error(where, "it names no file", _STEP)
        rows = found.setdefault(name, [])
        try:
            shape, values = (parse_json(row[f"region_{k}attributes"] or "{}") for k in ("shape_", ""))
        except (KeyError, ValueError) as error:
            raise data_error(where, f"its region is not JSON: {error}", _STEP) from error
        if shape:
            rows.append(_region(place, shape, values, file.name))
    return found


def _region(place: str, shape: Any, attributes: Any, where: str) -> Region:
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        raise data_error(f"{where}, {place}", "its shape or its attributes are no mapping", FIX)
    return place, shape, attributes


def _add(objects: ObjectList, region: Region, key: str | None, classes: SourceClasses | None) -> None:
    place, shape, attributes = region
    kind = str(shape.get("name"))
    if kind in _NO_AREA:
        objects.skipped[_NO_AREA[kind]] += 1
        return
    try:
        label = class_of(attributes.get(key), classes) if key is not None else OBJECT
    except ValueError as error:
        raise data_error(f"{objects.where}, {place}", str(error), FIX) from error
    if label is None:
        objects.skipped.add("regions without a class", f"{objects.where}, {place}")
        return
    objects.add(place, label, partial(_parse, kind, shape))


def _parse(kind: str, shape: Mapping[str, Any]) -> Draw:
    if kind == "polygon":
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise ValueError("its all_points_x and all_points_y are no lists of one length")
        return polygon(list(zip(x, y, strict=True)))
    if kind == "rect":
        return rectangle_at(*(shape.get(key) for key in ("x", "y", "width", "height")))
    if kind in ("circle", "ellipse"):
        rx, ry = (shape.get(key, shape.get("r")) for key in ("rx", "ry"))
        degrees = math.degrees(read_number(shape.get("theta", 0)))
        return oval(shape.get("cx"), shape.get("cy"), rx, ry, degrees)
    raise ValueError(f"its shape '{kind}' is unknown here")

"""SuperAnnotate: vector projects (polygons, boxes, ellipses) and pixel projects (`___save.png`, `___fuse.png`).

One JSON file for each image, and classes/classes.json. Later instances cover earlier ones. In a pixel project the
JSON names the color of each part of an instance in `___save.png`; `___fuse.png` holds the colors of the classes.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.convert.attributes import hex_color
from hrseg.convert.base import (
    Color,
    LeftOut,
    Objects,
    Raster,
    Record,
    Source,
    each,
    fault,
    packed,
    problem,
)
from hrseg.convert.classes import Known
from hrseg.convert.files import (
    Images,
    corners,
    json_files,
    json_start,
    number,
    read_json,
    safe_name,
)
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Ring, box, ellipse, fill

_STEP = "Export the project of SuperAnnotate again"
_CLASSES = "classes/classes.json"
_ENDINGS = ("___objects.json", "___pixel.json", ".json")
_NO_AREA = {
    **{"point": "points", "polyline": "polylines", "template": "skeletons", "cuboid": "cuboids"},
    "tag": "tags",
}
Table = tuple[dict[Any, str], dict[str, Color | None]]
"""Id → class, and class → color."""


def recognizes(path: Path) -> bool:
    """Say whether this is an export of SuperAnnotate, or one of its files."""
    return any(is_superannotate(json_start(file)) for file in _files(path)[:9])


def is_superannotate(content: Any) -> bool:
    """Say whether a file's content is SuperAnnotate's; a long list of comments may hide the instances."""
    said = content.get("metadata") if isinstance(content, dict) else None
    return (
        isinstance(said, dict) and "name" in said and bool({"instances", "comments"} & {*content})
    )


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read an export of SuperAnnotate.

    Args:
        path: The folder with classes/, or one JSON file.
        images: Folder of the images; None looks beside the annotations.
        classes: Not needed; SuperAnnotate names its classes.

    Raises:
        DataError: Something in it is wrong.
    """
    base = path.parent if path.is_file() else path
    files = _files(path)
    if not files:
        raise DataError(f"No JSON files in {path}. Give the unpacked folder of the export.")
    names, colors = _table(base / _CLASSES)
    finder = Images([images] if images else [base])
    aside = LeftOut()
    source = Source({}, [], aside=aside)
    table = names, colors
    records = each(files, lambda file: _record(file, base, finder, table, aside), source.broken)
    labels = {item.label for record in records for item in record.objects}
    labels |= {n for record in records if record.raster for n in record.raster.colors.values() if n}
    found = colors | {name: None for name in sorted(labels) if name not in colors}
    return replace(source, classes=found, records=records)


def _files(path: Path) -> list[Path]:
    return [p for p in json_files(path, "**/*.json") if not p.as_posix().endswith("/" + _CLASSES)]


def _table(file: Path) -> Table:
    """Return id → class and class → color."""
    rows = read_json(file) if file.is_file() else []
    try:
        kept = [row for row in rows if row.get("type", "object") in ("object", 1, None)]
        colors = {str(row["name"]): hex_color(row.get("color")) for row in kept}
        return {row["id"]: str(row["name"]) for row in kept if "id" in row}, colors
    except (AttributeError, KeyError, TypeError) as error:
        raise problem(str(file), fault(error), _STEP) from error


def _record(file: Path, base: Path, finder: Images, table: Table, aside: LeftOut) -> Record:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    try:
        said = dict(content["metadata"])
        rows = [dict(row) for row in content["instances"]]
        sides = said.get("height"), said.get("width")
        size = None if None in sides else (int(number(sides[0])), int(number(sides[1])))
    except (KeyError, TypeError, ValueError) as error:
        raise problem(where, fault(error), _STEP) from error
    stem = next(where.removesuffix(ending) for ending in _ENDINGS if where.endswith(ending))
    names, colors = table
    objects = Objects(where, aside)
    parts: dict[int, str] = {}
    for index, row in enumerate(rows, start=1):
        kind, label = str(row.get("type")), row.get("className") or names.get(row.get("classId"))
        if kind in _NO_AREA:
            aside[_NO_AREA[kind]] += 1
        elif isinstance(row.get("parts"), list) and isinstance(label, str):
            parts |= {_part(part, f"{where}, instance {index}"): label for part in row["parts"]}
        else:
            objects.add(f"instance {index}", label, partial(_draw, kind, row))
    pixel = bool(parts) or file.name.endswith("___pixel.json")
    return Record(
        name=safe_name(stem),
        image=finder.find(stem, where, str(said.get("name") or stem)),
        place=where,
        size=size,
        objects=objects.found,
        raster=_raster(base / stem, where, parts, colors) if pixel else None,
    )


def _part(part: Any, where: str) -> int:
    color = hex_color(part.get("color")) if isinstance(part, dict) else None
    if color is None:
        raise problem(where, "a part of it has no color", _STEP)
    return packed(color)


def _raster(
    stem: Path, where: str, parts: Mapping[int, str], colors: Mapping[str, Color | None]
) -> Raster:
    """Return the pixels of a pixel project: those of instances, else those of classes."""
    save, fuse = (stem.with_name(f"{stem.name}___{kind}.png") for kind in ("save", "fuse"))
    if save.is_file():
        return Raster(save, {}, {0: ""} | dict(parts), where)
    if not fuse.is_file():
        raise problem(where, f"its pixels are in {save.name}, which is not there", _STEP)
    shown = {packed(color): name for name, color in colors.items() if color is not None}
    return Raster(fuse, {}, {0: ""} | shown, _CLASSES)


def _draw(kind: str, row: dict[str, Any]) -> partial[Patch]:
    if kind not in _OUTLINES:
        raise ValueError(f"its type '{kind}' is unknown here")
    # a hole of two points takes nothing away
    holes = [corners(ring) for ring in row.get("exclude") or () if len(ring) > 5]
    points = row.get("points", row)  # an ellipse may have no mapping of its own
    return partial(fill, [_OUTLINES[kind](points), *holes])


def _sides(points: Any) -> dict[str, float]:
    if not isinstance(points, dict):
        raise ValueError("its points are no mapping")
    sides = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4", "cx", "cy", "rx", "ry", "angle")
    return {key: number(points[key]) for key in sides if key in points}


def _box(points: Any) -> Ring:
    sides = _sides(points)
    return box(*(sides[key] for key in ("x1", "y1", "x2", "y2")))


def _turned_box(points: Any) -> Ring:
    sides = _sides(points)
    return corners([[sides[f"x{i}"], sides[f"y{i}"]] for i in (1, 2, 3, 4)])


def _ellipse(points: Any) -> Ring:
    sides = _sides(points)
    x, y, rx, ry = (sides[key] for key in ("cx", "cy", "rx", "ry"))
    return ellipse(x, y, rx, ry, sides.get("angle", 0.0))


_OUTLINES = {"polygon": corners, "bbox": _box, "rbbox": _turned_box, "ellipse": _ellipse}
"""Type → function from its points to an outline."""

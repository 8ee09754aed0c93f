"""Reader of SuperAnnotate: vector projects, and pixel projects with `___save.png` or `___fuse.png`.

One JSON file per image, and classes/classes.json. Later instances cover earlier ones. In a pixel project the JSON
names the color of each part of an instance in `___save.png`; `___fuse.png` holds the colors of the classes.
"""

from functools import partial
from pathlib import Path
from typing import Any

from hrseg.convert.attributes import hex_color
from hrseg.convert.base import (
    Draw,
    ObjectList,
    Raster,
    Record,
    Skipped,
    Source,
    color_code,
    data_error,
    errors_at,
    read_size,
)
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import (
    Images,
    json_files,
    json_start,
    read_json,
    read_number,
    read_points,
    safe_name,
)
from hrseg.errors import DataError
from hrseg.imaging.polygons import Ring, box, ellipse, fill
from hrseg.labels import Color

_STEP = "Export the project of SuperAnnotate again"
_CLASSES = "classes/classes.json"
_SUFFIXES = ("___objects.json", "___pixel.json", ".json")
_NO_AREA = {
    **{"point": "points", "polyline": "polylines", "template": "skeletons", "cuboid": "cuboids"},
    "tag": "tags",
}
Table = tuple[dict[Any, str], dict[str, Color | None]]
"""Id → class, and class → color."""


def recognizes(path: Path) -> bool:
    """Return whether this is an export of SuperAnnotate, or one of its files."""
    return any(is_superannotate(json_start(file)) for file in _files(path)[:9])


def is_superannotate(content: Any) -> bool:
    """Return whether a file's content is SuperAnnotate's; a long list of comments may hide the instances."""
    metadata = content.get("metadata") if isinstance(content, dict) else None
    known_lists = {"instances", "comments"} & {*(content if metadata else ())}
    return isinstance(metadata, dict) and "name" in metadata and bool(known_lists)


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the folder with classes/, or one JSON file; images are by default beside the annotations."""
    base = path.parent if path.is_file() else path
    files = _files(path)
    if not files:
        raise DataError(f"No JSON files in {path}. Give the unpacked folder of the export.")
    table = _table(base / _CLASSES)
    finder = Images(images, base)
    source = Source(dict(table[1]))
    source.read_records(files, lambda file: _record(file, base, finder, table, source.skipped))
    rasters = (record.raster for record in source.records if record.raster)
    labels = {name for raster in rasters for name in raster.colors.values() if name}
    labels |= {item.label for record in source.records for item in record.objects}
    return source.add_labels(sorted(labels))


def _files(path: Path) -> list[Path]:
    return [p for p in json_files(path, "**/*.json") if not p.as_posix().endswith("/" + _CLASSES)]


def _table(file: Path) -> Table:
    rows = read_json(file) if file.is_file() else []
    with errors_at(str(file), _STEP):
        rows = [row for row in rows if row.get("type", "object") in ("object", 1, None)]
        colors = {str(row["name"]): hex_color(row.get("color")) for row in rows}
        return {row["id"]: str(row["name"]) for row in rows if "id" in row}, colors


def _record(file: Path, base: Path, finder: Images, table: Table, skipped: Skipped) -> Record:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    with errors_at(where, _STEP):
        metadata = dict(content["metadata"])
        rows = [dict(row) for row in content["instances"]]
        size = read_size(metadata.get("height"), metadata.get("width"))
    stem = next(where.removesuffix(suffix) for suffix in _SUFFIXES if where.endswith(suffix))
    names, colors = table
    objects = ObjectList(where, skipped)
    parts: dict[int, str] = {}
    for index, row in enumerate(rows, start=1):
        kind, label = str(row.get("type")), row.get("className") or names.get(row.get("classId"))
        if kind in _NO_AREA:
            skipped[_NO_AREA[kind]] += 1
        elif isinstance(row.get("parts"), list) and isinstance(label, str):
            place = f"{where}, instance {index}"
            parts |= {_part_color(part, place): label for part in row["parts"]}
        else:
            objects.add(f"instance {index}", label, partial(_parse, kind, row))
    raster = None
    if parts or file.name.endswith("___pixel.json"):
        raster = _raster(base / stem, where, parts, colors)
    image = finder.find(stem, where, str(metadata.get("name") or stem))
    return Record(safe_name(stem), image, where, size=size, objects=objects.objects, raster=raster)


def _part_color(part: Any, where: str) -> int:
    color = hex_color(part.get("color")) if isinstance(part, dict) else None
    if color is None:
        raise data_error(where, "a part of it has no color", _STEP)
    return color_code(color)


def _raster(stem: Path, where: str, parts: dict[int, str], colors: dict[str, Color | None]) -> Raster:
    """Return the pixels of a pixel project: those of instances, else those of classes."""
    save, fuse = (stem.with_name(f"{stem.name}___{kind}.png") for kind in ("save", "fuse"))
    if save.is_file():
        return Raster(save, {}, {0: ""} | parts, where)
    if not fuse.is_file():
        raise data_error(where, f"its pixels are in {save.name}, which is not there", _STEP)
    by_color = {color_code(color): name for name, color in colors.items() if color is not None}
    return Raster(fuse, {}, {0: ""} | by_color, _CLASSES)


def _parse(kind: str, row: dict[str, Any]) -> Draw:
    if kind not in _OUTLINES:
        raise ValueError(f"its type '{kind}' is unknown here")
    # a hole of two points takes nothing away
    holes = [read_points(ring) for ring in row.get("exclude") or () if len(ring) > 5]
    points = row.get("points", row)  # an ellipse may have no mapping of its own
    return partial(fill, [_OUTLINES[kind](points), *holes])


def _numbers(points: Any, *keys: str) -> list[float]:
    if not isinstance(points, dict):
        raise ValueError("its points are no mapping")
    return [read_number(points[key]) for key in keys]


def _box(points: Any) -> Ring:
    return box(*_numbers(points, "x1", "y1", "x2", "y2"))


def _turned_box(points: Any) -> Ring:
    return read_points(_numbers(points, "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"))


def _ellipse(points: Any) -> Ring:
    return ellipse(*_numbers({"angle": 0, **points}, "cx", "cy", "rx", "ry", "angle"))


_OUTLINES = {"polygon": read_points, "bbox": _box, "rbbox": _turned_box, "ellipse": _ellipse}
"""Type → function from its points to an outline."""

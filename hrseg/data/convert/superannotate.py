"""SuperAnnotate: vector projects (polygons, boxes, ellipses) and pixel projects (`___save.png`, `___fuse.png`).

One JSON file for each image, and classes/classes.json. Later instances cover earlier ones. In a pixel project the
JSON names the color of each part of an instance in `___save.png`; `___fuse.png` holds the colors of the classes.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.data.convert.attributes import hex_color
from hrseg.data.convert.files import Images, corners, head, number, read_json, safe_name
from hrseg.data.convert.known import Known
from hrseg.data.convert.parts import MEND, Color, Object, Raster, Record, Source, packed, problem
from hrseg.data.convert.polygons import Patch, box, ellipse, fill
from hrseg.errors import DataError

_STEP = "Export the project of SuperAnnotate again"
_CLASSES = "classes/classes.json"
_ENDINGS = ("___objects.json", "___pixel.json", ".json")
_NO_AREA = {
    **{"point": "points", "polyline": "polylines", "template": "skeletons", "cuboid": "cuboids"},
    "tag": "tags",
}


def recognises(path: Path) -> bool:
    """Say whether this is an export of SuperAnnotate, or one of its files."""
    file = next(iter(_files(path)), None)
    start = head(file) if file else b""
    return b'"metadata"' in start and (b'"instances"' in start or (path / _CLASSES).is_file())


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
    names, colours = _table(base / _CLASSES)
    finder = Images([images] if images else [base])
    aside: Counter[str] = Counter()
    records = [_record(file, base, finder, names, colours, aside) for file in files]
    labels = {item.label for record in records for item in record.objects}
    labels |= {n for record in records if record.raster for n in record.raster.colours.values() if n}
    found = colours | {name: None for name in sorted(labels) if name not in colours}
    return Source(found, records, aside=aside)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".json" else []
    return [p for p in sorted(path.rglob("*.json")) if p.parts[-2:] != tuple(_CLASSES.split("/"))]


def _table(file: Path) -> tuple[dict[int, str], dict[str, Color | None]]:
    """Return id → class and class → color."""
    rows = read_json(file) if file.is_file() else []
    try:
        kept = [row for row in rows if row.get("type", "object") in ("object", 1, None)]
        colours = {str(row["name"]): hex_color(row.get("color")) for row in kept}
        return {row["id"]: str(row["name"]) for row in kept if "id" in row}, colours
    except (AttributeError, KeyError, TypeError) as error:
        raise problem(str(file), f"{error!r} is missing or wrong", _STEP) from error


def _record(
    file: Path,
    base: Path,
    finder: Images,
    names: Mapping[int, str],
    colours: Mapping[str, Color | None],
    aside: Counter[str],
) -> Record:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    try:
        said = dict(content["metadata"])
        rows = [dict(row) for row in content["instances"]]
        sides = said.get("height"), said.get("width")
        size = None if None in sides else (int(number(sides[0])), int(number(sides[1])))
    except (KeyError, TypeError, ValueError) as error:
        raise problem(where, f"{error!r} is missing or wrong", _STEP) from error
    stem = next(where.removesuffix(ending) for ending in _ENDINGS if where.endswith(ending))
    objects: list[Object] = []
    parts: dict[int, str] = {}
    for index, row in enumerate(rows, start=1):
        what, kind = f"instance {index}", str(row.get("type"))
        if kind in _NO_AREA:
            aside[_NO_AREA[kind]] += 1
            continue
        try:
            label = row.get("className") or names.get(row.get("classId", ""))
            if not isinstance(label, str):
                raise ValueError(f"classes.json has no class {row.get('classId')!r}")
            if "parts" in row:
                parts |= {packed(_part(part)): label for part in row["parts"]}
                continue
            if kind not in _DRAW:
                raise ValueError(f"its type '{kind}' is unknown here")
            holes = [corners(ring) for ring in row.get("exclude") or ()]
            draw = partial(fill, [_DRAW[kind](row.get("points")), *holes])
            objects.append(Object(label, draw, f"{what}"))
        except (TypeError, ValueError) as error:
            raise problem(f"{where}, {what}", str(error), MEND) from error
    pixel = bool(parts) or file.name.endswith("___pixel.json")
    return Record(
        name=safe_name(stem),
        image=finder.find(stem, where, str(said.get("name") or stem)),
        place=where,
        size=size,
        objects=objects,
        raster=_raster(base / stem, where, parts, colours) if pixel else None,
    )


def _part(part: Any) -> Color:
    color = hex_color(part.get("color")) if isinstance(part, dict) else None
    if color is None:
        raise ValueError("a part of it has no color")
    return color


def _raster(
    stem: Path, where: str, parts: Mapping[int, str], colours: Mapping[str, Color | None]
) -> Raster:
    """Return the pixels of a pixel project: those of instances, else those of classes."""
    save, fuse = (stem.with_name(f"{stem.name}___{kind}.png") for kind in ("save", "fuse"))
    if save.is_file():
        return Raster(save, {}, {0: ""} | dict(parts), where)
    if not fuse.is_file():
        raise problem(where, f"its pixels are in {save.name}, which is not there", _STEP)
    shown = {packed(color): name for name, color in colours.items() if color is not None}
    return Raster(fuse, {}, {0: ""} | shown, _CLASSES)


def _sides(points: Any) -> dict[str, float]:
    if not isinstance(points, dict):
        raise ValueError("its points are no mapping")
    return {key: number(value) for key, value in points.items()}


def _box(points: Any) -> Any:
    sides = _sides(points)
    return box(*(sides.get(key, float("nan")) for key in ("x1", "y1", "x2", "y2")))


def _turned_box(points: Any) -> Any:
    sides = _sides(points)
    return corners([[sides.get(f"{axis}{i}") for axis in "xy"] for i in (1, 2, 3, 4)])


def _ellipse(points: Any) -> Any:
    sides = _sides(points)
    return ellipse(*(sides.get(key, float("nan")) for key in ("cx", "cy", "rx", "ry", "angle")))


_DRAW = {"polygon": corners, "bbox": _box, "rbbox": _turned_box, "ellipse": _ellipse}
"""Type → function from its points to an outline."""

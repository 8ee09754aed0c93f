"""Datumaro, which Intel Geti exports: annotations/<subset>.json and images/<subset>/.

Polygons, run lengths, boxes and ellipses are drawn; a higher z_order lies on top, and of equal ones the later.
Labels of whole images, points, lines and cuboids have no area and are left out.

Source:
    The format of open-edge-platform/datumaro, dm_format_version 1.0; run lengths are COCO's strings.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.convert.base import Color, LeftOut, Objects, Record, Source, each, problem, reading
from hrseg.convert.classes import Known, split_name
from hrseg.convert.coco import run_lengths
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
from hrseg.imaging.polygons import Patch, box, ellipse, fill

_NO_AREA = ("label", "points", "polyline", "caption", "cuboid_2d", "cuboid_3d", "skeleton")
_STEP = "Export the project in Datumaro's format"


def recognizes(path: Path) -> bool:
    """Say whether this is a dataset of Datumaro's, or one of its annotation files."""
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    return [file for file in json_files(path, "annotations/*.json") if _is_datumaro(file)]


def _is_datumaro(file: Path) -> bool:
    start = json_start(file)
    if not isinstance(start, dict) or not isinstance(start.get("categories"), dict):
        return False
    return "dm_format_version" in start or isinstance(start.get("items"), list)


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read a dataset of Datumaro's.

    Args:
        path: Its folder, or one of annotations/*.json.
        images: Folder of the images; None is images/.
        classes: Not needed; the files name their labels.

    Raises:
        DataError: Something in it is wrong.
    """
    files = _files(path) or json_files(path)
    if not files:
        raise DataError(
            f"No annotations/*.json of Datumaro in {path}. {_STEP}, and give its folder."
        )
    root = files[0].parent.parent
    finder = Images([images] if images else [root / "images", root])
    found: dict[str, Color | None] = {}
    source = Source(found, [], aside=LeftOut())
    records: list[Record] = []
    for file in files:
        content = read_json(file)
        with reading(str(file), _STEP):
            labels = [str(row["name"]) for row in content["categories"]["label"]["labels"]]
            colormap = content["categories"].get("mask", {}).get("colormap", [])
            colors = {row["label_id"]: (row["r"], row["g"], row["b"]) for row in colormap}
            items = list(content["items"])
        for index, name in enumerate(labels):
            found.setdefault(name, colors.get(index))
        make = partial(_record, file=file, labels=labels, finder=finder, aside=source.aside)
        records += each(items, make, source.broken)
    return replace(source, records=records, notes=("A higher z_order lies on top of a lower one.",))


def _record(
    item: Any, *, file: Path, labels: list[str], finder: Images, aside: LeftOut
) -> Record | None:
    with reading(f"{file.name}, an item", _STEP):
        name = str(item["id"])
        rows = [dict(row) for row in item.get("annotations") or ()]
        image = item.get("image") or item.get("media") or {}
        size = image.get("size")
        size = (int(size[0]), int(size[1])) if size else None
        file_name = str(image.get("path") or name)
    where = f"{file.name}, item '{name}'"
    if "video" in item or "video_frame" in item or "point_cloud" in item:
        aside["items that are no images"] += 1
        return None
    objects = Objects(where, aside)
    for index, row in enumerate(rows, start=1):
        kind, what = str(row.get("type")), f"annotation {index}"
        if kind in _NO_AREA:
            aside[f"{kind} annotations"] += 1
            continue
        label = row.get("label_id")
        if not isinstance(label, int) or not 0 <= label < len(labels):
            raise problem(f"{where}, {what}", f"there is no label {label!r}", _STEP)
        objects.add(what, labels[label], partial(_draw, kind, row), row.get("z_order") or 0)
    picture = finder.find(f"{file.stem}/{file_name}", where, file_name, name)
    return Record(safe_name(name), picture, where, split_name(file.stem), size, objects.found)


def _draw(kind: str, row: dict[str, Any]) -> partial[Patch]:
    if kind == "polygon":
        return partial(fill, [corners(row["points"])])
    if kind == "mask":
        return run_lengths(row["rle"])
    if kind == "bbox":
        x, y, width, height = (number(value) for value in row["bbox"])
        return partial(fill, [box(x, y, x + width, y + height)])
    if kind == "ellipse":  # the corners of the box around it
        x0, y0, x1, y1 = (number(value) for value in row["points"])
        return partial(fill, [ellipse((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)])
    raise ValueError(f"its type '{kind}' is unknown here")

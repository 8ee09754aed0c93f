"""Reader of Datumaro, which Intel Geti exports: annotations/<subset>.json and images/<subset>/.

Polygons, run lengths, boxes and ellipses are read; a higher z_order covers a lower one, and of equal ones the later
covers the earlier. Labels of whole images, points, lines and cuboids have no area and are skipped.

Source:
    The format of open-edge-platform/datumaro, dm_format_version 1.0; run lengths are COCO's strings.
"""

from functools import partial
from pathlib import Path
from typing import Any

from hrseg.convert.base import (
    Draw,
    ObjectList,
    Record,
    Skipped,
    Source,
    data_error,
    errors_at,
    oval,
    polygon,
    rectangle_at,
)
from hrseg.convert.classes import SourceClasses, split_name
from hrseg.convert.coco import run_lengths
from hrseg.convert.files import Images, json_files, json_start, read_json, read_number, safe_name
from hrseg.errors import DataError

_NO_AREA = ("label", "points", "polyline", "caption", "cuboid_2d", "cuboid_3d", "skeleton")
_STEP = "Export the project in Datumaro's format"


def recognizes(path: Path) -> bool:
    """Return whether this is a dataset of Datumaro's, or one of its annotation files."""
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    files = json_files(path, "annotations/*.json")
    return [file for file in files if _is_datumaro(json_start(file))]


def _is_datumaro(start: Any) -> bool:
    if not isinstance(start, dict) or not isinstance(start.get("categories"), dict):
        return False
    return "dm_format_version" in start or isinstance(start.get("items"), list)


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the folder of a dataset, or one of annotations/*.json; images are by default in images/."""
    files = _files(path) or json_files(path)
    if not files:
        raise DataError(f"No annotations/*.json of Datumaro in {path}. {_STEP}, and give its folder.")
    root = files[0].parent.parent
    finder = Images(images, root / "images", root)
    source = Source(notes=("A higher z_order is on top of a lower one.",))
    for file in files:
        content = read_json(file)
        with errors_at(str(file), _STEP):
            labels = [str(row["name"]) for row in content["categories"]["label"]["labels"]]
            colormap = content["categories"].get("mask", {}).get("colormap", [])
            colors = {row["label_id"]: (row["r"], row["g"], row["b"]) for row in colormap}
            items = list(content["items"])
        for index, name in enumerate(labels):
            source.classes.setdefault(name, colors.get(index))
        read_item = partial(_record, file, labels, finder, source.skipped)
        source.read_records(items, read_item)
    return source


def _record(file: Path, labels: list[str], finder: Images, skipped: Skipped, item: Any) -> Record | None:
    with errors_at(f"{file.name}, an item", _STEP):
        name = str(item["id"])
        rows = [dict(row) for row in item.get("annotations") or ()]
        media = item.get("image") or item.get("media") or {}
        size = media.get("size")
        size = (int(size[0]), int(size[1])) if size else None
        file_name = str(media.get("path") or name)
    where = f"{file.name}, item '{name}'"
    if "video" in item or "video_frame" in item or "point_cloud" in item:
        skipped["items that are no images"] += 1
        return None
    objects = ObjectList(where, skipped)
    for index, row in enumerate(rows, start=1):
        kind, what = str(row.get("type")), f"annotation {index}"
        if kind in _NO_AREA:
            skipped[f"{kind} annotations"] += 1
            continue
        label = row.get("label_id")
        if not isinstance(label, int) or not 0 <= label < len(labels):
            raise data_error(f"{where}, {what}", f"there is no label {label!r}", _STEP)
        objects.add(what, labels[label], partial(_parse, kind, row), row.get("z_order") or 0)
    image = finder.find(f"{file.stem}/{file_name}", where, file_name, name)
    return Record(safe_name(name), image, where, split_name(file.stem), size, objects.objects)


def _parse(kind: str, row: dict[str, Any]) -> Draw:
    if kind == "polygon":
        return polygon(row["points"])
    if kind == "mask":
        return run_lengths(row["rle"])
    if kind == "bbox":
        x, y, width, height = row["bbox"]
        return rectangle_at(x, y, width, height)
    if kind == "ellipse":  # the corners of the box around it
        x0, y0, x1, y1 = map(read_number, row["points"])
        return oval((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)
    raise ValueError(f"its type '{kind}' is unknown here")

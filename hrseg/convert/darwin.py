"""Reader of V7 Darwin: one JSON file per image, with polygons, boxes, ellipses and a raster layer of masks.

The paths of a polygon follow the even-odd rule, so that a path inside another is a hole. Later annotations cover
earlier ones. A raster layer holds runs of (number, length) along the rows; each mask annotation has its number.

Source:
    Darwin JSON 2.0 and 1.0, as v7labs/darwin-py reads them.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.convert.base import (
    Draw,
    ObjectList,
    Record,
    Skipped,
    Source,
    data_error,
    errors_at,
    oval,
    rectangle_at,
)
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import Images, json_files, json_start, read_json, read_number, safe_name
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Size, fill, place

_NO_AREA = (
    *("tag", "keypoint", "line", "skeleton", "cuboid", "eye", "table", "simple_table", "string"),
    *("link", "graph"),
)
_STEP = "Export it as 'Darwin JSON' from V7"


def recognizes(path: Path) -> bool:
    """Return whether this is a file of Darwin's, or a folder of them."""
    return any(_is_darwin(json_start(file)) for file in json_files(path, "**/*.json")[:9])


def _is_darwin(start: Any) -> bool:
    if not isinstance(start, dict):
        return False
    item = start.get("item")
    if isinstance(item, dict):
        return "slots" in item or "darwin" in str(start.get("schema_ref"))
    return isinstance(start.get("image"), dict) and "dataset" in start and "annotations" in start


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read a JSON file, a folder of them, or a dataset as darwin-py pulls it; `classes` gives their order."""
    files = [file for file in json_files(path, "**/*.json") if ".v7" not in file.parts]
    if not files:
        raise DataError(f"No .json files in {path}. Give the folder of the exported annotations.")
    base = path if path.is_dir() else path.parent
    around = (folder / "images" for folder in files[0].parents[1:4])
    finder = Images(images, base / "images", base, *around)
    source = Source()
    source.read_records(files, lambda file: _record(file, base, finder, source.skipped))
    return source.add_labels(classes.names if classes else ())


def _record(file: Path, base: Path, finder: Images, skipped: Skipped) -> Record | None:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    if not isinstance(content, dict) or not (content.keys() & {"item", "image"}):
        skipped.add("JSON files of something else", where)
        return None
    with errors_at(where, _STEP):
        item: dict[str, Any] = content.get("item") or content["image"]
        slot: dict[str, Any] = (item.get("slots") or [item])[0]
        size = (int(slot["height"]), int(slot["width"])) if slot.get("height") else None
        name = str(item.get("name") or item.get("filename") or file.stem)
        folder = str(item.get("path") or "").strip("/")
        sources = [str(row["file_name"]) for row in slot.get("source_files") or ()]
        rows = [dict(row) for row in content["annotations"]]
    if slot.get("type", "image") != "image" or any("frames" in row for row in rows):
        raise data_error(where, "it annotates a video or a volume", "Export single images")
    layer = next((row["raster_layer"] for row in rows if "raster_layer" in row), None)
    objects = ObjectList(where, skipped)
    for index, row in enumerate(rows, start=1):
        kind = next((kind for kind in _NO_AREA if kind in row), None)
        if kind:
            skipped[f"{kind}s"] += 1
        elif "raster_layer" not in row:
            what = f"annotation {row.get('id', index)}"
            objects.add(what, row.get("name"), partial(_parse, row, layer, objects, what))
    image = finder.find(f"{folder}/{name}", where, name, *sources)
    path = f"{folder}/{name}" if folder else name
    return Record(safe_name(path), image, where, size=size, objects=objects.objects)


def _parse(row: dict[str, Any], layer: Any, objects: ObjectList, what: str) -> Draw:
    if "polygon" in row:
        shape = row["polygon"]
        paths = shape.get("paths") or [shape["path"], *(shape.get("additional_paths") or ())]
        rings = [[(point["x"], point["y"]) for point in path] for path in paths]
        return partial(fill, objects.read_rings(rings, what))
    if "mask" in row:
        return _mask(str(row.get("id")), layer)
    if "ellipse" in row:
        shape = row["ellipse"]
        x, y, rx, ry = (shape[key][axis] for key in ("center", "radius") for axis in "xy")
        return oval(x, y, rx, ry, math.degrees(read_number(shape.get("angle") or 0)))
    if "bounding_box" in row:
        return rectangle_at(*(row["bounding_box"][key] for key in "xywh"))
    raise ValueError("it has no area that is known here")


def _mask(identity: str, layer: Any) -> Draw:
    if not isinstance(layer, dict):
        raise ValueError("its file has no raster layer, where its pixels should be")
    value = layer["mask_annotation_ids_mapping"].get(identity)
    runs = np.asarray(layer["dense_rle"], dtype=np.int64)
    if value is None:
        return partial(_draw_layer, runs[:0], 0)
    if runs.ndim != 1 or len(runs) % 2 or (runs < 0).any():
        raise ValueError("its raster layer is no list of pairs: number, length")
    return partial(_draw_layer, runs, int(value))


def _draw_layer(runs: np.ndarray, value: int, size: Size) -> Patch:
    numbers, lengths = runs[::2], runs[1::2]
    total = size[0] * size[1]
    if len(runs) and int(lengths.sum()) != total:
        raise ValueError(f"its raster layer has {int(lengths.sum())} pixels, its image {total}")
    flat = np.repeat(numbers == value, lengths) if len(runs) else np.zeros(total, dtype=bool)
    return place(flat.reshape(size), 0, 0, size)

"""V7 Darwin: one JSON file for each image, with polygons, boxes, ellipses and a raster layer of masks.

The paths of a polygon follow the even-odd rule, so that a path inside another is a hole. Later annotations cover
earlier ones. A raster layer holds runs of (number, length) along the rows; each mask annotation has its number.

Source:
    Darwin JSON 2.0 and 1.0, as v7labs/darwin-py reads them.
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.convert.base import LeftOut, Objects, Record, Source, each, problem, reading
from hrseg.convert.classes import Known
from hrseg.convert.files import Images, json_files, json_start, number, read_json, safe_name
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Ring, Size, box, ellipse, fill, place

_NO_AREA = (
    *("tag", "keypoint", "line", "skeleton", "cuboid", "eye", "table", "simple_table", "string"),
    *("link", "graph"),
)
_STEP = "Export it as 'Darwin JSON' from V7"


def recognizes(path: Path) -> bool:
    """Say whether this is a file of Darwin's, or a folder of them."""
    return any(_is_darwin(json_start(file)) for file in json_files(path, "**/*.json")[:9])


def _is_darwin(start: Any) -> bool:
    if not isinstance(start, dict):
        return False
    item = start.get("item")
    if isinstance(item, dict):
        return "slots" in item or "darwin" in str(start.get("schema_ref"))
    return isinstance(start.get("image"), dict) and "dataset" in start and "annotations" in start


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read files of Darwin's.

    Args:
        path: A JSON file, or a folder of them; a whole dataset as darwin-py pulls it, too.
        images: Folder of the images; None looks around the files.
        classes: Order of the classes; None sorts them by name.

    Raises:
        DataError: Something in it is wrong.
    """
    files = [file for file in json_files(path, "**/*.json") if ".v7" not in file.parts]
    if not files:
        raise DataError(f"No .json files in {path}. Give the folder of the exported annotations.")
    base = path if path.is_dir() else path.parent
    around = [base / "images", base, *(folder / "images" for folder in files[0].parents[1:4])]
    finder = Images([images] if images else around)
    source = Source({}, [], aside=LeftOut())
    make = partial(_record, base=base, finder=finder, aside=source.aside)
    records = each(files, make, source.broken)
    found = sorted({item.label for record in records for item in record.objects})
    order = [*(classes.names if classes else ()), *found]
    return replace(source, classes=dict.fromkeys(order), records=records)


def _record(file: Path, *, base: Path, finder: Images, aside: LeftOut) -> Record | None:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    if not isinstance(content, dict) or not (content.keys() & {"item", "image"}):
        aside.name("JSON files of something else", where)
        return None
    with reading(where, _STEP):
        item: dict[str, Any] = content.get("item") or content["image"]
        slot: dict[str, Any] = (item.get("slots") or [item])[0]
        size = (int(slot["height"]), int(slot["width"])) if slot.get("height") else None
        name = str(item.get("name") or item.get("filename") or file.stem)
        folder = str(item.get("path") or "").strip("/")
        sources = [str(row["file_name"]) for row in slot.get("source_files") or ()]
        rows = [dict(row) for row in content["annotations"]]
    if slot.get("type", "image") != "image" or any("frames" in row for row in rows):
        raise problem(where, "it annotates a video or a volume", "Export single images")
    layer = next((row["raster_layer"] for row in rows if "raster_layer" in row), None)
    objects = Objects(where, aside)
    for index, row in enumerate(rows, start=1):
        kind = next((kind for kind in _NO_AREA if kind in row), None)
        if kind:
            aside[f"{kind}s"] += 1
        elif "raster_layer" not in row:
            what = f"annotation {row.get('id', index)}"
            objects.add(what, row.get("name"), partial(_draw, row, layer, objects, what))
    image = finder.find(f"{folder}/{name}", where, name, *sources)
    place = "/".join(part for part in (folder, name) if part)
    return Record(safe_name(place), image, where, size=size, objects=objects.found)


def _draw(row: dict[str, Any], layer: Any, objects: Objects, what: str) -> partial[Patch]:
    if "polygon" in row:
        shape = row["polygon"]
        paths = shape.get("paths") or [shape["path"], *(shape.get("additional_paths") or ())]
        rings = [[(point["x"], point["y"]) for point in path] for path in paths]
        return partial(fill, objects.rings(rings, what))
    if "mask" in row:
        return _mask(str(row.get("id")), layer)
    if "ellipse" in row:
        return partial(fill, [_ellipse(row["ellipse"])])
    if "bounding_box" in row:
        x, y, width, height = (number(row["bounding_box"][key]) for key in "xywh")
        return partial(fill, [box(x, y, x + width, y + height)])
    raise ValueError("it has no area that is known here")


def _ellipse(shape: dict[str, Any]) -> Ring:
    (x, y), (rx, ry) = (
        (number(shape[key]["x"]), number(shape[key]["y"])) for key in ("center", "radius")
    )
    return ellipse(x, y, rx, ry, math.degrees(number(shape.get("angle") or 0)))


def _mask(identity: str, layer: Any) -> partial[Patch]:
    if not isinstance(layer, dict):
        raise ValueError("its file has no raster layer, where its pixels should be")
    mark = layer["mask_annotation_ids_mapping"].get(identity)
    runs = np.asarray(layer["dense_rle"], dtype=np.int64)
    if mark is None:
        return partial(_layer, runs[:0], 0)
    if runs.ndim != 1 or len(runs) % 2 or (runs < 0).any():
        raise ValueError("its raster layer is no list of pairs: number, length")
    return partial(_layer, runs, int(mark))


def _layer(runs: np.ndarray, mark: int, size: Size) -> Patch:
    numbers, lengths = runs[::2], runs[1::2]
    total = size[0] * size[1]
    if len(runs) and int(lengths.sum()) != total:
        raise ValueError(f"its raster layer has {int(lengths.sum())} pixels, its image {total}")
    flat = np.repeat(numbers == mark, lengths) if len(runs) else np.zeros(total, dtype=bool)
    return place(flat.reshape(size), 0, 0, size)

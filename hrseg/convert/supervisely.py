"""Supervisely: a project of meta.json with ann/ and img/ in each dataset, or with masks of colors in seg/.

Bitmaps are PNG files, compressed by zlib and in base64, at a place in the image. Later objects cover earlier ones.
Corners of polygons and boxes are pixels, and what is drawn holds its outline, as in Supervisely's own SDK.

Source:
    Bitmap, Polygon, Rectangle and Project of supervisely/supervisely.
"""

import base64
import binascii
import io
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hrseg.convert.base import (
    Color,
    LeftOut,
    Objects,
    Raster,
    Record,
    Source,
    each,
    packed,
    reading,
)
from hrseg.convert.classes import Known, known_split
from hrseg.convert.files import Images, corners, json_start, number, read_json
from hrseg.data.layouts.pairs import visible_images
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Ring, Size, place

_NO_AREA = ("point", "line", "graph", "cuboid", "cuboid_2d", "point_3d", "polyline_3d", "cuboid_3d")
_STEP = "Export the project as 'Supervisely format'"


def recognizes(path: Path) -> bool:
    """Say whether this is a project of Supervisely's."""
    start = json_start(path / "meta.json")
    classes = start.get("classes") if isinstance(start, dict) else None
    return isinstance(classes, list) and all(isinstance(c, dict) and "title" in c for c in classes)


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read a project.

    Args:
        path: The folder with meta.json.
        images: Folder of the images; None is img/ beside ann/.
        classes: Not needed; meta.json names the classes.

    Raises:
        DataError: Something in it is wrong.
    """
    meta = read_json(path / "meta.json")
    with reading(str(path / "meta.json"), _STEP):
        colors = {str(row["title"]): _color(row.get("color")) for row in meta["classes"]}
    source = Source(colors, [], aside=LeftOut())
    table = {packed(color): name for name, color in colors.items() if color}
    finder = Images([images]) if images else None

    def make(file: Path) -> Record | None:
        dataset = file.parent.parent
        where = file.relative_to(path).as_posix()
        image = (finder or Images([dataset / "img", dataset])).find(file.stem, where)
        name = (dataset / file.stem).relative_to(path).with_suffix("").as_posix()
        split = known_split(dataset.name)
        name = Path(name).name if split else name
        if file.suffix == ".json":
            return _annotated(file, Record(name, image, where, split), source.aside)
        raster = Raster(file, {}, {0: ""} | table, f"{path / 'meta.json'}")
        return Record(name, image, where, split, raster=raster)

    files = list(_files(path))
    if not files:
        raise DataError(
            f"No ann/*.json and no seg/*.png below {path}. {_STEP}, and unpack all of it."
        )
    return replace(source, records=each(files, make, source.broken))


def _files(path: Path) -> Iterator[Path]:
    """Return the annotations of each dataset, or its masks where it has nothing else."""
    for folder in sorted(path.glob("**/ann")):
        yield from sorted(folder.glob("*.json"))
    for folder in sorted(path.glob("**/seg")):
        if not (folder.parent / "ann").is_dir():
            yield from visible_images(folder, "*")


def _color(text: Any) -> Color | None:
    try:
        red, green, blue = bytes.fromhex(str(text).removeprefix("#"))
    except ValueError:
        return None
    return red, green, blue


def _annotated(file: Path, record: Record, aside: LeftOut) -> Record:
    content = read_json(file)
    with reading(record.place, _STEP):
        content = content.get("annotation", content)
        size = int(content["size"]["height"]), int(content["size"]["width"])
        rows = [dict(row) for row in content["objects"]]
    objects = Objects(record.place, aside)
    for index, row in enumerate(rows, start=1):
        kind = str(row.get("geometryType") or row.get("shape"))
        if kind in _NO_AREA:
            aside[f"objects of kind {kind}"] += 1
            continue
        what = f"object {row.get('id', index)}"
        objects.add(what, row.get("classTitle"), partial(_draw, kind, row))
    return replace(record, size=size, objects=objects.found)


def _draw(kind: str, row: dict[str, Any]) -> partial[Patch]:
    if kind in ("bitmap", "alpha_mask"):
        left, top = (int(number(value)) for value in row["bitmap"]["origin"])
        return partial(place, _bitmap(row["bitmap"]["data"]), top, left)
    if kind == "polygon":
        shape = row["points"]
        holes = [corners(ring) for ring in shape.get("interior") or ()]
        return partial(_with_outline, corners(shape["exterior"]), holes)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = corners(row["points"]["exterior"], 2)[:2]
        return partial(_with_outline, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), [])
    raise ValueError(f"its geometryType '{kind}' is unknown here")


def _bitmap(data: str) -> np.ndarray:
    """Read a bitmap; of four channels the last counts. Shape: → bool (h, w)."""
    try:
        packed_png = base64.b64decode(data, validate=True)
        if not packed_png.startswith(b"\x89PNG"):
            packed_png = zlib.decompressobj().decompress(packed_png, 1 << 28)
        with Image.open(io.BytesIO(packed_png)) as image:
            opaque = image if image.mode in ("1", "L", "P") else image.convert("RGBA").getchannel(3)
            return np.asarray(opaque) > 0
    except (binascii.Error, zlib.error, OSError, TypeError, Image.DecompressionBombError) as error:
        raise ValueError(f"its bitmap is no PNG, packed by zlib and in base64: {error}") from error


def _with_outline(ring: Ring, holes: list[Ring], size: Size) -> Patch:
    """Fill a polygon whose corners are pixels, with its outline; the outlines of holes belong to the holes."""
    last = np.array([size[1], size[0]])
    # a corner on the far border of the image is its last pixel
    parts = [np.where(part == last, last - 1, np.floor(part)) for part in (ring, *holes)]
    low = parts[0].min(axis=0).clip(0, last)
    width, height = ((parts[0].max(axis=0) + 1).clip(0, last) - low).astype(int).clip(0).tolist()
    canvas = np.zeros((height, width), dtype=np.uint8)
    if canvas.size:
        for part, value in zip(parts, [1, *[0] * len(holes)], strict=True):
            cv2.fillPoly(canvas, [(part - low).astype(np.int32)], value)
    return Patch(int(low[1]), int(low[0]), canvas.astype(bool))

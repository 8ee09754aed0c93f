"""Reader of Supervisely: a project of meta.json with ann/ and img/ in each dataset, or with masks of colors in seg/.

Bitmaps are PNG files, compressed by zlib and in base64, at a place in the image. Later objects cover earlier ones.
Corners of polygons and boxes are pixels, and shapes include their outline, as in Supervisely's own SDK.

Source:
    Bitmap, Polygon, Rectangle and Project of supervisely/supervisely.
"""

import base64
import binascii
import io
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hrseg.convert.attributes import hex_color
from hrseg.convert.base import Draw, ObjectList, Raster, Record, Source, color_code, errors_at
from hrseg.convert.classes import SourceClasses, standard_split
from hrseg.convert.files import Images, json_start, read_json, read_number, read_points
from hrseg.data.layouts.pairs import visible_images
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Ring, Size, place

_NO_AREA = ("point", "line", "graph", "cuboid", "cuboid_2d", "point_3d", "polyline_3d", "cuboid_3d")
_STEP = "Export the project as 'Supervisely format'"


def recognizes(path: Path) -> bool:
    """Return whether this is a project of Supervisely's."""
    start = json_start(path / "meta.json")
    classes = start.get("classes") if isinstance(start, dict) else None
    return isinstance(classes, list) and all(isinstance(c, dict) and "title" in c for c in classes)


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the folder with meta.json, which names the classes; images are by default in img/ beside ann/."""
    meta_file = path / "meta.json"
    meta = read_json(meta_file)
    with errors_at(str(meta_file), _STEP):
        source = Source({str(row["title"]): hex_color(row.get("color")) for row in meta["classes"]})
    table = {color_code(color): name for name, color in source.classes.items() if color}

    def read_file(file: Path) -> Record:
        dataset = file.parent.parent
        where = file.relative_to(path).as_posix()
        image = Images(images, dataset / "img", dataset).find(file.stem, where)
        split = standard_split(dataset.name)
        name = (dataset / file.stem).relative_to(path).with_suffix("")
        name = Path(name.name) if split else name
        raster, size, objects = None, None, ObjectList(where, source.skipped)
        if file.suffix == ".json":
            size = _read_objects(file, objects)
        else:
            raster = Raster(file, {}, {0: ""} | table, str(meta_file))
        return Record(name.as_posix(), image, where, split, size, objects.objects, raster)

    files = list(_files(path))
    if not files:
        raise DataError(f"No ann/*.json and no seg/*.png below {path}. {_STEP}, and unpack all of it.")
    source.read_records(files, read_file)
    return source


def _files(path: Path) -> Iterator[Path]:
    """Return the annotations of each dataset, or its masks where it has nothing else."""
    for folder in sorted(path.glob("**/ann")):
        yield from sorted(folder.glob("*.json"))
    for folder in sorted(path.glob("**/seg")):
        if not (folder.parent / "ann").is_dir():
            yield from visible_images(folder, "*")


def _read_objects(file: Path, objects: ObjectList) -> Size:
    """Collect the objects of an annotation; return the size of its image."""
    content = read_json(file)
    with errors_at(objects.where, _STEP):
        content = content.get("annotation", content)
        size = int(content["size"]["height"]), int(content["size"]["width"])
        rows = [dict(row) for row in content["objects"]]
    for index, row in enumerate(rows, start=1):
        kind = str(row.get("geometryType") or row.get("shape"))
        if kind in _NO_AREA:
            objects.skipped[f"objects of kind {kind}"] += 1
            continue
        what = f"object {row.get('id', index)}"
        objects.add(what, row.get("classTitle"), partial(_parse, kind, row))
    return size


def _parse(kind: str, row: dict[str, Any]) -> Draw:
    if kind in ("bitmap", "alpha_mask"):
        left, top = (int(read_number(value)) for value in row["bitmap"]["origin"])
        return partial(place, _bitmap(row["bitmap"]["data"]), top, left)
    if kind == "polygon":
        shape = row["points"]
        holes = [read_points(ring) for ring in shape.get("interior") or ()]
        return partial(_fill_with_outline, read_points(shape["exterior"]), holes)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = read_points(row["points"]["exterior"], 2)[:2]
        ring = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return partial(_fill_with_outline, ring, [])
    raise ValueError(f"its geometryType '{kind}' is unknown here")


def _bitmap(data: str) -> np.ndarray:
    """Read a bitmap; of four channels the last counts. Shape: → bool (h, w)."""
    try:
        png = base64.b64decode(data, validate=True)
        if not png.startswith(b"\x89PNG"):
            png = zlib.decompressobj().decompress(png, 1 << 28)
        with Image.open(io.BytesIO(png)) as image:
            opaque = image if image.mode in ("1", "L", "P") else image.convert("RGBA").getchannel(3)
            return np.asarray(opaque) > 0
    except (binascii.Error, zlib.error, OSError, TypeError, Image.DecompressionBombError) as error:
        raise ValueError(f"its bitmap is no PNG, packed by zlib and in base64: {error}") from error


def _fill_with_outline(ring: Ring, holes: list[Ring], size: Size) -> Patch:
    """Fill a polygon whose corners are pixels, with its outline; the outlines of holes belong to the holes."""
    last = np.array([size[1], size[0]])
    # a corner on the far border of the image is its last pixel
    rings = [np.where(points == last, last - 1, np.floor(points)) for points in (ring, *holes)]
    low = rings[0].min(axis=0).clip(0, last)
    width, height = ((rings[0].max(axis=0) + 1).clip(0, last) - low).astype(int).clip(0).tolist()
    canvas = np.zeros((height, width), dtype=np.uint8)  # the bounding box
    if canvas.size:
        for points, value in zip(rings, [1, *[0] * len(holes)], strict=True):
            cv2.fillPoly(canvas, [(points - low).astype(np.int32)], value)
    return Patch(int(low[1]), int(low[0]), canvas.astype(bool))

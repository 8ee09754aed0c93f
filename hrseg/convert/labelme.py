"""Reader of LabelMe: one JSON file per image, with polygons, rectangles, circles and small masks.

Later shapes cover earlier ones, as in LabelMe's own label images. Those draw outlines too, up to half a pixel wider
than our rule. Points and lines have no area and are skipped. `__ignore__` is ignored and `_background_` is the
background, as in LabelMe's examples.
"""

import base64
import binascii
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.convert.base import (
    FIX,
    Draw,
    ObjectList,
    Record,
    Skipped,
    Source,
    data_error,
    oval,
    polygon,
    rectangle,
)
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import Images, json_files, json_start, read_json, read_points
from hrseg.errors import DataError
from hrseg.imaging import image_size, read_image
from hrseg.imaging.polygons import Size, place

_NO_AREA = {"point": "points", "points": "points", "line": "lines", "linestrip": "lines"}


def recognizes(path: Path) -> bool:
    """Return whether this is a file of LabelMe, or a folder of them."""
    return any(is_labelme(json_start(file)) for file in json_files(path, "**/*.json")[:9])


def is_labelme(content: Any) -> bool:
    """Return whether a file's content is LabelMe's: a list of shapes of points."""
    shapes = content.get("shapes") if isinstance(content, dict) else None
    first = shapes[0] if isinstance(shapes, list) and shapes else {"label": "", "points": []}
    return isinstance(shapes, list) and isinstance(first, dict) and {"label", "points"} <= {*first}


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read a JSON file or a folder of them; images are by default imagePath, then the image inside the file."""
    base = path if path.is_dir() else path.parent
    files = json_files(path, "**/*.json")
    if not files:
        raise DataError(f"No .json files in {path}. Give the folder where LabelMe saved them.")
    source = Source()
    source.read_records(files, lambda file: _record(file, base, images, source.skipped))
    return source.add_labels(classes.names if classes else ())


def _record(file: Path, base: Path, images: Path | None, skipped: Skipped) -> Record | None:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        if file.parent != base or len(json_files(base)) > 1:
            skipped.add("JSON files without 'shapes'", where)
            return None
        raise data_error(str(file), "it has no list 'shapes', as LabelMe's files have", "Move it away")
    objects = ObjectList(where, skipped)
    for index, shape in enumerate(content["shapes"], start=1):
        if not isinstance(shape, dict):
            raise data_error(f"{where}, shape {index}", "it is no shape", FIX)
        kind = str(shape.get("shape_type") or "polygon")
        if kind in _NO_AREA:
            skipped[_NO_AREA[kind]] += 1
            continue
        objects.add(f"shape {index}", shape.get("label"), partial(_parse, kind, shape))
    name = Path(where).with_suffix("").as_posix()
    image = _image(content, file, images, where)
    return Record(name, image, where, size=_size(content), objects=objects.objects)


def _parse(kind: str, shape: dict[str, Any]) -> Draw:
    if kind not in _SHAPES:
        raise ValueError(f"its shape_type '{kind}' is unknown here")
    return _SHAPES[kind](shape)


def _size(content: dict[str, Any]) -> Size | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _image(content: dict[str, Any], file: Path, images: Path | None, where: str) -> Path | bytes:
    name = content.get("imagePath")
    named = name.replace("\\", "/") if isinstance(name, str) and name else file.stem
    direct = file.parent / named
    data = content.get("imageData")
    if images is None and direct.is_file() and not (data and _unreadable(direct)):
        return direct
    if images is None and isinstance(data, str):
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            what = f"the image inside it is damaged: {error}"
            raise data_error(where, what, "Name the images with --images") from error
    return Images(images, file.parent).find(named, where, file.stem)


def _unreadable(path: Path) -> bool:
    try:
        image_size(path)
    except DataError:
        return True
    return False


def _rectangle(shape: dict[str, Any]) -> Draw:
    if len(shape.get("points") or ()) == 4:  # all corners, as later versions and others write them
        return _polygon(shape)
    (x0, y0), (x1, y1) = _points(shape, 2)
    return rectangle(x0, y0, x1, y1)


def _circle(shape: dict[str, Any]) -> Draw:
    (x, y), (rim_x, rim_y) = _points(shape, 2)
    radius = float(np.hypot(rim_x - x, rim_y - y))
    return oval(x, y, radius, radius)


def _mask(shape: dict[str, Any]) -> Draw:
    left, top = _points(shape, 2)[0].round().astype(int).tolist()
    try:
        data = io.BytesIO(base64.b64decode(shape.get("mask") or "", validate=True))
        pixels = read_image(data)[..., 0] > 0
    except (binascii.Error, DataError, TypeError) as error:
        raise ValueError(f"its mask is no PNG in base64: {error}") from error
    return partial(place, pixels, top, left)


def _points(shape: dict[str, Any], count: int) -> np.ndarray:
    points = read_points(shape.get("points"), count)
    if len(points) != count:
        raise ValueError(f"a {shape['shape_type']} has {count} points, and this one {len(points)}")
    return points


def _polygon(shape: dict[str, Any]) -> Draw:
    return polygon(shape.get("points"))


_SHAPES = {
    **dict.fromkeys(("polygon", "oriented_rectangle", "quadrilateral"), _polygon),
    "rotation": _polygon,  # X-AnyLabeling's turned rectangle
    **{"rectangle": _rectangle, "circle": _circle, "mask": _mask},
}

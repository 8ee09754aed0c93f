"""CVAT: "CVAT for images 1.1" (XML), and "Segmentation mask 1.1" (masks in colours with a labelmap.txt).

In the XML a higher z_order lies nearer to the camera, and of equal ones the later object covers the earlier one.
Points, lines, tags and skeletons have no area and are left out.

Source:
    The XML format of CVAT's documentation; run lengths of <mask> go along the rows of its box, unset pixels first.
"""

from collections import Counter
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from hrseg.data.convert.files import Images, corners, head, number, read_xml, safe_name
from hrseg.data.convert.known import Known, find_table, split_name
from hrseg.data.convert.parts import MEND, Object, Record, Source, problem
from hrseg.data.convert.polygons import Patch, Size, box, ellipse, fill, place
from hrseg.data.convert.rle import pixels
from hrseg.data.convert.voc import masks_of_devkit
from hrseg.data.labels import Color
from hrseg.errors import DataError

_NO_AREA = {
    "polyline": "polylines",
    "points": "points",
    "tag": "tags",
    "cuboid": "cuboids",
    "skeleton": "skeletons",
}


def recognises(path: Path) -> bool:
    """Say whether this is CVAT's: an XML of annotations, or masks with a labelmap.txt."""
    if path.is_dir():
        masks = (path / "labelmap.txt").is_file() and (path / "SegmentationClass").is_dir()
        return masks or (path / "annotations.xml").is_file()
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    return b"<annotations" in head(path)


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read an export of CVAT.

    Args:
        path: annotations.xml, or the unpacked folder.
        images: Folder of the images; None looks beside the annotations.
        classes: Classes of the masks; None takes labelmap.txt.

    Raises:
        DataError: Something in it is wrong.
    """
    xml = path / "annotations.xml" if path.is_dir() else path
    if xml.is_file():
        return _read_xml(xml, Images([images] if images else [xml.parent / "images", xml.parent]))
    table = classes or find_table(path)
    if table is None:
        raise DataError(
            f"{path} holds neither annotations.xml nor labelmap.txt. Export 'CVAT for images 1.1' or "
            "'Segmentation mask 1.1', and unpack the zip file."
        )
    return masks_of_devkit(path, images, table)


def _read_xml(path: Path, images: Images) -> Source:
    root = read_xml(path)
    if root.tag != "annotations":
        raise DataError(
            f"{path} holds <{root.tag}>; an export of CVAT holds <annotations>. Choose another --from, or export "
            "'CVAT for images 1.1'."
        )
    if root.find("track") is not None:
        raise DataError(
            f"{path} is 'CVAT for video', which interpolates between frames. Export it as 'CVAT for images 1.1'."
        )
    found: dict[str, Color | None] = {}
    for label in root.iterfind("./meta//label"):
        name = label.findtext("name")
        if name and label.findtext("type") not in ("points", "polyline", "tag", "skeleton"):
            found.setdefault(name, _color(label.findtext("color")))
    aside: Counter[str] = Counter()
    records: list[Record] = []
    for element in root.iterfind("image"):
        name = element.get("name")
        if not name:
            raise problem(str(path), f"image {len(records) + 1} has no name", "Export it again")
        where = f"{path.name}, image '{name}'"
        records.append(
            Record(
                name=safe_name(name),
                image=images.find(name, where),
                place=where,
                split=split_name(element.get("subset", "")),
                size=_size(element, where),
                objects=_objects(element, where, aside),
            )
        )
    for record in records:
        for item in record.objects:
            found.setdefault(item.label, None)
    return Source(
        found,
        records,
        aside=aside,
        notes=("Before that, a higher z_order lies on top of a lower one.",),
    )


def _objects(image: Element, where: str, aside: Counter[str]) -> list[Object]:
    layers = []
    for index, shape in enumerate(image, start=1):
        if shape.tag in _NO_AREA:
            aside[_NO_AREA[shape.tag]] += 1
        elif shape.tag in _DRAW:
            what = f"{shape.tag} {index}"
            label = shape.get("label")
            if not label:
                raise problem(f"{where}, {what}", "it has no label", MEND)
            try:
                depth = number(shape.get("z_order", "0"))
                layers.append((depth, Object(label, _DRAW[shape.tag](shape), what)))
            except ValueError as error:
                raise problem(f"{where}, {what} ('{label}')", str(error), MEND) from error
        else:
            aside[f"<{shape.tag}> elements"] += 1
    return [item for _, item in sorted(layers, key=lambda layer: layer[0])]


def _polygon(shape: Element) -> partial[Patch]:
    points = [point.split(",") for point in (shape.get("points") or "").split(";") if point.strip()]
    return partial(fill, [corners(points)])


def _box(shape: Element) -> partial[Patch]:
    x0, y0, x1, y1 = (number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
    return partial(fill, [box(x0, y0, x1, y1, number(shape.get("rotation", 0)))])


def _ellipse(shape: Element) -> partial[Patch]:
    x, y, rx, ry = (number(shape.get(key)) for key in ("cx", "cy", "rx", "ry"))
    return partial(fill, [ellipse(x, y, rx, ry, number(shape.get("rotation", 0)))])


def _mask(shape: Element) -> partial[Patch]:
    left, top, width, height = (
        int(number(shape.get(key))) for key in ("left", "top", "width", "height")
    )
    try:
        counts = [int(count) for count in (shape.get("rle") or "").split(",")]
    except ValueError as error:
        raise ValueError("its rle is not a list of whole numbers") from error
    if min(width, height) < 1:
        raise ValueError(f"its box has {width}x{height} pixels")
    return partial(_laid, counts, top, left, (height, width))


def _laid(counts: list[int], top: int, left: int, box: Size, size: Size) -> Patch:
    if box[0] > size[0] or box[1] > size[1]:
        raise ValueError(
            f"its box of {box[0]}x{box[1]} is larger than the image, {size[0]}x{size[1]}"
        )
    flat = pixels(counts, box[0] * box[1])
    return place(np.reshape(flat, box), top, left, size)


_DRAW = {"polygon": _polygon, "box": _box, "ellipse": _ellipse, "mask": _mask}


def _size(image: Element, where: str) -> Size | None:
    if image.get("width") is None:
        return None
    try:
        return int(number(image.get("height"))), int(number(image.get("width")))
    except ValueError as error:
        raise problem(where, f"its size is wrong: {error}", "Export it again") from error


def _color(text: str | None) -> Color | None:
    try:
        value = int((text or "").removeprefix("#"), 16)
    except ValueError:
        return None
    return (value >> 16 & 255, value >> 8 & 255, value & 255)

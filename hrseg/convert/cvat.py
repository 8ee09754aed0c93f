"""CVAT: "CVAT for images 1.1" (XML), and "Segmentation mask 1.1" (masks in colors with a labelmap.txt).

In the XML a higher z_order lies nearer to the camera, and of equal ones the later object covers the earlier one.
Points, lines, tags and skeletons have no area and are left out.

Source:
    The XML format of CVAT's documentation; run lengths of <mask> go along the rows of its box, unset pixels first.
"""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from hrseg.convert.base import LeftOut, Object, Objects, Record, Source, each, problem
from hrseg.convert.classes import Known, find_table, known_split, split_name
from hrseg.convert.files import Images, corners, head, number, read_xml, safe_name
from hrseg.convert.masks import masks_of_devkit
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Size, box, ellipse, fill, place
from hrseg.imaging.rle import pixels
from hrseg.labels import Color

_NO_AREA = {
    "polyline": "polylines",
    "points": "points",
    "tag": "tags",
    "cuboid": "cuboids",
    "skeleton": "skeletons",
}


def recognizes(path: Path) -> bool:
    """Say whether this is CVAT's: an XML of annotations, or masks with a labelmap.txt."""
    masks = (path / "labelmap.txt").is_file() and (path / "SegmentationClass").is_dir()
    return masks or bool(_xml_files(path))


def _xml_files(path: Path) -> list[Path]:
    """Return the XML files of CVAT's, by their root element: a file, or those in a folder."""
    files = (
        sorted(path.glob("*.xml")) if path.is_dir() else [path] * (path.suffix.lower() == ".xml")
    )
    return [file for file in files if re.search(rb"<annotations[\s>/]", head(file))]


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read an export of CVAT.

    Args:
        path: An XML file of any name, or the unpacked folder.
        images: Folder of the images; None looks beside the annotations.
        classes: Classes of the masks; None takes labelmap.txt.

    Raises:
        DataError: Something in it is wrong.
    """
    files = [path] if path.is_file() else _xml_files(path)
    if files:
        finder = Images([images] if images else [files[0].parent / "images", files[0].parent])
        return _read_xml(files, finder)
    table = classes or find_table(path)
    if table is None:
        raise DataError(
            f"{path} holds neither an XML file of CVAT nor labelmap.txt. Export 'CVAT for images 1.1' or "
            "'Segmentation mask 1.1', and unpack the zip file."
        )
    return masks_of_devkit(path, images, table)


def _read_xml(files: list[Path], images: Images) -> Source:
    found: dict[str, Color | None] = {}
    source = Source(found, [], aside=LeftOut())
    elements: list[tuple[Path, Element]] = []
    for path in files:
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
        for label in root.iterfind("./meta//label"):
            name = label.findtext("name")
            if name and label.findtext("type") not in ("points", "polyline", "tag", "skeleton"):
                found.setdefault(name, _color(label.findtext("color")))
        elements += [(path, element) for element in root.iterfind("image")]

    def make(item: tuple[Path, Element]) -> Record:
        path, element = item
        name, subset = element.get("name"), element.get("subset", "")
        if not name:
            raise problem(str(path), f"image {element.get('id')} has no name", "Add it")
        where = f"{path.name}, image '{name}'"
        # a project's images lie in images/<subset>, and names come again in other subsets
        image = images.find(f"{subset}/{name}" if subset else name, where)
        objects = _objects(element, where, source.aside)
        split = split_name(subset) or known_split(path.stem)
        return Record(safe_name(name), image, where, split, _size(element, where), objects)

    records = each(elements, make, source.broken)
    for record in records:
        for item in record.objects:
            found.setdefault(item.label, None)
    note = "Before that, a higher z_order lies on top of a lower one."
    return replace(source, records=records, notes=(note,))


def _objects(image: Element, where: str, aside: LeftOut) -> list[Object]:
    objects = Objects(where, aside)
    for index, shape in enumerate(image, start=1):
        if shape.tag in _NO_AREA:
            aside[_NO_AREA[shape.tag]] += 1
        elif shape.tag in _DRAW:
            label, depth = shape.get("label"), shape.get("z_order", "0")
            objects.add(f"{shape.tag} {index}", label, partial(_DRAW[shape.tag], shape), depth)
        else:
            aside[f"<{shape.tag}> elements"] += 1
    return objects.found


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

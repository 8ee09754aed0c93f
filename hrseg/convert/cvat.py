"""Reader of CVAT: "CVAT for images 1.1" (XML), and "Segmentation mask 1.1" (masks of colors with a labelmap.txt).

In the XML a higher z_order is nearer to the camera, and of equal ones the later object covers the earlier one.
Points, lines, tags and skeletons have no area and are skipped.

Source:
    The XML format of CVAT's documentation; run lengths of <mask> go along the rows of its box, unset pixels first.
"""

import re
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from hrseg.convert.attributes import hex_color
from hrseg.convert.base import (
    Draw,
    Object,
    ObjectList,
    Record,
    Skipped,
    Source,
    data_error,
    oval,
    polygon,
    rectangle,
)
from hrseg.convert.classes import SourceClasses, find_source_classes, split_name, standard_split
from hrseg.convert.files import Images, first_bytes, read_number, read_xml, safe_name
from hrseg.convert.masks import read_voc_masks
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Size, place
from hrseg.imaging.rle import pixels

_NO_AREA = {
    **{"polyline": "polylines", "points": "points", "tag": "tags", "cuboid": "cuboids"},
    "skeleton": "skeletons",
}


def recognizes(path: Path) -> bool:
    """Return whether this is CVAT's: an XML of annotations, or masks with a labelmap.txt."""
    masks = (path / "labelmap.txt").is_file() and (path / "SegmentationClass").is_dir()
    return masks or bool(_xml_files(path))


def _xml_files(path: Path) -> list[Path]:
    """Return the XML files of CVAT's, by their root element: a file, or those in a folder."""
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path]
    files = [file for file in files if file.suffix.lower() == ".xml"]
    return [file for file in files if re.search(rb"<annotations[\s>/]", first_bytes(file))]


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read an XML file of any name, or an unpacked folder; classes of masks are by default labelmap.txt's."""
    files = [path] if path.is_file() else _xml_files(path)
    if files:
        return _read_xml(files, Images(images, files[0].parent / "images", files[0].parent))
    table = classes or find_source_classes(path)
    if table is None:
        raise DataError(
            f"{path} holds neither an XML file of CVAT nor labelmap.txt. Export 'CVAT for images 1.1' or "
            "'Segmentation mask 1.1', and unpack the zip file."
        )
    return read_voc_masks(path, images, table)


def _read_xml(files: list[Path], images: Images) -> Source:
    source = Source(notes=("Before that, a higher z_order is on top of a lower one.",))
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
                source.classes.setdefault(name, hex_color(label.findtext("color")))
        elements += [(path, element) for element in root.iterfind("image")]

    def read_image(item: tuple[Path, Element]) -> Record:
        path, element = item
        name, subset = element.get("name"), element.get("subset", "")
        if not name:
            raise data_error(str(path), f"image {element.get('id')} has no name", "Add it")
        where = f"{path.name}, image '{name}'"
        # a project's images are in images/<subset>, and names repeat in other subsets
        image = images.find(f"{subset}/{name}" if subset else name, where)
        objects = _objects(element, where, source.skipped)
        split = split_name(subset) or standard_split(path.stem)
        return Record(safe_name(name), image, where, split, _size(element, where), objects)

    for record in source.read_records(elements, read_image):
        for item in record.objects:
            source.classes.setdefault(item.label, None)
    return source


def _objects(image: Element, where: str, skipped: Skipped) -> list[Object]:
    objects = ObjectList(where, skipped)
    for index, shape in enumerate(image, start=1):
        if shape.tag in _SHAPES:
            label, depth = shape.get("label"), shape.get("z_order", "0")
            objects.add(f"{shape.tag} {index}", label, partial(_SHAPES[shape.tag], shape), depth)
        else:
            skipped[_NO_AREA.get(shape.tag, f"<{shape.tag}> elements")] += 1
    return objects.objects


def _polygon(shape: Element) -> Draw:
    points = (shape.get("points") or "").split(";")
    return polygon([point.split(",") for point in points if point.strip()])


def _box(shape: Element) -> Draw:
    x0, y0, x1, y1 = map(shape.get, ("xtl", "ytl", "xbr", "ybr"))
    return rectangle(x0, y0, x1, y1, shape.get("rotation", 0))


def _ellipse(shape: Element) -> Draw:
    x, y, rx, ry = map(shape.get, ("cx", "cy", "rx", "ry"))
    return oval(x, y, rx, ry, shape.get("rotation", 0))


def _mask(shape: Element) -> Draw:
    sides = (int(read_number(shape.get(key))) for key in ("left", "top", "width", "height"))
    left, top, width, height = sides
    try:
        counts = [int(count) for count in (shape.get("rle") or "").split(",")]
    except ValueError as error:
        raise ValueError("its rle is not a list of whole numbers") from error
    if min(width, height) < 1:
        raise ValueError(f"its box has {width}x{height} pixels")
    return partial(_draw_mask, counts, top, left, (height, width))


def _draw_mask(counts: list[int], top: int, left: int, box: Size, size: Size) -> Patch:
    if box[0] > size[0] or box[1] > size[1]:
        raise ValueError(f"its box of {box[0]}x{box[1]} is larger than the image, {size[0]}x{size[1]}")
    flat = pixels(counts, box[0] * box[1])
    return place(np.reshape(flat, box), top, left, size)


_SHAPES = {"polygon": _polygon, "box": _box, "ellipse": _ellipse, "mask": _mask}


def _size(image: Element, where: str) -> Size | None:
    if image.get("width") is None:
        return None
    try:
        return int(read_number(image.get("height"))), int(read_number(image.get("width")))
    except ValueError as error:
        raise data_error(where, f"its size is wrong: {error}", "Export it again") from error

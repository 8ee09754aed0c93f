"""From masks to files that annotation tools open, so that predictions can be corrected by hand.

COCO gets one run-length object for each class of an image, CVAT a mask object, LabelMe a polygon for each connected
part. Read back, they give equal pixels. Pixels of the background, or ignored ones where there is no background, are
what remains when everything else is drawn.

Polygons run along the edges of pixels. A part inside another one comes later in the file and lies on top, so that
no polygon needs a hole. With a tolerance corners are left out, and no border moves farther than that.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from hrseg.data.convert.classes import BACKGROUND
from hrseg.data.convert.files import Images
from hrseg.data.convert.parts import BACKGROUND_NAMES, IGNORE_NAMES
from hrseg.data.convert.polygons import Ring, Size, area, simplify, trace
from hrseg.data.convert.rle import runs, to_coco
from hrseg.data.convert.whole import new_folder, refuse_existing
from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.data.layouts.pairs import name_of, visible_images
from hrseg.errors import ConfigError, DataError, unknown_choice
from hrseg.imaging import image_size, read_mask, write_atomic

IGNORED = IGNORE_NAMES[0]
"""What ignored pixels are called in a tool, where the background has a class of its own."""


@dataclass(frozen=True)
class Masked:
    """One image with its mask.

    Attributes:
        image: Its file.
        name: What the tool shall call it: the path below the folder of images.
        mask: trainIds, 255 where ignored.
    """

    image: Path
    name: str
    mask: np.ndarray

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.mask.shape[0], self.mask.shape[1]


@dataclass(frozen=True)
class Style:
    """How masks are written.

    Attributes:
        labels: Their classes.
        shapes: "masks" or "polygons".
        tolerance: How far a polygon may be from the border, in pixels.
        smallest: Parts with fewer pixels are left out of polygons.
    """

    labels: LabelSet
    shapes: str
    tolerance: float = 0.0
    smallest: int = 1

    @property
    def blank(self) -> int:
        """TrainId that is not written: the background, or ignored pixels."""
        names = [name.lower() for name in self.labels.names]
        return next((i for i, name in enumerate(names) if name in BACKGROUND_NAMES), IGNORE_INDEX)

    def name(self, train_id: int) -> str:
        """Return a class by its trainId."""
        if train_id == IGNORE_INDEX:
            return IGNORED
        return BACKGROUND if train_id == self.blank else self.labels.names[train_id]

    @property
    def names(self) -> list[str]:
        """Every name that may be written, in trainId order."""
        ids = [i for i in range(self.labels.num_classes) if i != self.blank]
        return [self.name(i) for i in ids] + [IGNORED] * (self.blank != IGNORE_INDEX)


@dataclass(frozen=True)
class Writer:
    """One row of WRITERS.

    Attributes:
        shapes: What it can write; the first is usual.
        folder: Whether it makes a folder of files.
        text: For the help page.
    """

    write: Callable[[Sequence["Lazy"], Style, Path], None]
    shapes: tuple[str, ...]
    folder: bool
    text: str


Lazy = Callable[[], Masked]
"""Reads one mask when it is its turn."""


def export(
    masks: Path,
    out: Path,
    to: str,
    labels: LabelSet,
    *,
    images: Path | None = None,
    shapes: str | None = None,
    tolerance: float = 0.0,
    smallest: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write a folder of masks for an annotation tool.

    Args:
        masks: Folder of masks of ids; NAME_mask.png of `hrseg predict` belongs to image NAME.
        out: The file, or the folder for LabelMe. It must not exist.
        to: A row of WRITERS.
        labels: What the ids mean.
        images: Folder of the images; None looks for images/ beside the masks.
        shapes: "masks" or "polygons"; None takes what is usual for the tool.
        tolerance: How far polygons may be from the border, in pixels; 0 is exact.
        smallest: Parts with fewer pixels are left out of polygons; 1 keeps all.
        advance: Told about the progress.

    Returns:
        How many images there are.

    Raises:
        ConfigError: The tool or its shapes are unknown.
        DataError: A mask without image, of another size, or with an unknown id; nothing was written then.
    """
    if to not in WRITERS:
        raise ConfigError(unknown_choice("format", to, WRITERS))
    writer = WRITERS[to]
    shapes = shapes or writer.shapes[0]
    if shapes not in writer.shapes:
        raise ConfigError(f"{to} is written with {' or '.join(writer.shapes)}, not with {shapes}.")
    if shapes == "masks" and (tolerance or smallest > 1):
        raise ConfigError(
            "A tolerance and a smallest part are for polygons; masks are exact. Add --shapes polygons, or leave the "
            "option out."
        )
    refuse_existing(out)
    pairs = _pairs(masks, images)

    def reader(index: int) -> Lazy:
        def read() -> Masked:
            advance(index, len(pairs))
            return _read(*pairs[index], labels)

        return read

    lazy = [reader(index) for index in range(len(pairs))]
    style = Style(labels, shapes, tolerance, smallest)
    if writer.folder:
        with new_folder(out) as folder:
            writer.write(lazy, style, folder)
    else:
        with write_atomic(out) as temporary:
            writer.write(lazy, style, temporary)
    advance(len(pairs), len(pairs))
    return len(pairs)


def parts(mask: np.ndarray, style: Style) -> list[tuple[str, Ring]]:
    """Return polygons that give the mask when they are drawn in this order.

    Example:
        >>> from hrseg.data.labels import load_labels
        >>> style = Style(load_labels("voc2012"), "polygons")
        >>> [(name, len(ring)) for name, ring in parts(np.array([[0, 7], [0, 0]]), style)]
        [('car', 4)]

    Shape:
        mask (H, W)
    """
    found: list[tuple[float, int, Ring]] = []
    for train_id in np.unique(mask).tolist():
        for ring in trace(mask == train_id):
            size = area(ring)
            if size > 0:  # holes are filled by what lies in them
                found.append((size, train_id, ring))
    # whatever lies inside an outline has a smaller one, so it comes later
    found.sort(key=lambda part: -part[0])
    below = _Below(mask.shape, style.blank)
    written = []
    for size, train_id, ring in found:
        if size < style.smallest or below.is_already(train_id, ring):
            continue
        below.draw(train_id, ring)
        written.append((style.name(train_id), simplify(ring, style.tolerance)))
    return written


class _Below:
    """What was drawn so far, so that background is written only where it lies on something."""

    def __init__(self, shape: tuple[int, ...], blank: int) -> None:
        self.canvas = np.full(shape, blank, dtype=np.uint8)
        self.blank = blank

    def is_already(self, train_id: int, ring: Ring) -> bool:
        """Say whether a blank part lies on blank."""
        if train_id != self.blank:
            return False
        x, y = ring[ring[:, 1] == ring[:, 1].min()].min(axis=0).astype(int)  # its upper left pixel
        return bool(self.canvas[y, x] == self.blank)

    def draw(self, train_id: int, ring: Ring) -> None:
        """Draw one part."""
        from hrseg.data.convert.polygons import fill

        patch = fill([ring], (self.canvas.shape[0], self.canvas.shape[1]))
        height, width = patch.pixels.shape
        around = self.canvas[patch.top : patch.top + height, patch.left : patch.left + width]
        around[patch.pixels] = train_id


def _pairs(masks: Path, images: Path | None) -> list[tuple[Path, Path, Path]]:
    """Return (mask, image, folder of the images)."""
    root = masks / "masks" if (masks / "masks").is_dir() else masks
    found = [path for path in visible_images(root, "**/*") if not path.stem.endswith("_overlay")]
    if not found:
        raise DataError(
            f"No masks in {masks}. Give the folder of masks, such as that of hrseg predict."
        )
    sibling = root.parent / "images"
    base = images or (sibling if sibling.is_dir() else root)
    finder = Images([base])
    pairs = []
    for mask in found:
        name = name_of(mask, root).removesuffix("_mask")
        if base == root and name == name_of(mask, root):
            raise DataError(
                f"No images for the masks in {masks}. Name their folder with --images; the tool finds them by their "
                "names."
            )
        suffixless = [p for p in (finder.find(name, str(mask)),) if p != mask]
        if not suffixless:
            raise DataError(f"{mask} has no image. Name the folder of the images with --images.")
        pairs.append((mask, suffixless[0], base))
    return pairs


def _read(mask: Path, image: Path, base: Path, labels: LabelSet) -> Masked:
    ids = read_mask(mask)
    size = image_size(image)
    if ids.shape[:2] != size:
        raise DataError(
            f"{mask} has {ids.shape[0]}x{ids.shape[1]} pixels (height x width), its image {image} {size[0]}x{size[1]}. "
            "They must be equal; check that they belong together."
        )
    return Masked(image, image.relative_to(base).as_posix(), labels.encode(ids, str(mask)))


def _layers(masked: Masked, style: Style) -> list[tuple[int, np.ndarray]]:
    """Return the pixels of each class that is written."""
    return [
        (train_id, masked.mask == train_id)
        for train_id in np.unique(masked.mask).tolist()
        if train_id != style.blank
    ]


def _write_coco(lazy: Sequence[Lazy], style: Style, out: Path) -> None:
    numbers = {name: number for number, name in enumerate(style.names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, read in enumerate(lazy, start=1):
        masked = read()
        height, width = masked.size
        images.append({"id": number, "file_name": masked.name, "height": height, "width": width})
        for train_id, pixels in _layers(masked, style):
            rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
            top, left = int(rows[0]), int(columns[0])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": numbers[style.name(train_id)],
                    "segmentation": {"size": [height, width], "counts": to_coco(pixels)},
                    "area": int(pixels.sum()),
                    "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name, "supercategory": ""} for name, i in numbers.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    out.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_cvat(lazy: Sequence[Lazy], style: Style, out: Path) -> None:
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels"
    )
    colours = dict(zip(style.labels.names, style.labels.palette.tolist(), strict=True))
    names = [*style.names, BACKGROUND] if style.shapes == "polygons" else style.names
    for name in dict.fromkeys(names):
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        color = colours.get(name, [0, 0, 0])
        ElementTree.SubElement(label, "color").text = "#" + "".join(f"{v:02x}" for v in color)
    for number, read in enumerate(lazy):
        masked = read()
        height, width = masked.size
        said = {"id": str(number), "name": masked.name, "width": str(width), "height": str(height)}
        image = ElementTree.SubElement(root, "image", said)
        for depth, (name, shape) in enumerate(_cvat_shapes(masked, style)):
            tag = "mask" if "rle" in shape else "polygon"
            common = {"label": name, "source": "auto", "occluded": "0", "z_order": str(depth)}
            ElementTree.SubElement(image, tag, common | shape)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)


def _cvat_shapes(masked: Masked, style: Style) -> list[tuple[str, dict[str, str]]]:
    if style.shapes == "polygons":
        return [
            (name, {"points": ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())})
            for name, ring in parts(masked.mask, style)
        ]
    shapes = []
    for train_id, pixels in _layers(masked, style):
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        numbers = {"left": left, "top": top, "width": right - left, "height": bottom - top}
        rle = ", ".join(map(str, runs(pixels[top:bottom, left:right].ravel())))
        shapes.append(
            (style.name(train_id), {"rle": rle} | {k: str(int(n)) for k, n in numbers.items()})
        )
    return shapes


def _write_labelme(lazy: Sequence[Lazy], style: Style, out: Path) -> None:
    for read in lazy:
        masked = read()
        height, width = masked.size
        file = out / Path(masked.name).with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": _labelme_shapes(masked, style),
            "imagePath": masked.image.resolve().as_posix(),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _labelme_shapes(masked: Masked, style: Style) -> list[dict[str, Any]]:
    common: Mapping[str, Any] = {"group_id": None, "description": "", "flags": {}}
    if style.shapes == "polygons":
        return [
            {
                "label": name,
                "points": ring.tolist(),
                "shape_type": "polygon",
                "mask": None,
                **common,
            }
            for name, ring in parts(masked.mask, style)
        ]
    shapes = []
    for train_id, pixels in _layers(masked, style):
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
        data = io.BytesIO()
        Image.fromarray(pixels[top : bottom + 1, left : right + 1].astype(np.uint8) * 255).save(
            data, "PNG"
        )
        shapes.append(
            {
                "label": style.name(train_id),
                "points": [[left, top], [right, bottom]],
                "shape_type": "mask",
                "mask": base64.b64encode(data.getvalue()).decode("ascii"),
                **common,
            }
        )
    return shapes


WRITERS: dict[str, Writer] = {
    "coco": Writer(_write_coco, ("masks",), False, "COCO JSON with run lengths"),
    "cvat": Writer(_write_cvat, ("masks", "polygons"), False, "CVAT for images 1.1 (XML)"),
    "labelme": Writer(
        _write_labelme, ("polygons", "masks"), True, "a folder of LabelMe JSON files"
    ),
}
"""Name → writer."""

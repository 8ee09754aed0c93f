"""Writers of masks for annotation tools, so that predictions can be corrected by hand.

COCO and Datumaro get one run-length object for each class of an image, CVAT a mask object, Label Studio a brush,
LabelMe a polygon for each connected part. Read back, they give equal pixels. Pixels of the background, or ignored
ones where there is no background, are not written: they are what remains.

With a tolerance corners of polygons are left out, and no border moves farther than that.
"""

import base64
import io
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from hrseg.convert.base import Progress, no_progress
from hrseg.convert.classes import BACKGROUND, standard_split
from hrseg.convert.convert import new_folder, refuse_existing
from hrseg.convert.files import Images
from hrseg.convert.mask_to_polygons import MaskedImage, Style, class_pixels, mask_polygons
from hrseg.data.layouts.pairs import name_of, visible_images
from hrseg.errors import ConfigError, DataError, path_text, unknown_choice
from hrseg.imaging import image_size, read_mask, write_atomic
from hrseg.imaging.polygons import bounding_box
from hrseg.imaging.rle import coco_box, runs, to_coco, to_label_studio
from hrseg.labels import LabelSet


@dataclass(frozen=True)
class Writer:
    """One row of WRITERS.

    Attributes:
        shapes: Supported shapes; the first is the default.
        folder: Whether the output is a folder.
    """

    write: Callable[[Iterable[MaskedImage], Style, Path], None]
    shapes: tuple[str, ...]
    folder: bool


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
    progress: Progress = no_progress,
) -> tuple[int, list[str]]:
    """Write a folder of masks for an annotation tool.

    Args:
        masks: Folder of masks of ids; NAME_mask.png of `hrseg predict` belongs to image NAME.
        out: The file, or the folder for LabelMe and Datumaro. It must not exist.
        to: A row of WRITERS.
        labels: Classes of the ids.
        images: Folder of the images; None takes images/ beside the masks.
        shapes: "masks" or "polygons"; None takes the first of the writer.
        tolerance: Largest distance of a polygon from the border, in pixels; 0 is exact.
        smallest: Fewest pixels of a polygon; smaller ones are skipped.
        progress: See `Progress`.

    Returns:
        How many images were written, and why others could not be read.

    Raises:
        ConfigError: The tool or its shapes are unknown.
        DataError: A mask without image, or no mask that can be read and is as large as its image; nothing was written.
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
    for _, image, base in pairs:
        written = image if to == "labelme" else image.relative_to(base)
        if path_text(written) != str(written):
            raise DataError(
                f"{path_text(image)} has a name that is no UTF-8, and {to} files cannot hold it. Rename the image and "
                "its mask."
            )
    broken: list[str] = []
    masked = _each(pairs, labels, broken, progress(len(pairs)))
    style = Style(labels, shapes, tolerance, smallest)
    with new_folder(out) if writer.folder else write_atomic(out) as place:
        writer.write(masked, style, place)
        if len(broken) == len(pairs):
            raise DataError(broken[0])
    return len(pairs) - len(broken), broken


def _each(
    pairs: Sequence[tuple[Path, Path, Path]],
    labels: LabelSet,
    broken: list[str],
    advance: Callable[[int], None],
) -> Iterator[MaskedImage]:
    """Read masks in turn; one that cannot be read is named in `broken`."""
    for pair in pairs:
        try:
            yield _read(*pair, labels)
        except DataError as error:
            broken.append(str(error))
        advance(1)


def _pairs(masks: Path, images: Path | None) -> list[tuple[Path, Path, Path]]:
    """Return (mask, image, folder of the images)."""
    root = masks / "masks" if (masks / "masks").is_dir() else masks
    found = [path for path in visible_images(root, "**/*") if not path.stem.endswith("_overlay")]
    if not found:
        raise DataError(f"No masks in {masks}. Give the folder of masks, such as that of hrseg predict.")
    sibling = root.parent / "images"
    base = images or (sibling if sibling.is_dir() else root)
    finder = Images(base)
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


def _read(mask: Path, image: Path, base: Path, labels: LabelSet) -> MaskedImage:
    ids = read_mask(mask)
    size = image_size(image)
    if ids.shape[:2] != size:
        raise DataError(
            f"{mask} has {ids.shape[0]}x{ids.shape[1]} pixels (height x width), its image {image} {size[0]}x{size[1]}. "
            "They must be equal; check that they belong together."
        )
    return MaskedImage(image, image.relative_to(base).as_posix(), labels.encode(ids, str(mask)))


def _write_coco(masks: Iterable[MaskedImage], style: Style, out: Path) -> None:
    numbers = {name: number for number, name in enumerate(style.names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, masked in enumerate(masks, start=1):
        height, width = masked.size
        images.append({"id": number, "file_name": masked.name, "height": height, "width": width})
        for train_id, pixels in class_pixels(masked, style):
            rows, columns = bounding_box(pixels)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": numbers[style.name(train_id)],
                    "segmentation": {"size": [height, width], "counts": to_coco(pixels)},
                    "area": int(pixels.sum()),
                    "bbox": coco_box(rows, columns),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name, "supercategory": ""} for name, i in numbers.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    out.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_cvat(masks: Iterable[MaskedImage], style: Style, out: Path) -> None:
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels")
    colors = dict(zip(style.labels.names, style.labels.palette.tolist(), strict=True))
    names = [*style.names, BACKGROUND] if style.shapes == "polygons" else style.names
    for name in dict.fromkeys(names):
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        color = colors.get(name, [0, 0, 0])
        ElementTree.SubElement(label, "color").text = "#" + "".join(f"{v:02x}" for v in color)
    for number, masked in enumerate(masks):
        height, width = masked.size
        size = {"width": str(width), "height": str(height)}
        image = ElementTree.SubElement(root, "image", {"id": str(number), "name": masked.name} | size)
        for depth, (name, shape) in enumerate(_cvat_shapes(masked, style)):
            tag = "mask" if "rle" in shape else "polygon"
            common = {"label": name, "source": "auto", "occluded": "0", "z_order": str(depth)}
            ElementTree.SubElement(image, tag, common | shape)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)


def _cvat_shapes(masked: MaskedImage, style: Style) -> list[tuple[str, dict[str, str]]]:
    if style.shapes == "polygons":
        return [
            (name, {"points": ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())})
            for name, ring in mask_polygons(masked.mask, style)
        ]
    shapes = []
    for train_id, pixels in class_pixels(masked, style):
        rows, columns = bounding_box(pixels)
        rle = ", ".join(map(str, runs(pixels[rows, columns].ravel())))
        sides = zip(("left", "top", "width", "height"), coco_box(rows, columns), strict=True)
        box = {side: str(value) for side, value in sides}
        shapes.append((style.name(train_id), {"rle": rle} | box))
    return shapes


def _write_labelme(masks: Iterable[MaskedImage], style: Style, out: Path) -> None:
    for masked in masks:
        height, width = masked.size
        file = out / Path(masked.name).with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": _labelme_shapes(masked, style),
            "imagePath": _relative_path(masked.image, file.parent),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _relative_path(image: Path, folder: Path) -> str:
    """Return the path from a folder to an image, without the folder's own (temporary) name."""
    return Path(os.path.relpath(image.resolve(), folder.resolve())).as_posix()


def _labelme_shapes(masked: MaskedImage, style: Style) -> list[dict[str, Any]]:
    common: Mapping[str, Any] = {"group_id": None, "description": "", "flags": {}}
    if style.shapes == "polygons":
        outline = {"shape_type": "polygon", "mask": None, **common}
        return [{"label": name, "points": ring.tolist(), **outline} for name, ring in mask_polygons(masked.mask, style)]
    shapes = []
    for train_id, pixels in class_pixels(masked, style):
        rows, columns = bounding_box(pixels)
        cut = pixels[rows, columns].astype(np.uint8) * 255
        data = io.BytesIO()
        Image.fromarray(cut).save(data, "PNG")
        shapes.append(
            {
                "label": style.name(train_id),
                "points": [[columns.start, rows.start], [columns.stop - 1, rows.stop - 1]],
                "shape_type": "mask",
                "mask": base64.b64encode(data.getvalue()).decode("ascii"),
                **common,
            }
        )
    return shapes


def _write_label_studio(masks: Iterable[MaskedImage], style: Style, out: Path) -> None:
    tasks = []
    for masked in masks:
        height, width = masked.size
        common = {"from_name": "label", "to_name": "image", "image_rotation": 0}
        common |= {"original_width": width, "original_height": height}
        result = [
            {"id": f"r{number}", **common, **shape}
            for number, shape in enumerate(_studio_shapes(masked, style), start=1)
        ]
        data = {"image": f"/data/local-files/?d={quote(masked.name)}"}
        predictions = [{"model_version": "hrseg", "result": result}]
        tasks.append({"data": data, "predictions": predictions})
    out.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")


def _studio_shapes(masked: MaskedImage, style: Style) -> list[dict[str, Any]]:
    if style.shapes == "polygons":
        percent = 100 / np.array(masked.size[::-1])
        return [
            _studio_shape("polygon", name, points=(ring * percent).tolist(), closed=True)
            for name, ring in mask_polygons(masked.mask, style)
        ]
    return [
        _studio_shape("brush", style.name(train_id), format="rle", rle=to_label_studio(pixels))
        for train_id, pixels in class_pixels(masked, style)
    ]


def _studio_shape(kind: str, name: str, **value: Any) -> dict[str, Any]:
    return {"type": f"{kind}labels", "value": {**value, f"{kind}labels": [name]}}


def _write_datumaro(masks: Iterable[MaskedImage], style: Style, out: Path) -> None:
    colors = dict(zip(style.labels.names, style.labels.palette.tolist(), strict=True))
    numbers = {name: number for number, name in enumerate(style.names)}
    rows = [{"name": name, "parent": "", "attributes": []} for name in numbers]
    colormap = [
        {"label_id": number, **dict(zip("rgb", colors.get(name, [0, 0, 0]), strict=True))}
        for name, number in numbers.items()
    ]
    categories = {
        "label": {"labels": rows, "label_groups": [], "attributes": []},
        "mask": {"colormap": colormap},
    }
    subsets: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for masked in masks:
        first, slash, rest = masked.name.partition("/")
        has_split = slash and standard_split(first)
        subset, name = (first, rest) if has_split else ("default", masked.name)
        annotations = [
            {
                "id": number,
                "type": "mask",
                "attributes": {},
                "group": 0,
                "label_id": numbers[style.name(train_id)],
                "rle": {"counts": to_coco(pixels), "size": list(masked.size)},
                "z_order": 0,
            }
            for number, (train_id, pixels) in enumerate(class_pixels(masked, style))
        ]
        image = {"path": name, "size": list(masked.size)}
        item = {"id": os.path.splitext(name)[0], "annotations": annotations, "image": image}
        subsets[subset].append(item)
        copy = out / "images" / subset / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(masked.image, copy)
    (out / "annotations").mkdir()
    for subset, items in subsets.items():
        content = {"dm_format_version": "1.0", "media_type": 2, "infos": {}}
        content |= {"categories": categories, "items": items}
        text = json.dumps(content, ensure_ascii=False)
        (out / "annotations" / f"{subset}.json").write_text(text, encoding="utf-8")


WRITERS: dict[str, Writer] = {
    "coco": Writer(_write_coco, ("masks",), False),  # JSON with run lengths
    "cvat": Writer(_write_cvat, ("masks", "polygons"), False),  # CVAT for images 1.1, XML
    "labelme": Writer(_write_labelme, ("polygons", "masks"), True),
    "label_studio": Writer(_write_label_studio, ("masks", "polygons"), False),  # predictions
    "datumaro": Writer(_write_datumaro, ("masks",), True),  # images included
}
"""Name → writer."""

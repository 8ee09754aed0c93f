"""The readers: one row for each annotation tool."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hrseg.convert import (
    binary,
    cityscapes,
    coco,
    cvat,
    darwin,
    datumaro,
    geojson,
    isat,
    kaggle,
    label_studio,
    labelbox,
    labelme,
    masks,
    segments_ai,
    superannotate,
    supervisely,
    via,
    yolo,
)
from hrseg.convert.base import Source
from hrseg.convert.classes import Known
from hrseg.convert.unknown_formats import unread
from hrseg.errors import DataError, unknown_choice


@dataclass(frozen=True)
class Reader:
    """One row of READERS.

    Attributes:
        read: (path, folder of images or None, the source's classes or None) → what it holds.
        recognizes: Whether a path looks like the tool's.
        text: What it reads, for the help page.
    """

    read: Callable[[Path, Path | None, Known | None], Source]
    recognizes: Callable[[Path], bool]
    text: str


READERS: dict[str, Reader] = {
    "cvat": Reader(cvat.read, cvat.recognizes, "CVAT for images 1.1 (XML), Segmentation mask 1.1"),
    "cityscapes": Reader(cityscapes.read, cityscapes.recognizes, "Cityscapes *_polygons.json"),
    "labelbox": Reader(
        labelbox.read, labelbox.recognizes, "Labelbox NDJSON: polygons, boxes, masks"
    ),
    "superannotate": Reader(
        superannotate.read,
        superannotate.recognizes,
        "SuperAnnotate vector and pixel projects",
    ),
    "via": Reader(via.read, via.recognizes, "VGG Image Annotator 2, JSON or CSV"),
    "isat": Reader(isat.read, isat.recognizes, "ISAT JSON files"),
    "geojson": Reader(
        geojson.read, geojson.recognizes, "GeoJSON polygons over images: QGIS, QuPath"
    ),
    "kaggle": Reader(kaggle.read, kaggle.recognizes, "run lengths in CSV, as on Kaggle"),
    "label_studio": Reader(
        label_studio.read,
        label_studio.recognizes,
        "Label Studio JSON: brushes, polygons, boxes, ellipses",
    ),
    "supervisely": Reader(
        supervisely.read, supervisely.recognizes, "Supervisely projects: meta.json, ann/ or seg/"
    ),
    "datumaro": Reader(datumaro.read, datumaro.recognizes, "Datumaro, as of Intel Geti"),
    "darwin": Reader(darwin.read, darwin.recognizes, "V7 Darwin JSON files"),
    "segments_ai": Reader(segments_ai.read, segments_ai.recognizes, "Segments.ai release files"),
    "labelme": Reader(labelme.read, labelme.recognizes, "LabelMe JSON files"),
    "coco": Reader(coco.read, coco.recognizes, "COCO JSON: polygons, run lengths, panoptic PNG"),
    "yolo": Reader(yolo.read, yolo.recognizes, "YOLO segmentation text files"),
    "binary": Reader(
        binary.read, binary.recognizes, "a binary mask for each class or object of an image"
    ),
    "voc": Reader(masks.read, masks.recognizes, "VOC palette masks"),
    "colors": Reader(
        masks.read_colors, masks.recognizes_colors, "masks of colors or ids, with a table"
    ),
}
"""Name → reader, in the order in which they are tried."""


def recognize(path: Path) -> str:
    """Find out which tool wrote something.

    Raises:
        DataError: There is nothing, or nobody knows it.
    """
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Give an export of an annotation tool, or its folder."
        )
    if path.suffix.lower() == ".zip":
        raise DataError(f"{path} is an archive. Unpack it, and give the folder.")
    found = _recognized(path)
    if found is not None:
        return found
    raise DataError(
        unread(path)
        or f"{path} looks like no tool that is known here. If it is one of {', '.join(READERS)}, say so with --from; "
        "masks of colors need a table, --classes FILE."
    )


def _recognized(path: Path) -> str | None:
    return next((name for name, reader in READERS.items() if reader.recognizes(path)), None)


def read(name: str, path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read annotations by one reader.

    Raises:
        DataError: Unknown reader, or something is wrong with the files.
    """
    name = {"colours": "colors"}.get(name, name)  # the spelling of earlier versions
    if name not in READERS:
        raise DataError(unknown_choice("reader", name, READERS))
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Give an export of an annotation tool, or its folder."
        )
    if images is not None and not images.is_dir():
        raise DataError(f"Image folder {images} does not exist. Give an existing one to --images.")
    reader = READERS[name]
    try:
        return reader.read(path, images, classes)
    except DataError as error:
        found = name if reader.recognizes(path) else _recognized(path)
        other = f"It looks like {found}: --from {found}." if found else unread(path)
        if found == name or not other:
            raise
        raise DataError(f"{str(error).rstrip('.')}. {other}") from error

"""Table of the readers, one row per annotation tool, and recognition of formats that none of them reads."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import first_bytes, json_files, json_start
from hrseg.errors import DataError, unknown_choice


@dataclass(frozen=True)
class Reader:
    """One row of READERS.

    Attributes:
        read: (path, folder of images or None, the source's own classes or None) → its content. None takes the usual
            folders beside the path, and the classes of the source or their names in order. DataError: something in
            the source is wrong.
        recognizes: Whether a path is an export of the tool.
    """

    read: Callable[[Path, Path | None, SourceClasses | None], Source]
    recognizes: Callable[[Path], bool]


_MODULES = (
    *(cvat, cityscapes, labelbox, superannotate, via, isat, geojson, kaggle, label_studio),
    *(supervisely, datumaro, darwin, segments_ai, labelme, coco, yolo, binary),
)
READERS: dict[str, Reader] = {
    **{m.__name__.rpartition(".")[2]: Reader(m.read, m.recognizes) for m in _MODULES},
    "voc": Reader(masks.read, masks.recognizes),
    "colors": Reader(masks.read_colors, masks.recognizes_colors),
}
"""Name → reader, in the order in which they are tried."""


def recognize(path: Path) -> str:
    """Return the name of the reader of a file or folder.

    Raises:
        DataError: It does not exist, or its format is unknown.
    """
    _refuse_missing(path)
    if path.suffix.lower() == ".zip":
        raise DataError(f"{path} is an archive. Unpack it, and give the folder.")
    found = _recognized(path)
    if found is not None:
        return found
    raise DataError(
        describe_unknown(path)
        or f"{path} is not recognized as a known tool's export. If it is one of {', '.join(READERS)}, give --from; "
        "masks of colors need a table, --classes FILE."
    )


def _refuse_missing(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path} does not exist. Give an export of an annotation tool, or its folder.")


def _recognized(path: Path) -> str | None:
    return next((name for name, reader in READERS.items() if reader.recognizes(path)), None)


def read(name: str, path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read annotations by one reader.

    Raises:
        DataError: Unknown reader, or something is wrong with the files.
    """
    name = {"colours": "colors"}.get(name, name)  # the spelling of earlier versions
    if name not in READERS:
        raise DataError(unknown_choice("reader", name, READERS))
    _refuse_missing(path)
    if images is not None and not images.is_dir():
        raise DataError(f"Image folder {images} does not exist. Give an existing one to --images.")
    reader = READERS[name]
    try:
        return reader.read(path, images, classes)
    except DataError as error:
        found = name if reader.recognizes(path) else _recognized(path)
        other = f"It seems to be {found}: --from {found}." if found else describe_unknown(path)
        if found == name or not other:
            raise
        raise DataError(f"{str(error).rstrip('.')}. {other}") from error


_OUTLINES = "Export outlines or masks, such as COCO segmentation or CVAT for images 1.1"


def describe_unknown(path: Path) -> str | None:
    """Name the tool of a format that no reader reads, with an alternative; None where it is not recognized."""
    files = [path] if path.is_file() else []
    for below in ("*", "annotations/*", "*/*"):
        files += sorted(path.glob(below))[:20] if path.is_dir() else []
    for file in files:
        for name, advice, fits in _UNSUPPORTED:
            if file.is_file() and fits(file):
                return f"{file} is {name}, which is not read here. {advice}."
    keys = next((_keys(json_start(file)) for file in json_files(path)), None)
    if not keys:
        return None
    return (
        f"{path} is a JSON file of no tool that is known here; it begins with {keys}. If its tool can export COCO, "
        "CVAT for images 1.1 or masks, give that."
    )


def _keys(start: Any) -> str:
    if isinstance(start, list) and start:
        return f"a list of rows with {_keys(start[0])}" if isinstance(start[0], dict) else "a list"
    return ", ".join(f"'{key}'" for key in [*start][:6]) if isinstance(start, dict) else ""


def _first(start: Any, *keys: str) -> bool:
    """Return whether a list's first row has some keys; the rows of a dictionary's values count as a list."""
    row = next(iter(start), None) if isinstance(start, list) else start
    return isinstance(row, dict) and {*keys} <= {*row}


def _json(*keys: str, inside: tuple[str, ...] = ()) -> Callable[[Path], bool]:
    """Recognize a JSON file by keys of its top level, or of its first row, and of the first row of one of them."""

    def fits(file: Path) -> bool:
        start = json_start(file) if file.suffix.lower() in (".json", ".ndjson", ".jsonl") else None
        row = start[0] if isinstance(start, list) and start else start
        if not isinstance(row, dict) or not _first(row, *keys):
            return False
        return not inside or _first(row[keys[-1]], *inside)

    return fits


def _xml(root: bytes, word: bytes) -> Callable[[Path], bool]:
    pattern = re.compile(rb"<" + root + rb"[\s>]")
    return lambda file: (
        file.suffix.lower() == ".xml" and bool(pattern.search(first_bytes(file))) and word in first_bytes(file)
    )


_UNSUPPORTED: tuple[tuple[str, str, Callable[[Path], bool]], ...] = (
    ("COCO with captions", _OUTLINES, _json("images", "annotations", inside=("caption",))),
    (
        "Segment Anything's JSON of masks without classes",
        "Give its masks classes in a tool first",
        _json("image", "annotations", inside=("predicted_iou",)),
    ),
    ("CreateML, which has boxes only", _OUTLINES, _json("annotations", inside=("coordinates",))),
    ("VoTT", _OUTLINES, _json("assets", "tags")),
    ("an asset of VoTT", _OUTLINES, _json("asset", "regions")),
    (
        "Hasty",
        "Export 'COCO segmentation' or 'PNG masks' from Hasty",
        _json("label_classes", "images"),
    ),
    (
        "an old export of Labelbox",
        "Export it again from Labelbox, as NDJSON",
        _json("Labeled Data", "Label"),
    ),
    ("Encord", "Export COCO from Encord", _json("label_hash")),
    ("Encord", "Export COCO from Encord", _json("data_hash")),
    ("Kili", "Export COCO from Kili", _json("jsonResponse")),
    ("Kili", "Export COCO from Kili", _json("labels", inside=("jsonResponse",))),
    (
        "Dataloop",
        "Export COCO or masks from Dataloop",
        _json("filename", "annotations", inside=("coordinates",)),
    ),
    ("Scale AI", "Convert its outlines to COCO", _json("task_id", "response")),
    (
        "a manifest of SageMaker Ground Truth",
        "Export its masks with a table of colors",
        lambda file: b'"source-ref"' in first_bytes(file),
    ),
    ("Prodigy", _OUTLINES, _json("image", "spans")),
    ("VOC's XML of boxes", _OUTLINES, _xml(b"annotation", b"<bndbox>")),
    (
        "XML of the web tool LabelMe 3",
        "Convert it with its own tools to COCO or masks",
        _xml(b"annotation", b"<polygon>"),
    ),
    (
        "a TFRecord file",
        "Export masks or COCO instead",
        lambda file: file.suffix == ".tfrecord" or ".tfrecord-" in file.name,
    ),
    (
        "a 3D image of NIfTI",
        "Save its slices as images and masks",
        lambda file: file.name.endswith((".nii", ".nii.gz")),
    ),
)
"""(Name, advice, whether a file is of that format)."""

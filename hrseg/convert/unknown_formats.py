"""Formats that no reader reads, by name: how each is told, and what its tool can export instead."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hrseg.convert.files import head, json_files, json_start

_OUTLINES = "Export outlines or masks, such as COCO segmentation or CVAT for images 1.1"


def unread(path: Path) -> str | None:
    """Say which tool or task wrote something that is not read; None where nothing tells."""
    files = [path] if path.is_file() else []
    for below in ("*", "annotations/*", "*/*"):
        files += sorted(path.glob(below))[:20] if path.is_dir() else []
    for file in files:
        for name, advice, fits in _UNREAD:
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
    """Say whether a list's first row has some keys; the rows of a dictionary's values count as a list."""
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
        file.suffix.lower() == ".xml" and bool(pattern.search(head(file))) and word in head(file)
    )


_UNREAD: tuple[tuple[str, str, Callable[[Path], bool]], ...] = (
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
        lambda file: b'"source-ref"' in head(file),
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
"""(What it is, what to do, whether a file is that)."""

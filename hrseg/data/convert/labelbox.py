"""Labelbox: exports as NDJSON (one data row a line) or as a JSON list, with polygons, boxes and masks.

Later objects cover earlier ones. The newest label of a data row counts. Masks are not in the export, which holds
their addresses: each is to be downloaded as FEATURE_ID.png, a composite mask as its own id with .png.
"""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from hrseg.data.convert.files import Images, corners, head, number, safe_name
from hrseg.data.convert.known import Known
from hrseg.data.convert.parts import MEND, Object, Record, Source, packed, problem
from hrseg.data.convert.polygons import Patch, Size, box, fill, place
from hrseg.errors import DataError
from hrseg.imaging import image_size, read_mask

_STEP = "Export it again from Labelbox"
_NO_AREA = {"line": "polylines", "point": "points"}


def recognises(path: Path) -> bool:
    """Say whether this is an export of Labelbox, or a folder with one."""
    return len(_files(path)) == 1


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read an export of Labelbox.

    Args:
        path: The .ndjson or .json file, or the folder with it.
        images: Folder of the images; None looks beside the file.
        classes: Order of the classes; None sorts them by name.

    Raises:
        DataError: Something in it is wrong.
    """
    files = _files(path) or [path]
    if len(files) > 1 or not files[0].is_file():
        raise DataError(f"{path} holds no or several exports of Labelbox. Give the .ndjson file.")
    file = files[0]
    folders = [file.parent / "images", file.parent]
    finder = Images([images] if images else folders)
    masks = Images([file.parent / "masks", *([images] if images else []), file.parent])
    aside: Counter[str] = Counter()
    records = []
    for place_, row in _rows(file):
        record = _record(row, place_, finder, masks, aside)
        if record is not None:
            records.append(record)
    if not records:
        raise problem(str(file), "no data row in it is a labeled image", "Label some images first")
    names = sorted({item.label for record in records for item in record.objects})
    order = dict.fromkeys([*(classes.names if classes else ()), *names])
    return Source(order, records, aside=aside)


def _files(path: Path) -> list[Path]:
    found = []
    for file in [path] if path.is_file() else sorted(path.glob("*.*json")):
        start = head(file) if file.suffix.lower() in (".json", ".ndjson", ".jsonl") else b""
        if b'"data_row"' in start and start[:1] in b"[{":
            found.append(file)
    return found


def _rows(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return place and content of each data row."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}. {_STEP}.") from error
    rows: list[tuple[str, Any]] = []
    try:
        rows = [(f"{file.name}, data row {i}", row) for i, row in enumerate(json.loads(text), 1)]
    except (ValueError, RecursionError, TypeError):  # not one document: one a line
        for line, content in enumerate(text.splitlines(), start=1):
            where = f"{file.name}, line {line}"
            try:
                rows += [(where, json.loads(content))] if content.strip() else []
            except (ValueError, RecursionError) as error:
                raise problem(where, f"it is no JSON: {error}", _STEP) from error
    for where, row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("data_row"), dict):
            raise problem(where, "it has no 'data_row'", _STEP)
    return rows

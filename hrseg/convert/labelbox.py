"""Labelbox: exports as NDJSON (one data row a line) or as a JSON list, with polygons, boxes and masks.

Later objects cover earlier ones. The newest label of a data row counts. Masks are not in the export, which holds
their addresses: each is to be downloaded as FEATURE_ID.png, a composite mask as its own id with .png.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from hrseg.convert.attributes import class_order
from hrseg.convert.base import LeftOut, Objects, Record, Source, each, fault, packed, problem
from hrseg.convert.classes import Known
from hrseg.convert.files import Images, corners, json_start, number, safe_name
from hrseg.errors import DataError
from hrseg.imaging import image_size, read_mask
from hrseg.imaging.polygons import Patch, Size, box, fill, place

_STEP = "Export it again from Labelbox"
_NO_AREA = {"line": "polylines", "point": "points"}


def recognizes(path: Path) -> bool:
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
    masks = [file.parent / "masks", file.parent, *([images] if images else [])]
    aside = LeftOut()
    source = Source({}, [], aside=aside)
    records = each(_rows(file), lambda row: _record(*row, finder, masks, aside), source.broken)
    if not records:
        raise problem(str(file), "no data row in it is a labeled image", "Label some images first")
    return replace(source, classes=class_order(records, classes), records=records)


def _files(path: Path) -> list[Path]:
    candidates = [path] if path.is_file() else sorted(path.glob("*.*json*"))
    return [file for file in candidates if is_labelbox(json_start(file))]


def is_labelbox(content: Any) -> bool:
    """Say whether a file's content, or its first line, is Labelbox's."""
    row = content[0] if isinstance(content, list) and content else content
    return isinstance(row, dict) and isinstance(row.get("data_row"), dict)


def _rows(file: Path) -> list[tuple[str, Any]]:
    """Return place and content of each data row."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}. {_STEP}.") from error
    rows: list[tuple[str, Any]] = []
    try:
        content = json.loads(text)
        found = content if isinstance(content, list) else [content]
        rows = [(f"{file.name}, data row {i}", row) for i, row in enumerate(found, start=1)]
    except (ValueError, RecursionError):  # not one document, but one on each line
        for number_, line in enumerate(text.splitlines(), start=1):
            where = f"{file.name}, line {number_}"
            try:
                rows += [(where, json.loads(line))] if line.strip() else []
            except (ValueError, RecursionError) as error:
                raise problem(where, f"it is no JSON: {error}", _STEP) from error
    return rows


def _record(
    where: str, row: Any, finder: Images, masks: list[Path], aside: LeftOut
) -> Record | None:
    if not is_labelbox(row) or isinstance(row, list):
        raise problem(where, "it has no 'data_row'", _STEP)
    data = row["data_row"]
    try:
        label = _label(row)
        annotations = dict(label["annotations"]) if label else {}
        rows = [dict(item) for item in annotations.get("objects") or []]
        media = dict(row.get("media_attributes") or {})
        sides = media.get("height"), media.get("width")
        size = None if None in sides else (int(number(sides[0])), int(number(sides[1])))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise problem(where, fault(error), _STEP) from error
    if label is None or "frames" in annotations:
        aside["videos" if label else "data rows that nobody labeled"] += 1
        return None
    objects = Objects(where, aside)
    for index, item in enumerate(rows, start=1):
        kind = next((key for key in (*_NO_AREA, *_DRAW) if item.get(key)), "")
        if kind in _NO_AREA:
            aside[_NO_AREA[kind]] += 1
            continue
        place = f"object {item.get('feature_id', index)}"
        objects.add(place, item.get("name") or item.get("value"), partial(_draw, kind, item, masks))
    image, name = _image(data, where, finder)
    return Record(safe_name(name), image, where, size=size, objects=objects.found)


def _image(data: dict[str, Any], where: str, finder: Images) -> tuple[Path, str]:
    """Return the image of a data row, and what the data row calls it."""
    address = unquote(urlsplit(str(data.get("row_data") or "")).path)
    said = [data.get("external_id"), address, data.get("global_key"), data.get("id")]
    names = [str(name) for name in said if name]
    if not names:
        raise problem(where, "its data row names no image", _STEP)
    image = finder.find(names[0], where, *names[1:])
    return image, names[0] if data.get("external_id") else image.name


def _label(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the newest label of the first project that has one."""
    for project in (row.get("projects") or {}).values():
        labels = [
            label
            for label in project.get("labels") or []
            if not (label.get("performance_details") or {}).get("skipped")
        ]
        if labels:
            return max(
                labels, key=lambda x: str((x.get("label_details") or {}).get("created_at", ""))
            )
    return None


def _draw(kind: str, row: dict[str, Any], masks: list[Path]) -> partial[Patch]:
    if not kind:
        raise ValueError(f"its kind '{row.get('annotation_kind')}' has no area that is known here")
    return _DRAW[kind](row, masks)


def _polygon(row: dict[str, Any], masks: list[Path]) -> partial[Patch]:
    return partial(fill, [corners([(point["x"], point["y"]) for point in row["polygon"]])])


def _box(row: dict[str, Any], masks: list[Path]) -> partial[Patch]:
    left, top, width, height = (
        number(row["bounding_box"][key]) for key in ("left", "top", "width", "height")
    )
    return partial(fill, [box(left, top, left + width, top + height)])


def _mask(row: dict[str, Any], masks: list[Path]) -> partial[Patch]:
    return partial(_drawn, _downloaded(str(row.get("feature_id")), row["mask"], masks), None)


def _composite(row: dict[str, Any], masks: list[Path]) -> partial[Patch]:
    said = row["composite_mask"]
    way = urlsplit(str(said.get("url"))).path.split("/")  # …/masks/ID/index/1
    name = way[way.index("masks") + 1] if "masks" in way[:-1] else ""
    return partial(_drawn, _downloaded(name, said, masks), packed(said["color_rgb"]))


def _downloaded(name: str, said: dict[str, Any], folders: list[Path]) -> Path:
    """Return a mask's file, which the user downloaded."""
    file = f"{Path(name).name}.png"
    found = next((folder / file for folder in folders if (folder / file).is_file()), None)
    if found is None:
        raise ValueError(
            f"its mask lies at {said.get('url')}, not in the export: download it with your key as {folders[0] / file}"
        )
    return found


def _drawn(file: Path, color: int | None, size: Size) -> Patch:
    if image_size(file) != size:
        raise ValueError(
            f"its mask {file} has {image_size(file)} pixels (height, width), its image {size}"
        )
    values = read_mask(file).astype(np.int32)
    if values.ndim == 3:
        values = values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2]
    return place(values == color if color is not None else values > 0, 0, 0, size)


_DRAW = {
    "polygon": _polygon,
    "bounding_box": _box,
    "composite_mask": _composite,
    "mask": _mask,
}

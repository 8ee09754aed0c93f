"""Reader of Labelbox: NDJSON (one data row a line) or a JSON list, with polygons, boxes and masks.

Later objects cover earlier ones. The newest label of a data row is used. Masks are not in the export, which holds
their addresses: each is to be downloaded as FEATURE_ID.png, a composite mask as its own id with .png.
"""

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hrseg.convert.base import (
    Draw,
    ObjectList,
    Record,
    Skipped,
    Source,
    color_code,
    data_error,
    errors_at,
    polygon,
    read_size,
    rectangle_at,
)
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import Images, json_start, safe_name
from hrseg.errors import DataError, parse_json
from hrseg.imaging import image_size, read_mask
from hrseg.imaging.polygons import Patch, Size, place
from hrseg.labels import pack_colors

_STEP = "Export it again from Labelbox"
_NO_AREA = {"line": "polylines", "point": "points"}


def recognizes(path: Path) -> bool:
    """Return whether this is an export of Labelbox, or a folder with one."""
    return len(_files(path)) == 1


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the .ndjson or .json file, or the folder with it; images are by default beside the file."""
    files = _files(path) or [path]
    if len(files) > 1 or not files[0].is_file():
        raise DataError(f"{path} holds no or several exports of Labelbox. Give the .ndjson file.")
    folder = files[0].parent
    finder = Images(images, folder / "images", folder)
    masks = [folder / "masks", folder, *([images] if images else [])]
    source = Source()
    if not source.read_records(_rows(files[0]), lambda row: _record(*row, finder, masks, source.skipped)):
        what = "no data row in it is a labeled image"
        raise data_error(str(files[0]), what, "Label some images first")
    return source.add_labels(classes.names if classes else ())


def _files(path: Path) -> list[Path]:
    candidates = [path] if path.is_file() else sorted(path.glob("*.*json*"))
    return [file for file in candidates if is_labelbox(json_start(file))]


def is_labelbox(content: Any) -> bool:
    """Return whether a file's content, or its first line, is Labelbox's."""
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
        content = parse_json(text)
        found = content if isinstance(content, list) else [content]
        rows = [(f"{file.name}, data row {i}", row) for i, row in enumerate(found, start=1)]
    except ValueError:  # not one document, but one on each line
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{file.name}, line {number}"
            try:
                rows += [(where, parse_json(line))] if line.strip() else []
            except ValueError as error:
                raise data_error(where, f"it is no JSON: {error}", _STEP) from error
    return rows


def _record(where: str, row: Any, finder: Images, masks: list[Path], skipped: Skipped) -> Record | None:
    if not is_labelbox(row) or isinstance(row, list):
        raise data_error(where, "it has no 'data_row'", _STEP)
    data = row["data_row"]
    with errors_at(where, _STEP):
        label = _label(row)
        annotations = dict(label["annotations"]) if label else {}
        rows = [dict(item) for item in annotations.get("objects") or []]
        media = dict(row.get("media_attributes") or {})
        size = read_size(media.get("height"), media.get("width"))
    if label is None or "frames" in annotations:
        skipped["videos" if label else "data rows without labels"] += 1
        return None
    objects = ObjectList(where, skipped)
    for index, item in enumerate(rows, start=1):
        kind = next((key for key in (*_NO_AREA, *_SHAPES) if item.get(key)), "")
        if kind in _NO_AREA:
            skipped[_NO_AREA[kind]] += 1
            continue
        place = f"object {item.get('feature_id', index)}"
        objects.add(place, item.get("name") or item.get("value"), partial(_parse, kind, item, masks))
    image, name = _image(data, where, finder)
    return Record(safe_name(name), image, where, size=size, objects=objects.objects)


def _image(data: dict[str, Any], where: str, finder: Images) -> tuple[Path, str]:
    """Return the image of a data row, and its name in the data row."""
    address = unquote(urlsplit(str(data.get("row_data") or "")).path)
    candidates = [data.get("external_id"), address, data.get("global_key"), data.get("id")]
    names = [str(name) for name in candidates if name]
    if not names:
        raise data_error(where, "its data row names no image", _STEP)
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
            return max(labels, key=lambda x: str((x.get("label_details") or {}).get("created_at", "")))
    return None


_SHAPES = ("polygon", "bounding_box", "composite_mask", "mask")


def _parse(kind: str, row: dict[str, Any], masks: list[Path]) -> Draw:
    if kind == "polygon":
        return polygon([(point["x"], point["y"]) for point in row["polygon"]])
    if kind == "bounding_box":
        sides = ("left", "top", "width", "height")
        return rectangle_at(*(row["bounding_box"][key] for key in sides))
    if kind == "composite_mask":
        mask = row["composite_mask"]
        parts = urlsplit(str(mask.get("url"))).path.split("/")  # …/masks/ID/index/1
        name = parts[parts.index("masks") + 1] if "masks" in parts[:-1] else ""
        file = _downloaded(name, mask, masks)
        return partial(_draw_mask, file, color_code(mask["color_rgb"]))
    if kind == "mask":
        file = _downloaded(str(row.get("feature_id")), row["mask"], masks)
        return partial(_draw_mask, file, None)
    raise ValueError(f"its kind '{row.get('annotation_kind')}' has no area that is known here")


def _downloaded(name: str, mask: dict[str, Any], folders: list[Path]) -> Path:
    """Return a mask's file, which the user downloaded."""
    file = f"{Path(name).name}.png"
    found = next((folder / file for folder in folders if (folder / file).is_file()), None)
    if found is None:
        raise ValueError(
            f"its mask is at {mask.get('url')}, not in the export: download it with your key as {folders[0] / file}"
        )
    return found


def _draw_mask(file: Path, color: int | None, size: Size) -> Patch:
    if image_size(file) != size:
        raise ValueError(f"its mask {file} has {image_size(file)} pixels (height, width), its image {size}")
    values = read_mask(file)
    values = pack_colors(values) if values.ndim == 3 else values
    return place(values == color if color is not None else values > 0, 0, 0, size)

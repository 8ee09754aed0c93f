"""Reader of Label Studio: JSON or JSON-MIN with brushes, polygons, rectangles and ellipses.

Coordinates are per cent of width and height; brushes are run lengths of their own kind. Later regions cover earlier
ones. Of several annotations of a task the ground truth is used, else the last one that was not cancelled; predictions
are used only for tasks without annotations, which the report states.
"""

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from hrseg.convert.base import FIX, Draw, ObjectList, Record, Skipped, Source, data_error, errors_at
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import Images, json_files, json_start, read_json, read_number, read_points
from hrseg.imaging.polygons import Patch, Ring, Size, box, ellipse, fill, place, turned
from hrseg.imaging.rle import from_label_studio

_STEP = "Export it as 'JSON' from Label Studio"
_PREDICTED = "predicted"
_LISTS = ("annotations", "completions", "predictions")
_NO_AREA = (
    *("keypointlabels", "keypoint", "choices", "textarea", "rating", "relation", "taxonomy"),
    "number",
)


def recognizes(path: Path) -> bool:
    """Return whether this is a list of Label Studio's tasks, or a folder with one."""
    return len(_files(path)) == 1


def _files(path: Path) -> list[Path]:
    return [file for file in json_files(path) if is_tasks(json_start(file))]


def is_tasks(content: Any) -> bool:
    """Return whether a file's content is a list of tasks: with data and annotations, or JSON-MIN."""
    task = content[0] if isinstance(content, list) and content else None
    if not isinstance(task, dict):
        return False
    if isinstance(task.get("data"), dict):
        return any(isinstance(task.get(key), list) for key in _LISTS)
    regions = [row for value in task.values() if isinstance(value, list) for row in value[:1]]
    return any(isinstance(row, dict) and "original_width" in row for row in regions)


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the JSON file, or its folder; images are by default beside the file."""
    path = next(iter(_files(path)), path)
    tasks = read_json(path)
    if not isinstance(tasks, list) or not tasks:
        raise data_error(str(path), "it is no list of tasks", _STEP)
    finder = Images(images, path.parent / "images", path.parent)
    source = Source()

    def read_task(item: tuple[int, Any]) -> Record | None:
        index, task = item
        if not isinstance(task, dict):
            raise data_error(f"{path.name}, task {index}", "it is no task", _STEP)
        return _record(task, f"{path.name}, task {task.get('id', index)}", finder, source.skipped)

    if not source.read_records(enumerate(tasks, start=1), read_task):
        raise data_error(str(path), "no task in it was annotated", "Annotate some images first")
    count = source.skipped.pop(_PREDICTED, 0)
    if count:
        what = f"{count:,} image{'s' * (count != 1)}"
        source.notes = (f"Of {what} without annotations the predictions were taken.",)
    return source.add_labels(classes.names if classes else ())


def _record(task: dict[str, Any], where: str, images: Images, skipped: Skipped) -> Record | None:
    address = _address(task, where)
    regions = _regions(task, where, skipped)
    if regions is None:
        skipped["tasks without annotations"] += 1
        return None
    size: Size | None = None
    objects = ObjectList(where, skipped)
    for index, region in enumerate(regions, start=1):
        what = f"region {region.get('id', index)}"
        kind, value = str(region.get("type", "")).lower(), region.get("value", region)
        label = _label(region, value)
        if kind in _NO_AREA or label is None:
            skipped[f"{kind} regions" if kind in _NO_AREA else "regions without a label"] += 1
            continue
        with errors_at(f"{where}, {what} ('{label}')", FIX):
            size = _size(region, size)
        objects.add(what, label, partial(_parse, kind, value))
    image = images.find(address, where, *_without_prefix(address))
    return Record(images.name(image), image, where, size=size, objects=objects.objects)


def _size(region: dict[str, Any], before: Size | None) -> Size | None:
    """Return the image's size, which every region repeats."""
    if read_number(region.get("image_rotation") or 0):
        raise ValueError("its image was rotated in Label Studio, so that its place is unclear")
    if region.get("original_width") is None:
        return before
    height, width = (int(read_number(region[f"original_{side}"])) for side in ("height", "width"))
    if before not in (None, (height, width)):
        raise ValueError(f"its image has {height}x{width} pixels, and {before} before")
    return height, width


def _parse(kind: str, value: dict[str, Any]) -> Draw:
    if "rle" in value:
        return partial(_draw_brush, value["rle"])
    if "points" in value:
        return partial(_draw_polygon, read_points(value["points"]))
    if "radiusX" in value:
        return partial(_draw_ellipse, _numbers(value, "x", "y", "radiusX", "radiusY", "rotation"))
    if "width" in value:
        return partial(_draw_box, _numbers(value, "x", "y", "width", "height", "rotation"))
    raise ValueError(f"its type '{kind}' has no area that is known here")


def _numbers(value: dict[str, Any], *keys: str) -> list[float]:
    return [read_number(value.get(key, 0)) for key in keys]


def _address(task: dict[str, Any], where: str) -> str:
    """Return the image's path of a task's data, whatever its key."""
    data = task.get("data", task)
    values = [data.get("image"), *data.values()] if isinstance(data, dict) else []
    for value in values:
        if isinstance(value, str) and value:
            parts = urlsplit(value)
            local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/a.jpg
            return unquote(local[0] if local else parts.path or value)
    raise data_error(where, "its data name no image", _STEP)


def _without_prefix(address: str) -> list[str]:
    """Return the name before an upload, which adds eight letters and a dash in front."""
    name = address.rsplit("/", 1)[-1]
    prefix, dash, rest = name.partition("-")
    return [rest] if dash and rest and len(prefix) == 8 else []


def _regions(task: dict[str, Any], where: str, skipped: Skipped) -> list[dict[str, Any]] | None:
    given = task.get("annotations", task.get("completions"))
    if given is None and "data" not in task:  # JSON-MIN has regions under the names of the tools
        lists = [value for value in task.values() if isinstance(value, list)]
        return [item for items in lists for item in _dicts(items)]
    valid = [a for a in _dicts(given) if not a.get("was_cancelled")]
    if not valid:
        predicted = [p for p in _dicts(task.get("predictions")) if isinstance(p.get("result"), list)]
        skipped[_PREDICTED] += bool(predicted)
        valid = predicted
    if not valid:
        return None
    skipped["older annotations of one image"] += len(valid) - 1
    chosen = next((a for a in valid if a.get("ground_truth")), valid[-1])
    if not isinstance(chosen.get("result"), list):
        raise data_error(where, "its annotation has no 'result'", _STEP)
    return _dicts(chosen["result"])


def _dicts(found: Any) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _label(region: dict[str, Any], value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    for key in (str(region.get("type", "")).lower(), *_LABELS):
        names = value.get(key)
        if isinstance(names, list) and names:
            return str(names[0])
    return None


_LABELS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels")


def _draw_brush(data: list[int], size: Size) -> Patch:
    return place(from_label_studio(data, size), 0, 0, size)


def _draw_polygon(ring: Ring, size: Size) -> Patch:
    return fill([ring * (size[1] / 100, size[0] / 100)], size)


def _draw_ellipse(numbers: list[float], size: Size) -> Patch:
    x, y, rx, ry, degrees = numbers
    height, width = size[0] / 100, size[1] / 100
    return fill([ellipse(x * width, y * height, rx * width, ry * height, degrees)], size)


def _draw_box(numbers: list[float], size: Size) -> Patch:
    x, y, width, height, degrees = numbers
    percent = np.array([size[1] / 100, size[0] / 100])
    ring = box(x, y, x + width, y + height) * percent
    corner = (x * percent[0], y * percent[1])  # the center of rotation
    return fill([turned(ring, corner, degrees)], size)

"""Label Studio: JSON or JSON-MIN with brushes, polygons, rectangles and ellipses.

Coordinates are per cent of width and height; brushes are run lengths of their own kind. Later regions cover earlier
ones. Of several annotations of a task the ground truth counts, else the last one that was not cancelled; predictions
count only where nobody annotated, which is said.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hrseg.convert.base import MEND, LeftOut, Objects, Record, Source, each, problem, reading
from hrseg.convert.classes import Known
from hrseg.convert.files import Images, corners, json_files, json_start, number, read_json
from hrseg.imaging.polygons import Patch, Size, box, ellipse, fill, place, turned
from hrseg.imaging.rle import from_label_studio

_STEP = "Export it as 'JSON' from Label Studio"
_PREDICTED = "predicted"
_LISTS = ("annotations", "completions", "predictions")
_NO_AREA = (
    "keypointlabels",
    "keypoint",
    "choices",
    "textarea",
    "rating",
    "relation",
    "taxonomy",
    "number",
)


def recognizes(path: Path) -> bool:
    """Say whether this is a list of Label Studio's tasks, or a folder with one."""
    return len(_files(path)) == 1


def _files(path: Path) -> list[Path]:
    return [file for file in json_files(path) if is_tasks(json_start(file))]


def is_tasks(content: Any) -> bool:
    """Say whether a file's content is a list of tasks: with data and annotations, or JSON-MIN."""
    task = content[0] if isinstance(content, list) and content else None
    if not isinstance(task, dict):
        return False
    if isinstance(task.get("data"), dict):
        return any(isinstance(task.get(key), list) for key in _LISTS)
    regions = [row for value in task.values() if isinstance(value, list) for row in value[:1]]
    return any(isinstance(row, dict) and "original_width" in row for row in regions)


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read an export of Label Studio.

    Args:
        path: The JSON file.
        images: Folder of the images; None looks beside the file.
        classes: Order of the classes; None sorts them by name.

    Raises:
        DataError: Something in it is wrong.
    """
    path = next(iter(_files(path)), path)
    tasks = read_json(path)
    if not isinstance(tasks, list) or not tasks:
        raise problem(str(path), "it is no list of tasks", _STEP)
    finder = Images([images] if images else [path.parent / "images", path.parent])
    aside = LeftOut()
    source = Source({}, [], aside=aside)

    def make(item: tuple[int, Any]) -> Record | None:
        index, task = item
        if not isinstance(task, dict):
            raise problem(f"{path.name}, task {index}", "it is no task", _STEP)
        return _record(task, f"{path.name}, task {task.get('id', index)}", finder, aside)

    records = each(enumerate(tasks, start=1), make, source.broken)
    if not records:
        raise problem(str(path), "no task in it was annotated", "Annotate some images first")
    found = sorted({item.label for record in records for item in record.objects})
    classes_found = dict.fromkeys([*(classes.names if classes else ()), *found])
    predicted = aside.pop(_PREDICTED, 0)
    images_ = "image" if predicted == 1 else "images"
    said = f"Of {predicted:,} {images_} that nobody annotated the predictions were taken."
    return replace(source, classes=classes_found, records=records, notes=(said,) * (predicted > 0))


def _record(task: dict[str, Any], where: str, images: Images, aside: LeftOut) -> Record | None:
    address = _address(task, where)
    regions = _regions(task, where, aside)
    if regions is None:
        aside["tasks that nobody annotated"] += 1
        return None
    size: Size | None = None
    objects = Objects(where, aside)
    for index, region in enumerate(regions, start=1):
        what = f"region {region.get('id', index)}"
        kind, value = str(region.get("type", "")).lower(), region.get("value", region)
        label = _label(region, value)
        if kind in _NO_AREA or label is None:
            aside[
                f"{kind or 'unlabelled'} regions" if kind in _NO_AREA else "regions without a label"
            ] += 1
            continue
        with reading(f"{where}, {what} ('{label}')", MEND):
            size = _size(region, size)
        objects.add(what, label, partial(_draw, kind, value))
    image = images.find(address, where, *_without_prefix(address))
    return Record(images.name(image), image, where, size=size, objects=objects.found)


def _size(region: dict[str, Any], before: Size | None) -> Size | None:
    """Return the image's size, which every region repeats."""
    if number(region.get("image_rotation") or 0):
        raise ValueError("its image was rotated in Label Studio, so that its place is unclear")
    if region.get("original_width") is None:
        return before
    height, width = (int(number(region[f"original_{side}"])) for side in ("height", "width"))
    if before not in (None, (height, width)):
        raise ValueError(f"its image has {height}x{width} pixels, and {before} before")
    return height, width


def _draw(kind: str, value: dict[str, Any]) -> partial[Patch]:
    make = next((make for key, make in _DRAW.items() if key in value), None)
    if make is None:
        raise ValueError(f"its type '{kind}' has no area that is known here")
    return make(value)


def _address(task: dict[str, Any], where: str) -> str:
    """Return the image's path of a task's data, whatever its key."""
    data = task.get("data", task)
    values = [data.get("image")] if isinstance(data, dict) else []
    values += (
        [value for value in data.values() if isinstance(value, str)]
        if isinstance(data, dict)
        else []
    )
    for value in values:
        if isinstance(value, str) and value:
            parts = urlsplit(value)
            local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/a.jpg
            return unquote(local[0] if local else parts.path or value)
    raise problem(where, "its data name no image", _STEP)


def _without_prefix(address: str) -> list[str]:
    """Return the name as it was before an upload: Label Studio puts eight letters and a dash before it."""
    name = address.rsplit("/", 1)[-1]
    prefix, dash, rest = name.partition("-")
    return [rest] if dash and rest and len(prefix) == 8 else []


def _regions(task: dict[str, Any], where: str, aside: LeftOut) -> list[dict[str, Any]] | None:
    given = task.get("annotations", task.get("completions"))
    if given is None and "data" not in task:  # JSON-MIN keeps regions under the names of the tools
        lists = [value for value in task.values() if isinstance(value, list)]
        return [item for items in lists for item in _dicts(items)]
    valid = [a for a in _dicts(given) if not a.get("was_cancelled")]
    if not valid:
        predicted = [
            p for p in _dicts(task.get("predictions")) if isinstance(p.get("result"), list)
        ]
        aside[_PREDICTED] += bool(predicted)
        valid = predicted
    if not valid:
        return None
    aside["older annotations of one image"] += len(valid) - 1
    chosen = next((a for a in valid if a.get("ground_truth")), valid[-1])
    if not isinstance(chosen.get("result"), list):
        raise problem(where, "its annotation has no 'result'", _STEP)
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


def _brush(value: dict[str, Any]) -> partial[Patch]:
    return partial(_brushed, value["rle"])


def _brushed(data: list[int], size: Size) -> Patch:
    return place(from_label_studio(data, size), 0, 0, size)


def _polygon(value: dict[str, Any]) -> partial[Patch]:
    return partial(_shared, corners(value["points"]))


def _shared(ring: Any, size: Size) -> Patch:
    return fill([ring * (size[1] / 100, size[0] / 100)], size)


def _ellipse(value: dict[str, Any]) -> partial[Patch]:
    x, y, rx, ry, degrees = (
        number(value.get(k, 0)) for k in ("x", "y", "radiusX", "radiusY", "rotation")
    )
    return partial(_round, x, y, rx, ry, degrees)


def _round(x: float, y: float, rx: float, ry: float, degrees: float, size: Size) -> Patch:
    height, width = size[0] / 100, size[1] / 100
    return fill([ellipse(x * width, y * height, rx * width, ry * height, degrees)], size)


def _rectangle(value: dict[str, Any]) -> partial[Patch]:
    x, y, width, height, degrees = (
        number(value.get(k, 0)) for k in ("x", "y", "width", "height", "rotation")
    )
    return partial(_boxed, x, y, width, height, degrees)


def _boxed(x: float, y: float, width: float, height: float, degrees: float, size: Size) -> Patch:
    down, right = size[0] / 100, size[1] / 100
    ring = box(x * right, y * down, (x + width) * right, (y + height) * down)
    around = (x * right, y * down)  # its upper left corner
    return fill([turned(ring, around, degrees)], size)


_DRAW = {"rle": _brush, "points": _polygon, "radiusX": _ellipse, "width": _rectangle}
"""What a region holds → how it is drawn."""

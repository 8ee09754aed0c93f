"""Reader of Segments.ai: a release file with polygons and boxes, or with bitmaps of object numbers beside the images.

Bitmaps are those that its SDK stores: NAME_label_ground-truth.png beside NAME, numbers of objects in red, green and
blue (little endian) or in one channel. Number 0 belongs to no object.

Source:
    SegmentsDataset and the release file of segments-ai/segments-ai.
"""

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hrseg.convert.base import Draw, ObjectList, Record, Source, errors_at, polygon, rectangle
from hrseg.convert.classes import SourceClasses, split_name
from hrseg.convert.coco import object_numbers
from hrseg.convert.files import Images, json_files, json_start, read_json, read_points, safe_name
from hrseg.errors import DataError, whole_number
from hrseg.labels import Color

_GROUND_TRUTH = "ground-truth"
_STEP = "Download the release file of the dataset again"


def recognizes(path: Path) -> bool:
    """Return whether this is a release file of Segments.ai, or a folder with one."""
    return len(_files(path)) == 1


def _files(path: Path) -> list[Path]:
    return [file for file in json_files(path) if _is_release(json_start(file))]


def _is_release(start: Any) -> bool:
    dataset = start.get("dataset") if isinstance(start, dict) else None
    return isinstance(dataset, dict) and {"task_type", "task_attributes"} <= {*dataset}


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read a release file, or its folder; images and bitmaps are by default beside the file or below."""
    file = next(iter(_files(path)), path)
    if file.is_dir():
        raise DataError(f"No release file in {path}. Give the .json file that Segments.ai made.")
    content = read_json(file)
    with errors_at(str(file), _STEP):
        dataset = content["dataset"]
        task = str(dataset["task_type"])
        categories = [dict(row) for row in dataset["task_attributes"]["categories"]]
        names = {row["id"]: str(row["name"]) for row in categories}
        samples = list(dataset["samples"])
        sets = [str(row["name"]) for row in dataset.get("labelsets") or ()]
    if "pointcloud" in task or "sequence" in task:
        raise DataError(f"{file} is a release of '{task}'. Images of 'segmentation-bitmap' or 'vector' can be read.")
    labelset = _GROUND_TRUTH if _GROUND_TRUTH in sets or not sets else sets[0]
    finder = Images(images, file.parent)
    source = Source({str(row["name"]): _color(row.get("color")) for row in categories})

    def read_sample(item: tuple[int, Any]) -> Record | None:
        index, sample = item
        where = f"{file.name}, sample {index}"
        with errors_at(where, _STEP):
            name, url = str(sample["name"]), str(sample["attributes"]["image"]["url"])
            label = (sample.get("labels") or {}).get(labelset)
            split = split_name(str((sample.get("metadata") or {}).get("split") or ""))
            if not label or label.get("label_status") == "SKIPPED":
                source.skipped["samples without a label"] += 1
                return None
            image, stem = finder.find(name, where, _path(url)), safe_name(name)
            rows = list(label["attributes"]["annotations"])
            bitmap = label["attributes"].get("segmentation_bitmap")
            raster, objects = None, ObjectList(where, source.skipped)
            if bitmap:
                stored = f"{stem}_label_{labelset}.png"
                mask = finder.find(stored, where, _path(str(bitmap.get("url"))))
                labels = {whole_number(row["id"]): names[row["category_id"]] for row in rows}
                raster = object_numbers(mask, {0: ""} | labels, where)  # 0 belongs to no object
            else:
                _read_objects(rows, names, objects)
            place = f"{where} ('{name}')"
            return Record(stem, image, place, split, objects=objects.objects, raster=raster)

    source.read_records(enumerate(samples, start=1), read_sample)
    return source


def _color(value: Any) -> Color | None:
    fits = isinstance(value, list) and all(isinstance(v, int) and 0 <= v < 256 for v in value[:3])
    return (value[0], value[1], value[2]) if fits and len(value) >= 3 else None


def _read_objects(rows: list[Any], names: dict[Any, str], objects: ObjectList) -> None:
    for index, row in enumerate(rows, start=1):
        if row.get("type") in ("point", "polyline"):
            objects.skipped[f"{row['type']}s"] += 1
        else:
            label = names.get(row.get("category_id"))
            objects.add(f"annotation {row.get('id', index)}", label, partial(_parse, row))


def _path(url: str) -> str:
    return unquote(urlsplit(url).path)


def _parse(row: dict[str, Any]) -> Draw:
    if row.get("type") == "polygon":
        return polygon(row["points"])
    if row.get("type") == "bbox":
        (x0, y0), (x1, y1) = read_points(row["points"], 2)[:2]
        return rectangle(x0, y0, x1, y1)
    raise ValueError(f"its type '{row.get('type')}' is unknown here")

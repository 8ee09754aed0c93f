"""Segments.ai: a release file with polygons and boxes, or with bitmaps of object numbers beside the images.

Bitmaps are those that its SDK stores: NAME_label_ground-truth.png beside NAME, numbers of objects in red, green and
blue (little endian) or in one channel. Number 0 belongs to no object.

Source:
    SegmentsDataset and the release file of segments-ai/segments-ai.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hrseg.convert.base import Color, LeftOut, Object, Objects, Record, Source, each, reading
from hrseg.convert.classes import Known, split_name
from hrseg.convert.coco import of_instances
from hrseg.convert.files import Images, corners, json_files, json_start, read_json, safe_name
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, box, fill

_GROUND_TRUTH = "ground-truth"
_STEP = "Download the release file of the dataset again"


def recognizes(path: Path) -> bool:
    """Say whether this is a release file of Segments.ai, or a folder with one."""
    return len(_files(path)) == 1


def _files(path: Path) -> list[Path]:
    return [file for file in json_files(path) if _is_release(json_start(file))]


def _is_release(start: Any) -> bool:
    dataset = start.get("dataset") if isinstance(start, dict) else None
    return isinstance(dataset, dict) and {"task_type", "task_attributes"} <= {*dataset}


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read a release of Segments.ai.

    Args:
        path: The release file, or its folder.
        images: Folder of the images (and bitmaps); None looks beside the file and below.
        classes: Not needed; a release names its categories.

    Raises:
        DataError: Something in it is wrong.
    """
    file = next(iter(_files(path)), path)
    if file.is_dir():
        raise DataError(f"No release file in {path}. Give the .json file that Segments.ai made.")
    content = read_json(file)
    with reading(str(file), _STEP):
        dataset = content["dataset"]
        task = str(dataset["task_type"])
        categories = [dict(row) for row in dataset["task_attributes"]["categories"]]
        names = {row["id"]: str(row["name"]) for row in categories}
        samples = list(dataset["samples"])
        sets = [str(row["name"]) for row in dataset.get("labelsets") or ()]
    if "pointcloud" in task or "sequence" in task:
        raise DataError(
            f"{file} is a release of '{task}'. Images of 'segmentation-bitmap' or 'vector' can be read."
        )
    colors = {str(row["name"]): _color(row.get("color")) for row in categories}
    release = _Release(
        file.name,
        names,
        _GROUND_TRUTH if _GROUND_TRUTH in sets or not sets else sets[0],
        Images([images] if images else [file.parent]),
        LeftOut(),
    )
    source = Source(colors, [], aside=release.aside)
    return replace(source, records=each(enumerate(samples, start=1), release.record, source.broken))


def _color(value: Any) -> Color | None:
    fits = isinstance(value, list) and all(isinstance(v, int) and 0 <= v < 256 for v in value[:3])
    return (value[0], value[1], value[2]) if fits and len(value) >= 3 else None


@dataclass(frozen=True)
class _Release:
    """What every sample of a release needs.

    Attributes:
        file: Name of the release file, for messages.
        names: Category id → name.
        labelset: Which labels are read.
        images: Finds the images and bitmaps.
        aside: Told what is left out.
    """

    file: str
    names: dict[Any, str]
    labelset: str
    images: Images
    aside: LeftOut

    def record(self, item: tuple[int, Any]) -> Record | None:
        """Read one sample; None where nobody labelled it.

        Raises:
            DataError: Something in it is wrong.
        """
        index, sample = item
        where = f"{self.file}, sample {index}"
        with reading(where, _STEP):
            name, url = str(sample["name"]), str(sample["attributes"]["image"]["url"])
            label = (sample.get("labels") or {}).get(self.labelset)
            split = split_name(str((sample.get("metadata") or {}).get("split") or ""))
            if not label or label.get("label_status") == "SKIPPED":
                self.aside["samples without a label"] += 1
                return None
            image = self.images.find(name, where, _path(url))
            record = Record(safe_name(name), image, f"{where} ('{name}')", split)
            rows = list(label["attributes"]["annotations"])
            bitmap = label["attributes"].get("segmentation_bitmap")
            if not bitmap:
                return replace(record, objects=self._objects(rows, where))
            stored = f"{record.name}_label_{self.labelset}.png"
            mask = self.images.find(stored, where, _path(str(bitmap.get("url"))))
            labels = {int(row["id"]): self.names[row["category_id"]] for row in rows}
            # 0 is no class: what belongs to no object
            return replace(record, raster=of_instances(mask, {0: ""} | labels, where))

    def _objects(self, rows: list[dict[str, Any]], where: str) -> list[Object]:
        objects = Objects(where, self.aside)
        for index, row in enumerate(rows, start=1):
            if row.get("type") in ("point", "polyline"):
                self.aside[f"{row['type']}s"] += 1
            else:
                label = self.names.get(row.get("category_id"))
                objects.add(f"annotation {row.get('id', index)}", label, partial(_draw, row))
        return objects.found


def _path(url: str) -> str:
    return unquote(urlsplit(url).path)


def _draw(row: dict[str, Any]) -> partial[Patch]:
    if row.get("type") == "polygon":
        return partial(fill, [corners(row["points"])])
    if row.get("type") == "bbox":
        (x0, y0), (x1, y1) = corners(row["points"], 2)[:2]
        return partial(fill, [box(x0, y0, x1, y1)])
    raise ValueError(f"its type '{row.get('type')}' is unknown here")

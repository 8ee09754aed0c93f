"""Reader of run lengths in a CSV file, as in contests on Kaggle: image, optional class, "start length start length …".

Starts count from 1 down the columns, or along the rows in contests with certain column names. An image of which no
line has runs is all background. There is no painting order, so smaller objects cover larger ones.

Source:
    Data pages and files of Airbus Ship Detection, Severstal, Understanding Clouds, Carvana, TGS Salt, DSB 2018,
    HuBMAP, iMaterialist (down the columns), UW-Madison GI Tract and Sartorius Cells (along the rows).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from hrseg.convert.attributes import OBJECT, UNNAMED, class_of, normalized, read_header, read_rows
from hrseg.convert.base import ObjectList, Record, Skipped, Source, data_error, errors_at
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import Images, read_number, safe_name
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Size, place

_STEP = "Mend the line, or download the file again"
_JOINED = ("imageidclassid", "imagelabel")
_IMAGES = ("imageid", "id", "img", "imgid", "image", "imagename", "filename", *_JOINED)
_RUNS: dict[str, Literal["F", "C"]] = {
    **{"encodedpixels": "F", "rlemask": "F", "maskrle": "F", "rle": "F", "encoding": "F"},
    **{"annotation": "C", "segmentation": "C"},
}
"""Column of the runs, normalized → whether they go down the columns (F) or along the rows (C)."""
_CLASSES = ("classid", "class", "classname", "label", "category", "celltype")
_NOTHING = ("", "-1", "nan")


def recognizes(path: Path) -> bool:
    """Return whether this is a CSV file of run lengths, or a folder with one."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the CSV file, or the folder with it; `classes` names numbers, which are otherwise "class 3"."""
    files = _files(path)
    if len(files) != 1:
        raise DataError(
            f"{path} holds {'several' if files else 'no'} CSV files of run lengths"
            f"{': ' * bool(files)}{', '.join(p.name for p in files)}. Give one with a column ImageId or id, and one of "
            f"{', '.join(_RUNS)}."
        )
    file, rows = files[0], read_rows(files[0])
    columns = _columns(rows[0]) if rows else Columns("", "", None, {})
    by_image: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for line, row in enumerate(rows, start=2):
        by_image.setdefault(columns.image_of(row), []).append((f"line {line}", row))
    finder = Images(images, file.parent)
    source = Source(order="area")

    def read_image(name: str) -> Record:
        place = f"{file.name}, image '{name}'"
        if not name:
            raise data_error(f"{file.name}, {by_image[''][0][0]}", "it names no image", _STEP)
        objects = ObjectList(place, Skipped())
        sizes = set()
        for where, row in by_image[name]:
            text = (row[columns.runs] or "").strip()
            if text.lower() in _NOTHING:
                continue
            with errors_at(f"{file.name}, {where}", _STEP):
                label = columns.class_of(row, classes)
                sizes.add(columns.size_of(row))
            objects.add(where, label, partial(partial, _draw_runs, text, columns.order))
        size = sizes.pop() if len(sizes) == 1 else None
        image = finder.find(name, place)
        return Record(safe_name(name), image, place, size=size, objects=objects.objects)

    source.read_records(by_image, read_image)
    direction = "down the columns" if columns.order == "F" else "along the rows"
    order = f"The run lengths of column '{columns.runs}' were taken to go {direction}."
    source.notes = (order, *(UNNAMED,) * (columns.label is None))
    return source.add_labels(classes.names if classes else ())


@dataclass(frozen=True)
class Columns:
    """Meaning of the columns of a file.

    Attributes:
        image: Column of the image; ImageId_ClassId holds the class too.
        runs: Column of the run lengths.
        label: Column of the class.
        names: Normalized name of a column → column.
    """

    image: str
    runs: str
    label: str | None
    names: Mapping[str, str]

    @property
    def order(self) -> Literal["F", "C"]:
        """Whether runs go down the columns or along the rows."""
        return _RUNS.get(normalized(self.runs), "F")

    def image_of(self, row: Mapping[str, str]) -> str:
        """Return the image of a line."""
        value = (row[self.image] or "").strip()
        return value.rpartition("_")[0] if self.image == self.label else value

    def class_of(self, row: Mapping[str, str], classes: SourceClasses | None) -> str | None:
        """Return the class of a line.

        Raises:
            ValueError: The table lacks its number.
        """
        if self.label is None:
            return OBJECT
        value = (row[self.label] or "").strip()
        value = value.rpartition("_")[2] if self.image == self.label else value
        # iMaterialist appends attributes to the number of the class: 31_5_12
        return class_of(value.partition("_")[0] if value[:1].isdecimal() else value, classes)

    def size_of(self, row: Mapping[str, str]) -> Size | None:
        """Return (height, width) of a line, or None.

        Raises:
            ValueError: They are no numbers.
        """
        for prefix in ("", "img", "image"):
            keys = [self.names.get(f"{prefix}{side}") for side in ("height", "width")]
            height, width = (row[key] if key else "" for key in keys)
            if height and width:
                return int(read_number(height)), int(read_number(width))
        return None


def _columns(row: Mapping[str, str]) -> Columns:
    names = {normalized(key): key for key in row}
    image, runs, label = (
        next((names[key] for key in keys if key in names), None) for keys in (_IMAGES, _RUNS, _CLASSES)
    )
    joined = image is not None and normalized(image) in _JOINED
    return Columns(image or "", runs or "", image if joined else label, names)


def _files(path: Path) -> list[Path]:
    """Return the CSV files of runs; sample submissions are none."""
    candidates = [path] if path.is_file() else sorted(path.glob("*.csv"))
    found = []
    for file in candidates:
        columns = read_header(file)
        if set(columns) & set(_IMAGES) and set(columns) & set(_RUNS):
            found.append(file)
    return [p for p in found if "submission" not in p.name.lower()] if path.is_dir() else found


def _draw_runs(text: str, order: Literal["F", "C"], size: Size) -> Patch:
    return place(decode(text, order, size), 0, 0, size)


def decode(text: str, order: Literal["F", "C"], size: Size) -> np.ndarray:
    """Read "start length start length …", starts from 1. Shape: → bool (H, W).

    Args:
        text: The runs.
        order: "F" down the columns, "C" along the rows.
        size: (height, width).

    Raises:
        ValueError: They are no runs, overlap, go backwards, or run out of the image.

    Example:
        >>> decode("1 2 4 1", "F", (2, 2)).astype(int).tolist()
        [[1, 0], [1, 1]]
    """
    try:
        numbers = np.array([int(word) for word in text.split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"its run lengths '{text[:20]}' are no whole numbers") from error
    if numbers.size % 2:
        raise ValueError(f"it has {numbers.size} numbers, which are no pairs of start and length")
    starts, lengths = numbers[::2] - 1, numbers[1::2]  # starts count from 1
    total = size[0] * size[1]
    if (lengths < 1).any() or (starts < 0).any() or (lengths > total - starts).any():
        raise ValueError(f"a run of it is outside the {size[0]}x{size[1]} pixels (height x width) of its image")
    ends = starts + lengths
    if (starts[1:] < ends[:-1]).any():
        raise ValueError("its runs overlap or go backwards, so that they are encoded in another way")
    flips = np.zeros(total + 1, dtype=np.int8)  # 1 where a run starts, -1 behind it
    flips[starts] += 1
    flips[ends] -= 1
    inside = np.cumsum(flips[:-1], dtype=np.int8).astype(bool)
    return inside.reshape(size, order=order)

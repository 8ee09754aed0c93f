"""Run lengths in a CSV file, as in contests on Kaggle: an image, perhaps a class, and "start length start length …".

Starts count from 1 down the columns, or along the rows in the contests whose column says so. An image of which no
line has runs is all background. Nothing says what lies on top, so smaller objects are drawn over larger ones.

Source:
    Data pages and files of Airbus Ship Detection, Severstal, Understanding Clouds, Carvana, TGS Salt, DSB 2018,
    HuBMAP, iMaterialist (down the columns), UW-Madison GI Tract and Sartorius Cells (along the rows).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from hrseg.convert.attributes import (
    OBJECT,
    UNNAMED,
    class_of,
    class_order,
    header,
    plain,
    read_rows,
)
from hrseg.convert.base import LeftOut, Objects, Record, Source, each, problem
from hrseg.convert.classes import Known
from hrseg.convert.files import Images, number, safe_name
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Size, place

_STEP = "Mend the line, or download the file again"
_JOINED = ("imageidclassid", "imagelabel")
_IMAGES = ("imageid", "id", "img", "imgid", "image", "imagename", "filename", *_JOINED)
_RUNS: dict[str, Literal["F", "C"]] = {
    **{"encodedpixels": "F", "rlemask": "F", "maskrle": "F", "rle": "F", "encoding": "F"},
    **{"annotation": "C", "segmentation": "C"},
}
"""Column of the runs, as a plain word → whether they go down the columns (F) or along the rows (C)."""
_CLASSES = ("classid", "class", "classname", "label", "category", "celltype")
_NOTHING = ("", "-1", "nan")


def recognizes(path: Path) -> bool:
    """Say whether this is a CSV file of run lengths, or a folder with one."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read a CSV file of run lengths.

    Args:
        path: The file, or the folder with it.
        images: Folder of the images; None looks in the folder of the file and everything below.
        classes: What numbers of classes mean; None calls 3 "class 3".

    Raises:
        DataError: Something in it is wrong.
    """
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
        name = columns.image_of(row)
        by_image.setdefault(name, []).append((f"line {line}", row))
    finder = Images([images] if images else [file.parent])
    source = Source({}, [], order="area", aside=LeftOut())

    def make(name: str) -> Record:
        place = f"{file.name}, image '{name}'"
        if not name:
            raise problem(f"{file.name}, {by_image[''][0][0]}", "it names no image", _STEP)
        objects = Objects(place, LeftOut())
        sizes = set()
        for where, row in by_image[name]:
            text = (row[columns.runs] or "").strip()
            if text.lower() in _NOTHING:
                continue
            try:
                label = columns.class_of(row, classes)
                sizes.add(columns.size_of(row))
            except ValueError as error:
                raise problem(f"{file.name}, {where}", str(error), _STEP) from error
            objects.add(where, label, partial(partial, _drawn, text, columns.order))
        size = sizes.pop() if len(sizes) == 1 else None
        return Record(
            safe_name(name), finder.find(name, place), place, size=size, objects=objects.found
        )

    records = each(by_image, make, source.broken)
    way = "down the columns" if columns.order == "F" else "along the rows"
    said = f"The run lengths of column '{columns.runs}' were taken to go {way}."
    notes = (said, *(UNNAMED,) * (columns.label is None))
    return replace(source, classes=class_order(records, classes), records=records, notes=notes)


@dataclass(frozen=True)
class Columns:
    """What the columns of a file hold.

    Attributes:
        image: Column of the image; ImageId_ClassId holds the class too.
        runs: Column of the run lengths.
        label: Column of the class.
        words: Plain word of a column → column.
    """

    image: str
    runs: str
    label: str | None
    words: Mapping[str, str]

    @property
    def order(self) -> Literal["F", "C"]:
        """Whether runs go down the columns or along the rows."""
        return _RUNS.get(plain(self.runs), "F")

    def image_of(self, row: Mapping[str, str]) -> str:
        """Return the image of a line."""
        value = (row[self.image] or "").strip()
        return value.rpartition("_")[0] if self.image == self.label else value

    def class_of(self, row: Mapping[str, str], classes: Known | None) -> str | None:
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
        """Return (height, width) that a line says, or None.

        Raises:
            ValueError: They are no numbers.
        """
        for prefix in ("", "img", "image"):
            keys = [self.words.get(f"{prefix}{side}") for side in ("height", "width")]
            height, width = (row[key] if key else "" for key in keys)
            if height and width:
                return int(number(height)), int(number(width))
        return None


def _columns(row: Mapping[str, str]) -> Columns:
    words = {plain(key): key for key in row}
    image, runs, label = (
        next((words[key] for key in keys if key in words), None)
        for keys in (_IMAGES, _RUNS, _CLASSES)
    )
    joined = image is not None and plain(image) in _JOINED
    return Columns(image or "", runs or "", image if joined else label, words)


def _files(path: Path) -> list[Path]:
    """Return the CSV files of runs; samples of how to hand in results are none."""
    candidates = [path] if path.is_file() else sorted(path.glob("*.csv"))
    found = []
    for file in candidates:
        columns = header(file)
        if set(columns) & set(_IMAGES) and set(columns) & set(_RUNS):
            found.append(file)
    return [p for p in found if "submission" not in p.name.lower()] if path.is_dir() else found


def _drawn(text: str, order: Literal["F", "C"], size: Size) -> Patch:
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
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    total = size[0] * size[1]
    if (lengths < 1).any() or (starts < 0).any() or (lengths > total - starts).any():
        raise ValueError(
            f"a run of it lies outside the {size[0]}x{size[1]} pixels (height x width) of its image"
        )
    ends = starts + lengths
    if (starts[1:] < ends[:-1]).any():
        raise ValueError(
            "its runs overlap or go backwards, so that they are encoded in another way"
        )
    flips = np.zeros(total + 1, dtype=np.int8)
    flips[starts] += 1
    flips[ends] -= 1
    inside = np.cumsum(flips[:-1], dtype=np.int8).astype(bool)
    return inside.reshape(size, order=order)

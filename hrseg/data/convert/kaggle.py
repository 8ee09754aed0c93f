"""Run lengths in a CSV file, as in contests on Kaggle: an image, perhaps a class, and "start length start length …".

Starts count from 1 down the columns, or along the rows in the contests whose column says so. An image of which no
line has runs is all background. Nothing says what lies on top, so smaller objects are drawn over larger ones.

Source:
    Data pages and files of Airbus Ship Detection, Severstal, Understanding Clouds, Carvana, TGS Salt, DSB 2018,
    HuBMAP, iMaterialist (down the columns), UW-Madison GI Tract and Sartorius Cells (along the rows).
"""

from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from hrseg.data.convert.attributes import OBJECT, UNNAMED, class_of, header, read_rows
from hrseg.data.convert.files import Images, number, safe_name
from hrseg.data.convert.known import Known
from hrseg.data.convert.parts import Object, Record, Source, problem
from hrseg.data.convert.polygons import Patch, Size, place
from hrseg.errors import DataError

_IMAGES = ("imageid", "id", "img", "image", "imageid_classid", "image_label")
_RUNS = {"encodedpixels": "F", "rle_mask": "F", "rle": "F", "encoding": "F"} | {
    "annotation": "C",
    "segmentation": "C",
}
"""Column of the runs → whether they go down the columns (F) or along the rows (C)."""
_CLASSES = ("classid", "class", "label", "cell_type")
_NOTHING = ("", "-1", "nan")


def recognises(path: Path) -> bool:
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
    lower = {key.lower(): key for key in rows[0]} if rows else {}
    image_key = next((lower[key] for key in _IMAGES if key in lower), "")
    runs_key = next((lower[key] for key in _RUNS if key in lower), "")
    class_key = next((lower[key] for key in _CLASSES if key in lower), None)
    joined = image_key.lower() in ("imageid_classid", "image_label")
    order = _RUNS.get(runs_key.lower(), "F")
    found: dict[str, list[Object]] = defaultdict(list)
    sizes: dict[str, Size] = {}
    for line, row in enumerate(rows, start=2):
        where = f"{file.name}, line {line}"
        name, _, label = row[image_key].rpartition("_") if joined else (row[image_key], "", "")
        if not name:
            raise problem(where, "it names no image", "Download the file again, or remove the line")
        objects = found[name]
        text = (row[runs_key] or "").strip()
        if text.lower() in _NOTHING:
            continue
        value = label if joined else row[class_key] if class_key else OBJECT
        try:
            sizes |= {name: size} if (size := _size(row, lower)) else {}
            # iMaterialist appends attributes to the number of the class: 31_5_12
            known = class_of(value.partition("_")[0] if value[:1].isdecimal() else value, classes)
            if known is None:
                raise ValueError("it names no class")
        except ValueError as error:
            raise problem(where, str(error), "Mend the line") from error
        objects.append(Object(known, partial(_drawn, text, order), f"line {line}"))
    finder = Images([images] if images else [file.parent])
    records = [
        Record(
            safe_name(name),
            finder.find(name, f"{file.name}, image '{name}'"),
            f"{file.name}, image '{name}'",
            size=sizes.get(name),
            objects=objects,
        )
        for name, objects in found.items()
    ]
    used = sorted({item.label for record in records for item in record.objects})
    way = "down the columns" if order == "F" else "along the rows"
    notes = (f"The run lengths of column '{runs_key}' were taken to go {way}.",)
    return Source(
        dict.fromkeys([*(classes.names if classes else ()), *used]),
        records,
        order="area",
        aside=Counter(),
        notes=notes + (UNNAMED,) * (class_key is None and not joined),
    )


def _files(path: Path) -> list[Path]:
    """Return the CSV files of runs; samples of how to hand in results are none."""
    candidates = [path] if path.is_file() else sorted(path.glob("*.csv"))
    found = []
    for file in candidates:
        columns = header(file)
        if set(columns) & set(_IMAGES) and set(columns) & set(_RUNS):
            found.append(file)
    return [p for p in found if "submission" not in p.name.lower()] if path.is_dir() else found


def _size(row: dict[str, str], lower: dict[str, str]) -> Size | None:
    for prefix in ("", "img_", "image_"):
        keys = [lower.get(f"{prefix}{side}") for side in ("height", "width")]
        if keys[0] and keys[1] and row[keys[0]] and row[keys[1]]:
            return int(number(row[keys[0]])), int(number(row[keys[1]]))
    return None


def _drawn(text: str, order: str, size: Size) -> Patch:
    return place(decode(text, order, size), 0, 0, size)


def decode(text: str, order: str, size: Size) -> np.ndarray:
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
        raise ValueError("its runs overlap or go backwards, so that they are encoded in another way")
    flips = np.zeros(total + 1, dtype=np.int8)
    flips[starts] += 1
    flips[ends] -= 1
    return np.cumsum(flips[:-1], dtype=np.int8).astype(bool).reshape(size, order=order)  # type: ignore[call-overload,no-any-return]

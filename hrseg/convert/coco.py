"""COCO: instances with polygons and run lengths, and panoptic annotations with PNG files.

Several polygons of one object are joined, and COCO has no holes but in run lengths. Nothing says what lies on top,
so smaller objects are drawn over larger ones, and crowds under both. In panoptic PNG files 0 has no class.

Source:
    The data format of cocodataset.org. Its own tool draws polygons on a grid of fifths of pixels: the border may
    differ from ours by a pixel.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.convert.base import (
    MEND,
    LeftOut,
    Objects,
    Order,
    Raster,
    Record,
    Source,
    each,
    packed,
    problem,
    reading,
)
from hrseg.convert.classes import Known, known_split
from hrseg.convert.files import Images, json_files, json_start, read_json, safe_name
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Size, place, union
from hrseg.imaging.rle import coco_counts, from_coco

_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_")
_PARTS = {"images": "file_name", "annotations": "image_id", "categories": "name"}
"""The lists of a COCO file, and what each of their rows has."""
VOID = "void"


def recognizes(path: Path) -> bool:
    """Say whether this is a COCO file, or a folder with some."""
    return bool(_files(path))


def is_coco(file: Path) -> bool:
    """Say whether a file begins as COCO's do: with lists, and in their rows what COCO's rows have."""
    start = json_start(file)
    lists = {k: start.get(k) for k in _PARTS} if isinstance(start, dict) else {}
    if file.stat().st_size < 1 << 16 and not all(isinstance(v, list) for v in lists.values()):
        return False
    firsts = [(v[0], _PARTS[k]) for k, v in lists.items() if isinstance(v, list) and v]
    rows = [(row, word) for row, word in firsts if isinstance(row, dict)]
    return any(word in row for row, word in rows) and not any("caption" in row for row, _ in rows)


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read COCO files.

    Args:
        path: A JSON file; or a folder with annotations/*.json, or with one in each split's folder.
        images: Folder of the images; None looks around the file.
        classes: Not needed; COCO names its categories.

    Raises:
        DataError: Something in it is wrong.
    """
    files = json_files(path) if path.is_file() else _files(path)
    if not files:
        raise DataError(
            f"No COCO file in {path}. Give the .json file, or a folder with annotations/ or "
            "train/_annotations.coco.json."
        )
    found: dict[str, int] = {}
    records: list[Record] = []
    source = Source({}, records, aside=LeftOut())
    panoptic = False
    for file in files:
        content = read_json(file)
        lacks = [k for k in _PARTS if not isinstance(content, dict) or k not in content]
        if lacks or any(not isinstance(content[k], list) for k in _PARTS):
            what = f"it lacks '{lacks[0]}'" if lacks else "'images' or the like is no list"
            raise problem(str(file), f"{what}, so it is no COCO file", "Give another to --from")
        names = _categories(content, file)
        found |= {name: number for number, name in names.items() if name not in found}
        bases = [file.parent, file.parent.parent]
        around = [bases[0], *(base / "images" for base in bases), bases[1]]
        named = [base / file.stem.rpartition("_")[2] for base in around]  # such as train2017
        finder = Images([images] if images else [*named, *around])
        panoptic = any(
            "segments_info" in a for a in content["annotations"][:1] if isinstance(a, dict)
        )
        make = _panoptic if panoptic else _instances
        found_here = make(content, names, file, finder, source)
        below = file.relative_to(path).parts[:-1] if path.is_dir() else ()
        split = known_split(file.stem.rpartition("_")[2], *below)
        records += [replace(record, split=split) for record in found_here]
    ordered = sorted(found, key=lambda name: found[name])
    order: Order = "file" if panoptic else "area"
    ignored = frozenset({VOID} - set(found) if panoptic else ())
    return replace(
        source, classes=dict.fromkeys(ordered), order=order, ignored=ignored, covers=panoptic
    )


def _files(path: Path) -> list[Path]:
    """Find COCO files: a file, or those in annotations/, in the folder, or in the folders of splits."""
    if path.is_file():
        return [file for file in json_files(path) if is_coco(file)]
    for below in ("annotations/*.json", "*.json", "*/*.json", "*/annotations/*.json"):
        found = [file for file in json_files(path, below) if is_coco(file)]
        plain = [file for file in found if not file.name.startswith(_OTHER_TASKS)]
        for kind in ("instances_", "panoptic_"):
            plain = [file for file in plain if file.name.startswith(kind)] or plain
        if found:
            return plain or found
    return []


def _categories(content: dict[str, Any], file: Path) -> dict[int, str]:
    """Return id → name. Rows that only head the others, as Roboflow's first, are no classes."""
    found: dict[int, str] = {}
    for row in content["categories"]:
        if not isinstance(row, dict) or not isinstance(row.get("id"), int) or not row.get("name"):
            raise problem(f"{file.name}, category {row!r}", "it has no id and name", "Mend it")
        if found.setdefault(row["id"], str(row["name"])) != str(row["name"]):
            raise problem(f"{file.name}, category {row['id']}", "its id stands twice", "Mend it")
    rows = [a for a in content["annotations"] if isinstance(a, dict)]
    used = {a["category_id"] for a in rows if isinstance(a.get("category_id"), int)}
    heads = {str(r.get("supercategory")) for r in content["categories"] if r["id"] in used}
    return {i: name for i, name in found.items() if i in used or name not in heads}


def _image(row: Any, file: Path) -> tuple[str, Size | None]:
    """Return an image's name and, where the file says it, its size."""
    what = f"image {row.get('id')}" if isinstance(row, dict) else f"image {row!r}"
    with reading(f"{file.name}, {what}", "Mend it"):
        sides = row.get("height"), row.get("width")
        size = None if None in sides else (int(sides[0]), int(sides[1]))
        return str(row["file_name"]), size


def _by_id(rows: list[Any]) -> dict[Any, Any]:
    return {
        row["id"] if isinstance(row, dict) and isinstance(row.get("id"), int | str) else -i: row
        for i, row in enumerate(rows, start=1)
    }


def _instances(
    content: dict[str, Any], names: dict[int, str], file: Path, finder: Images, source: Source
) -> list[Record]:
    images = _by_id(content["images"])
    rows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for index, row in enumerate(content["annotations"], start=1):
        number = row.get("image_id") if isinstance(row, dict) else None
        if isinstance(number, int | str) and number in images:
            rows[number].append(row)
        else:
            what = row.get("id") if isinstance(row, dict) else f"in place {index}"
            source.aside.name("annotations of no image", f"{file.name}, annotation {what}")

    def make(number: Any) -> Record:
        name, size = _image(images[number], file)
        where = f"{file.name}, image '{name}'"
        objects = Objects(where, source.aside)
        for row in rows[number]:
            what = f"annotation {row.get('id')}"
            if not row.get("segmentation"):
                kind = "objects with a box only" if "bbox" in row else "rows without an outline"
                source.aside[kind] += 1
                continue
            category = row.get("category_id")
            if not isinstance(category, int) or category not in names:
                raise problem(f"{where}, {what}", f"there is no category {category!r}", MEND)
            draw = partial(_region, row["segmentation"], size, objects, what)
            crowd = bool(row.get("iscrowd"))
            objects.add(what, names[category], draw, depth=-crowd, crowd=crowd)
        image = finder.find(name, f"{file.name}, image {number}")
        return Record(safe_name(name), image, where, size=size, objects=objects.found)

    return each(images, make, source.broken)


def _region(segmentation: Any, size: Size | None, objects: Objects, what: str) -> partial[Patch]:
    if isinstance(segmentation, list):
        return partial(union, objects.rings(segmentation, what))
    return run_lengths(segmentation, size)


def run_lengths(rle: Any, size: Size | None = None) -> partial[Patch]:
    """Read an object of COCO's run lengths, with counts as a string or a list.

    Raises:
        ValueError: It is damaged, or for another size than the image's.
    """
    if not isinstance(rle, dict):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    said = rle.get("size")
    if size is not None and (not isinstance(said, list) or said != list(size)):
        raise ValueError(f"its run lengths are for size {said}, and its image has {list(size)}")
    counts = rle.get("counts")
    if isinstance(counts, str):
        coco_counts(counts)  # a damaged string is named now, with its annotation
    elif not isinstance(counts, list) or not all(isinstance(count, int) for count in counts):
        raise ValueError("its counts are neither a string nor whole numbers")
    return partial(_decoded, counts)


def _decoded(counts: str | list[int], size: Size) -> Patch:
    return place(from_coco(counts, size), 0, 0, size)


def _panoptic(
    content: dict[str, Any], names: dict[int, str], file: Path, finder: Images, source: Source
) -> list[Record]:
    images = _by_id(content["images"])

    def make(row: Any) -> Record:
        with reading(f"{file.name}, an annotation", MEND):
            name, size = _image(images[row["image_id"]], file)
            segments = {int(s["id"]): names[s["category_id"]] for s in row["segments_info"]}
            png = str(row["file_name"])
        where = f"{file.name}, annotation of '{name}'"
        mask = Images([file.parent / file.stem, file.parent]).find(png, where)
        raster = of_instances(mask, {0: VOID} | segments, where)
        image = finder.find(name, where)
        return Record(safe_name(name), image, where, size=size, raster=raster)

    records = each(content["annotations"], make, source.broken)
    source.aside["images without an annotation"] += len(images) - len(content["annotations"])
    return records


def of_instances(mask: Path, labels: dict[int, str], where: str) -> Raster:
    """Return a mask of object numbers to be read: of one channel, or R + 256 G + 65536 B."""
    by_color = {packed((n & 255, n >> 8 & 255, n >> 16)): label for n, label in labels.items()}
    return Raster(mask, labels, by_color, where)

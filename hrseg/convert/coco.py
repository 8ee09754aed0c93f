"""Reader of COCO: instances with polygons and run lengths, and panoptic annotations with PNG files.

Several polygons of one object are joined, and COCO has no holes but in run lengths. The format has no painting order,
so smaller objects cover larger ones, and both cover crowds. In panoptic PNG files 0 has no class.

Source:
    The data format of cocodataset.org. Its own tool draws polygons on a grid of fifths of pixels: the border may
    differ from ours by a pixel.
"""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.convert.base import (
    FIX,
    Draw,
    ObjectList,
    Raster,
    Record,
    Source,
    color_code,
    data_error,
    errors_at,
)
from hrseg.convert.classes import SourceClasses, standard_split
from hrseg.convert.files import Images, json_files, json_start, read_json, safe_name
from hrseg.errors import DataError, whole_number
from hrseg.imaging.polygons import Patch, Size, place, union
from hrseg.imaging.rle import coco_counts, from_coco

_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_")
_LISTS = {"images": "file_name", "annotations": "image_id", "categories": "name"}
"""The lists of a COCO file, and what each of their rows has."""
VOID = "void"
Names = dict[int, str]
"""Category id → name."""


def recognizes(path: Path) -> bool:
    """Return whether this is a COCO file, or a folder with some."""
    return bool(_files(path))


def is_coco(file: Path) -> bool:
    """Return whether a file begins as COCO's do: with lists, and in their rows what COCO's rows have."""
    start = json_start(file)
    lists = {k: start.get(k) for k in _LISTS} if isinstance(start, dict) else {}
    if file.stat().st_size < 1 << 16 and not all(isinstance(v, list) for v in lists.values()):
        return False
    firsts = [(v[0], _LISTS[k]) for k, v in lists.items() if isinstance(v, list) and v]
    rows = [(row, word) for row, word in firsts if isinstance(row, dict)]
    return any(word in row for row, word in rows) and not any("caption" in row for row, _ in rows)


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read a JSON file, or a folder with annotations/*.json or with one in each split's folder."""
    files = json_files(path) if path.is_file() else _files(path)
    if not files:
        raise DataError(
            f"No COCO file in {path}. Give the .json file, or a folder with annotations/ or "
            "train/_annotations.coco.json."
        )
    found: dict[str, int] = {}
    source = Source(order="area")
    for file in files:
        content = read_json(file)
        missing = [k for k in _LISTS if not isinstance(content, dict) or k not in content]
        if missing or any(not isinstance(content[k], list) for k in _LISTS):
            what = f"it lacks '{missing[0]}'" if missing else "'images' or the like is no list"
            raise data_error(str(file), f"{what}, so it is no COCO file", "Give another to --from")
        names = _categories(content, file)
        found |= {name: number for number, name in names.items() if name not in found}
        bases = [file.parent, file.parent.parent]
        around = [bases[0], *(base / "images" for base in bases), bases[1]]
        word = file.stem.rpartition("_")[2]  # such as train2017
        finder = Images(images, *(base / word for base in around), *around)
        rows = content["annotations"]
        panoptic = any("segments_info" in row for row in rows[:1] if isinstance(row, dict))
        below = file.relative_to(path).parts[:-1] if path.is_dir() else ()
        read_file = _read_panoptic if panoptic else _read_instances
        read_file(content, names, file, finder, standard_split(word, *below), source)
    if panoptic:
        source.order, source.covers = "file", True
        source.ignored = frozenset({VOID} - set(found))
    source.classes = dict.fromkeys(sorted(found, key=lambda name: found[name]))
    return source


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
    """Return id → name. Rows that are only supercategories, as Roboflow's first, are no classes."""
    found: dict[int, str] = {}
    for row in content["categories"]:
        if not isinstance(row, dict) or not isinstance(row.get("id"), int) or not row.get("name"):
            raise data_error(f"{file.name}, category {row!r}", "it has no id and name", "Mend it")
        if found.setdefault(row["id"], str(row["name"])) != str(row["name"]):
            raise data_error(f"{file.name}, category {row['id']}", "its id stands twice", "Mend it")
    rows = [a for a in content["annotations"] if isinstance(a, dict)]
    used = {a["category_id"] for a in rows if isinstance(a.get("category_id"), int)}
    parents = {str(r.get("supercategory")) for r in content["categories"] if r["id"] in used}
    return {i: name for i, name in found.items() if i in used or name not in parents}


def _image(row: Any, file: Path) -> tuple[str, Size | None]:
    """Return an image's name and, where the file gives it, its size."""
    what = f"image {row.get('id')}" if isinstance(row, dict) else f"image {row!r}"
    with errors_at(f"{file.name}, {what}", "Mend it"):
        sides = row.get("height"), row.get("width")
        size = None if None in sides else (int(sides[0]), int(sides[1]))
        return str(row["file_name"]), size


def _by_id(rows: list[Any]) -> dict[Any, Any]:
    return {
        row["id"] if isinstance(row, dict) and isinstance(row.get("id"), int | str) else -i: row
        for i, row in enumerate(rows, start=1)
    }


def _read_instances(
    content: dict[str, Any], names: Names, file: Path, finder: Images, split: str, source: Source
) -> None:
    images = _by_id(content["images"])
    rows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for index, row in enumerate(content["annotations"], start=1):
        number = row.get("image_id") if isinstance(row, dict) else None
        if isinstance(number, int | str) and number in images:
            rows[number].append(row)
        else:
            what = row.get("id") if isinstance(row, dict) else f"in place {index}"
            source.skipped.add("annotations of no image", f"{file.name}, annotation {what}")

    def read_image(number: Any) -> Record:
        name, size = _image(images[number], file)
        where = f"{file.name}, image '{name}'"
        objects = ObjectList(where, source.skipped)
        for row in rows[number]:
            what = f"annotation {row.get('id')}"
            if not row.get("segmentation"):
                kind = "objects with a box only" if "bbox" in row else "rows without an outline"
                source.skipped[kind] += 1
                continue
            category = row.get("category_id")
            if not isinstance(category, int) or category not in names:
                raise data_error(f"{where}, {what}", f"there is no category {category!r}", FIX)
            parse = partial(_region, row["segmentation"], size, objects, what)
            crowd = bool(row.get("iscrowd"))
            objects.add(what, names[category], parse, depth=-crowd, crowd=crowd)
        image = finder.find(name, f"{file.name}, image {number}")
        return Record(safe_name(name), image, where, split, size, objects=objects.objects)

    source.read_records(images, read_image)


def _region(segmentation: Any, size: Size | None, objects: ObjectList, what: str) -> Draw:
    if isinstance(segmentation, list):
        return partial(union, objects.read_rings(segmentation, what))
    return run_lengths(segmentation, size)


def run_lengths(rle: Any, size: Size | None = None) -> Draw:
    """Read an object of COCO's run lengths, with counts as a string or a list.

    Raises:
        ValueError: It is damaged, or for another size than the image's.
    """
    if not isinstance(rle, dict):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    rle_size = rle.get("size")
    if size is not None and rle_size != list(size):
        raise ValueError(f"its run lengths are for size {rle_size}, and its image has {list(size)}")
    counts = rle.get("counts")
    if isinstance(counts, str):
        coco_counts(counts)  # a damaged string is named now, with its annotation
    elif not isinstance(counts, list) or not all(isinstance(count, int) for count in counts):
        raise ValueError("its counts are neither a string nor whole numbers")
    return partial(_draw_runs, counts)


def _draw_runs(counts: str | list[int], size: Size) -> Patch:
    return place(from_coco(counts, size), 0, 0, size)


def _read_panoptic(
    content: dict[str, Any], names: Names, file: Path, finder: Images, split: str, source: Source
) -> None:
    images = _by_id(content["images"])

    def read_row(row: Any) -> Record:
        with errors_at(f"{file.name}, an annotation", FIX):
            name, size = _image(images[row["image_id"]], file)
            segments = {whole_number(s["id"]): names[s["category_id"]] for s in row["segments_info"]}
            png = str(row["file_name"])
        where = f"{file.name}, annotation of '{name}'"
        mask = Images(None, file.parent / file.stem, file.parent).find(png, where)
        raster = object_numbers(mask, {0: VOID} | segments, where)
        image = finder.find(name, where)
        return Record(safe_name(name), image, where, split, size, raster=raster)

    source.read_records(content["annotations"], read_row)
    source.skipped["images without an annotation"] += len(images) - len(content["annotations"])


def object_numbers(mask: Path, labels: dict[int, str], where: str) -> Raster:
    """Return a mask of object numbers: of one channel, or R + 256 G + 65536 B."""
    by_color = {color_code((n & 255, n >> 8 & 255, n >> 16)): label for n, label in labels.items()}
    return Raster(mask, labels, by_color, where)

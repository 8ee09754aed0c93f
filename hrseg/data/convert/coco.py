"""COCO: instances with polygons and run lengths, and panoptic annotations with PNG files.

Several polygons of one object are joined, and COCO has no holes but in run lengths. Nothing says what lies on top,
so smaller objects are drawn over larger ones, and crowds under both. In panoptic PNG files 0 has no class.

Source:
    The data format of cocodataset.org. Its own tool draws polygons on a grid of fifths of pixels: the border may
    differ from ours by a pixel.
"""

from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.data.convert.files import Images, corners, head, read_json, safe_name
from hrseg.data.convert.known import Known, split_name
from hrseg.data.convert.parts import MEND, Object, Order, Raster, Record, Source, packed, problem
from hrseg.data.convert.polygons import Patch, Size, place, union
from hrseg.data.convert.rle import coco_counts, from_coco
from hrseg.errors import DataError

_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_")
VOID = "void"


def recognises(path: Path) -> bool:
    """Say whether this is a COCO file, or a folder with some."""
    for file in _files(path):
        start = head(file)
        return any(word in start for word in (b'"images"', b'"annotations"', b'"categories"'))
    return False


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read COCO files.

    Args:
        path: A JSON file, or a folder with annotations/*.json.
        images: Folder of the images; None looks around the file.
        classes: Not needed; COCO names its categories.

    Raises:
        DataError: Something in it is wrong.
    """
    files = _files(path)
    if not files:
        raise DataError(
            f"No COCO file in {path}. Give the .json file, or a folder with annotations/."
        )
    names: dict[str, int] = {}
    records: list[Record] = []
    aside: Counter[str] = Counter()
    panoptic = False
    for file in files:
        content = read_json(file)
        parts = ("images", "annotations", "categories")
        if not isinstance(content, dict) or any(
            not isinstance(content.get(k), list) for k in parts
        ):
            raise problem(
                str(file), "it lacks 'images', 'annotations' or 'categories'", "Export it again"
            )
        categories = _categories(content["categories"], file)
        names |= {name: number for number, name in categories.items()}
        split = "" if len(files) == 1 and not _split(file) else _split(file)
        bases = [
            file.parent / "images",
            file.parent.parent / "images",
            file.parent,
            file.parent.parent,
        ]
        named = [base / file.stem.rpartition("_")[2] for base in bases]  # such as train2017
        around = [*named, *bases]
        finder = Images([images] if images else around)
        panoptic = any(
            "segments_info" in a for a in content["annotations"][:1] if isinstance(a, dict)
        )
        make = _panoptic if panoptic else _instances
        records += make(content, categories, file, split, finder, aside)
    ordered = sorted(names, key=lambda name: names[name])
    order: Order = "file" if panoptic else "area"
    ignored = frozenset({VOID} - set(names) if panoptic else ())
    return Source(
        dict.fromkeys(ordered), records, order, ignored=ignored, covers=panoptic, aside=aside
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    folder = path / "annotations" if (path / "annotations").is_dir() else path
    found = [p for p in sorted(folder.glob("*.json")) if not p.name.startswith(_OTHER_TASKS)]
    kinds = [[p for p in found if p.name.startswith(kind)] for kind in ("instances_", "panoptic_")]
    return next((files for files in kinds if files), found)


def _split(file: Path) -> str:
    word = split_name(file.stem.rpartition("_")[2])
    return word if word in ("train", "val", "test") else ""


def _categories(rows: list[Any], file: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("id"), int) or not row.get("name"):
            raise problem(f"{file.name}, category {row!r}", "it has no id and name", "Mend it")
        if row["id"] in found or str(row["name"]) in found.values():
            raise problem(
                f"{file.name}, category {row['id']}", "its id or name stands twice", "Mend it"
            )
        found[row["id"]] = str(row["name"])
    return found


def _images(content: dict[str, Any], file: Path) -> dict[int, tuple[str, Size]]:
    found = {}
    for row in content["images"]:
        try:
            found[row["id"]] = (str(row["file_name"]), (int(row["height"]), int(row["width"])))
        except (KeyError, TypeError, ValueError) as error:
            what = f"image {row.get('id')}" if isinstance(row, dict) else "an image"
            raise problem(
                f"{file.name}, {what}", f"{error!r} is missing or wrong", "Mend it"
            ) from error
    return found


def _instances(
    content: dict[str, Any],
    categories: dict[int, str],
    file: Path,
    split: str,
    finder: Images,
    aside: Counter[str],
) -> list[Record]:
    images = _images(content, file)
    objects: dict[int, list[Object]] = defaultdict(list)
    for row in content["annotations"]:
        where = f"annotation {row.get('id')}" if isinstance(row, dict) else "an annotation"
        try:
            if row["image_id"] not in images:
                raise ValueError(f"there is no image {row['image_id']}")
            if row["category_id"] not in categories:
                raise ValueError(f"there is no category {row['category_id']}")
            if not row.get("segmentation"):
                aside["objects with a box only"] += 1
                continue
            size = images[row["image_id"]][1]
            draw = _region(row["segmentation"], size)
        except (KeyError, TypeError, ValueError) as error:
            text = str(error) if isinstance(error, ValueError) else f"{error!r} is missing or wrong"
            raise problem(f"{file.name}, {where}", text, MEND) from error
        label = categories[row["category_id"]]
        objects[row["image_id"]].append(Object(label, draw, where, crowd=bool(row.get("iscrowd"))))
    return [
        Record(
            safe_name(name),
            finder.find(name, f"{file.name}, image {number}"),
            f"{file.name}, image '{name}'",
            split,
            size,
            sorted(objects[number], key=lambda item: not item.crowd),
        )
        for number, (name, size) in images.items()
    ]


def _region(segmentation: Any, size: Size) -> partial[Patch]:
    if isinstance(segmentation, list):
        return partial(union, [corners(part) for part in segmentation])
    if not isinstance(segmentation, dict):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    said = segmentation.get("size")
    if list(said or ()) != list(size):
        raise ValueError(f"its run lengths are for size {said}, and its image has {list(size)}")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        coco_counts(counts)  # a damaged string is named now, with its annotation
    elif not isinstance(counts, list) or not all(isinstance(count, int) for count in counts):
        raise ValueError("its counts are neither a string nor whole numbers")
    return partial(_decoded, counts)


def _decoded(counts: str | list[int], size: Size) -> Patch:
    return place(from_coco(counts, size), 0, 0, size)


def _panoptic(
    content: dict[str, Any],
    categories: dict[int, str],
    file: Path,
    split: str,
    finder: Images,
    aside: Counter[str],
) -> list[Record]:
    images = _images(content, file)
    records = []
    for row in content["annotations"]:
        try:
            name, size = images[row["image_id"]]
            segments = {int(s["id"]): categories[s["category_id"]] for s in row["segments_info"]}
            png = str(row["file_name"])
        except (KeyError, TypeError, ValueError) as error:
            raise problem(
                f"{file.name}, an annotation", f"{error!r} is missing or wrong", MEND
            ) from error
        where = f"{file.name}, annotation of '{name}'"
        mask = Images([file.parent / file.stem, file.parent]).find(png, where)
        by_color = {
            packed((n & 255, n >> 8 & 255, n >> 16)): label for n, label in segments.items()
        }
        raster = Raster(mask, {0: VOID} | segments, {0: VOID} | by_color, where)
        image = finder.find(name, where)
        records.append(Record(safe_name(name), image, where, split, size, raster=raster))
    aside["images without an annotation"] += len(images) - len(records)
    return records

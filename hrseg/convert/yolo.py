"""Reader of YOLO segmentation: a text file per image, with "class x1 y1 x2 y2 …" in fractions of width and height.

There is no painting order, so smaller objects cover larger ones. A line of four numbers is a box (middle, width,
height). An image without a text file, or with an empty one, is all background.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.convert.base import Object, Record, Source, data_error
from hrseg.convert.classes import (
    SourceClasses,
    find_source_classes,
    read_source_classes,
    split_name,
)
from hrseg.convert.files import read_lines, read_points, safe_name
from hrseg.data.layouts.pairs import visible_images
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Ring, Size, box, fill
from hrseg.labels.text_tables import NULLS, read_yaml

_CONFIGS = ("data.yaml", "dataset.yaml", "data.yml")


def recognizes(path: Path) -> bool:
    """Return whether this is a YOLO dataset: a data.yaml with names, or labels/ with text files."""
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return isinstance(_config(path).get("names"), list | dict)
    if any((path / name).is_file() for name in _CONFIGS):
        return True
    return any((path / "labels").glob("**/*.txt")) if path.is_dir() else False


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read data.yaml, or its folder; names are by default data.yaml's, or classes.txt's."""
    root = path.parent if path.is_file() else path
    configs = [path] if path.is_file() else [path / name for name in _CONFIGS]
    file = next((file for file in configs if file.is_file()), None)
    config = _config(file) if file else {}
    if classes is None:
        named = read_source_classes(file) if file and "names" in config else None
        classes = named or find_source_classes(root)
    if classes is None:
        raise DataError(
            f"There are no names of the class numbers in {root}. Add data.yaml with 'names', or give "
            "--classes FILE with one name on each line."
        )
    names = classes.ids
    source = Source(dict.fromkeys(names[i] for i in sorted(names)), order="area")
    for split, image, base in _images(config, root, images):
        labels = _labels(image, root)
        place = labels.name if labels else image.name
        objects = _objects(labels, names) if labels else []
        name = safe_name(image.relative_to(base).as_posix())
        source.records.append(Record(name, image, place, split, objects=objects))
    if not source.records:
        raise DataError(f"No images below {root}. Name their folder with --images.")
    if not any(record.objects for record in source.records):
        raise DataError(
            f"No image below {root} has a text file with objects; they are looked for in labels/ in the place of "
            "images/, and beside the images. Check the folder."
        )
    return source


def _config(file: Path) -> dict[str, Any]:
    """Read the options of a data.yaml that are set."""
    content = read_yaml(file)
    options = content if isinstance(content, dict) else {}
    return {k: v for k, v in options.items() if not isinstance(v, str) or v not in NULLS}


def _images(config: dict[str, Any], root: Path, images: Path | None) -> list[tuple[str, Path, Path]]:
    """Return (split, image, folder below which its name begins)."""
    if images is not None:
        return [("", image, images) for image in visible_images(images, "**/*")]
    base = root / str(config.get("path") or "")
    base = base if base.is_dir() else root
    found: dict[Path, tuple[str, Path, Path]] = {}
    for key in ("train", "val", "valid", "test"):
        for place in _as_list(config.get(key)):
            target = next((b / place for b in (base, root) if (b / place).exists()), None)
            if target is None:
                target = root / place.removeprefix("../")  # Roboflow counts from a folder below
            if target.is_file():
                listed = [_listed(line, target, base, root) for line in read_lines(target)]
                for image in listed:
                    found.setdefault(image, (split_name(key), image, _below_images(image)))
            elif target.is_dir():
                for image in visible_images(target, "**/*"):
                    found.setdefault(image, (split_name(key), image, target))
            else:
                raise DataError(
                    f"data.yaml names '{place}' for {key}, which is not in {base}. Mend 'path' or '{key}', or name "
                    "the images with --images."
                )
    if found:
        return list(found.values())
    for folder in (root / "images", root):
        splits = [p for p in sorted(folder.glob("*")) if split_name(p.name) in ("train", "val", "test")]
        if splits:
            return [
                (split_name(place.name), image, place) for place in splits for image in visible_images(place, "**/*")
            ]
        if visible_images(folder, "**/*"):
            return [("", image, folder) for image in visible_images(folder, "**/*")]
    return []


def _as_list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []


def _listed(line: str, target: Path, base: Path, root: Path) -> Path:
    for folder in (target.parent, base, root):
        if (folder / line).is_file():
            return folder / line
    raise DataError(f"{target} lists {line}, which does not exist. Mend the list, or give --images.")


def _below_images(image: Path) -> Path:
    return next((p for p in image.parents if p.parent.name == "images" or p.name == "images"), image.parent)


def _labels(image: Path, root: Path) -> Path | None:
    """Find the text file: labels/ instead of the last images/, or beside the image."""
    parts = list(image.parts)
    candidates = [image.with_suffix(".txt")]
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            swapped = Path(*parts[:index], "labels", *parts[index + 1 :])
            candidates.insert(0, swapped.with_suffix(".txt"))
            break
    candidates.append(root / "labels" / f"{image.stem}.txt")
    return next((path for path in candidates if path.is_file()), None)


def _objects(file: Path, names: dict[int, str]) -> list[Object]:
    objects = []
    for number, line in enumerate(read_lines(file), start=1):
        where, words = f"{file}, line {number}", line.split()
        if not words[0].isdecimal() or int(words[0]) not in names:
            raise data_error(
                where,
                f"class '{words[0]}' is not among {', '.join(map(str, sorted(names)[:12]))}",
                "Add its name to data.yaml, or correct the line",
            )
        try:
            points = read_points(words[1:], 2)
            if np.abs(points).max() > 10:
                raise ValueError("its numbers are no shares of the image, 0 to 1")
            if len(points) == 2:
                (x, y), (width, height) = points
                points = box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        except ValueError as error:
            raise data_error(where, str(error), "Mend the line") from error
        objects.append(Object(names[int(words[0])], partial(_fill_scaled, points), f"line {number}"))
    return objects


def _fill_scaled(points: Ring, size: Size) -> Patch:
    return fill([points * (size[1], size[0])], size)

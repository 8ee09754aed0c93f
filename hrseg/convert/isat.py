"""ISAT: one JSON file for each image, with polygons in layers, and isat.yaml with the classes.

A higher layer covers a lower one; polygons of `__background__` cut holes into what lies below them.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from hrseg.convert.attributes import hex_color
from hrseg.convert.base import Color, LeftOut, Objects, Record, Source, each, fault, problem
from hrseg.convert.classes import Known
from hrseg.convert.files import Images, corners, json_files, number, of_one_tool, read_json
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, fill


def recognizes(path: Path) -> bool:
    """Say whether this is a file of ISAT, or a folder with some."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read ISAT files.

    Args:
        path: A JSON file, or a folder with some.
        images: Folder of the images; None looks beside the files, and in images/ beside their folder.
        classes: Order of the classes; None takes isat.yaml, then sorts names.

    Raises:
        DataError: Something in it is wrong.
    """
    files = _files(path) or ([path] if path.is_file() else [])
    if not files:
        raise DataError(f"No JSON file of ISAT in {path}. Give the folder where ISAT saved them.")
    base = files[0].parent if path.is_file() else path
    finder = Images([images] if images else [base, base / "images", base.parent / "images"])
    aside = LeftOut()
    source = Source({}, [], aside=aside)
    records = each(files, lambda file: _record(file, base, finder, aside), source.broken)
    colors: dict[str, Color | None] = dict.fromkeys(classes.names) if classes else {}
    if not classes:
        table = next((file.parent / "isat.yaml" for file in files), base / "isat.yaml")
        colors = _table(table) if table.is_file() else {}
    used = sorted({item.label for record in records for item in record.objects})
    return replace(
        source,
        classes=colors | {name: None for name in used if name not in colors},
        records=records,
        notes=("Before that, a higher layer lies on top of a lower one.",),
    )


def _files(path: Path) -> list[Path]:
    return of_one_tool(json_files(path, "**/*.json"), is_isat)


def is_isat(content: Any) -> bool:
    """Say whether a file's content is ISAT's."""
    said = content.get("info") if isinstance(content, dict) else None
    return isinstance(said, dict) and said.get("description") == "ISAT"


def _record(file: Path, base: Path, finder: Images, aside: LeftOut) -> Record:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    try:
        name = str(content["info"].get("name") or file.stem)
        size = int(number(content["info"]["height"])), int(number(content["info"]["width"]))
        rows = [dict(row) for row in content["objects"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise problem(where, fault(error), "Save it again in ISAT") from error
    objects = Objects(where, aside)
    for index, row in enumerate(rows, start=1):
        depth = row.get("layer", index)
        objects.add(f"object {index}", row.get("category"), partial(_draw, row), depth)
    return Record(
        name=Path(where).with_suffix("").as_posix(),
        image=finder.find(name, where, file.stem),
        place=where,
        size=size,
        objects=objects.found,
    )


def _draw(row: dict[str, Any]) -> partial[Patch]:
    return partial(fill, [corners(row.get("segmentation"))])


def _table(file: Path) -> dict[str, Color | None]:
    try:
        content = yaml.load(
            file.read_text(encoding="utf-8"), yaml.BaseLoader
        )  # every name stays text
        return {str(row["name"]): hex_color(row.get("color")) for row in content["label"]}
    except (OSError, AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise problem(
            str(file),
            f"it is no list of ISAT's classes: {error!r}",
            "Save it again in ISAT, or remove it",
        ) from error

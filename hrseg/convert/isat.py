"""Reader of ISAT: one JSON file per image, with polygons in layers, and isat.yaml with the classes.

A higher layer covers a lower one; polygons of `__background__` cut holes into the layers below them.
"""

from functools import partial
from pathlib import Path
from typing import Any

import yaml

from hrseg.convert.attributes import hex_color
from hrseg.convert.base import ObjectList, Record, Skipped, Source, data_error, errors_at, polygon
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import Images, files_of_tool, json_files, read_json, read_number
from hrseg.errors import DataError
from hrseg.labels import Color


def recognizes(path: Path) -> bool:
    """Return whether this is a file of ISAT, or a folder with some."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read a JSON file or a folder with some; classes are by default isat.yaml's, then sorted names."""
    files = _files(path) or ([path] if path.is_file() else [])
    if not files:
        raise DataError(f"No JSON file of ISAT in {path}. Give the folder where ISAT saved them.")
    base = files[0].parent if path.is_file() else path
    finder = Images(images, base, base / "images", base.parent / "images")
    source = Source(notes=("Before that, a higher layer is on top of a lower one.",))
    source.read_records(files, lambda file: _record(file, base, finder, source.skipped))
    table = files[0].parent / "isat.yaml"
    if not classes and table.is_file():
        source.classes |= _table(table)
    return source.add_labels(classes.names if classes else ())


def _files(path: Path) -> list[Path]:
    return files_of_tool(json_files(path, "**/*.json"), is_isat)


def is_isat(content: Any) -> bool:
    """Return whether a file's content is ISAT's."""
    info = content.get("info") if isinstance(content, dict) else None
    return isinstance(info, dict) and info.get("description") == "ISAT"


def _record(file: Path, base: Path, finder: Images, skipped: Skipped) -> Record:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    with errors_at(where, "Save it again in ISAT"):
        info = content["info"]
        name = str(info.get("name") or file.stem)
        size = int(read_number(info["height"])), int(read_number(info["width"]))
        rows = [dict(row) for row in content["objects"]]
    objects = ObjectList(where, skipped)
    for index, row in enumerate(rows, start=1):
        parse = partial(polygon, row.get("segmentation"))
        objects.add(f"object {index}", row.get("category"), parse, row.get("layer", index))
    image = finder.find(name, where, file.stem)
    stem = Path(where).with_suffix("").as_posix()
    return Record(stem, image, where, size=size, objects=objects.objects)


def _table(file: Path) -> dict[str, Color | None]:
    try:
        # BaseLoader: every name remains text
        content = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)
        return {str(row["name"]): hex_color(row.get("color")) for row in content["label"]}
    except (OSError, AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        what = f"it is no list of ISAT's classes: {error!r}"
        raise data_error(str(file), what, "Save it again in ISAT, or remove it") from error

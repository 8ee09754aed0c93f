"""ISAT: one JSON file for each image, with polygons in layers, and isat.yaml with the classes.

A higher layer covers a lower one; polygons of `__background__` cut holes into what lies below them.
"""

from functools import partial
from pathlib import Path
from typing import Any

import yaml

from hrseg.data.convert.attributes import hex_color
from hrseg.data.convert.files import Images, corners, head, number, read_json
from hrseg.data.convert.known import Known
from hrseg.data.convert.parts import MEND, Color, Object, Record, Source, problem
from hrseg.data.convert.polygons import fill
from hrseg.errors import DataError


def recognises(path: Path) -> bool:
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
    records = [_record(file, base, finder) for file in files]
    colours: dict[str, Color | None] = dict.fromkeys(classes.names) if classes else {}
    if not classes:
        table = next((file.parent / "isat.yaml" for file in files), base / "isat.yaml")
        colours = _table(table) if table.is_file() else {}
    used = sorted({item.label for record in records for item in record.objects})
    return Source(
        colours | {name: None for name in used if name not in colours},
        records,
        notes=("Before that, a higher layer lies on top of a lower one.",),
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _is_isat(path) else []
    return sorted(filter(_is_isat, path.rglob("*.json")))


def _is_isat(file: Path) -> bool:
    start = head(file) if file.suffix.lower() == ".json" else b""
    return start.startswith(b"{") and b'"info"' in start and b'"ISAT"' in start[:4096]


def _record(file: Path, base: Path, finder: Images) -> Record:
    where = file.relative_to(base).as_posix()
    content = read_json(file)
    try:
        name = str(content["info"].get("name") or file.stem)
        size = int(number(content["info"]["height"])), int(number(content["info"]["width"]))
        rows: list[dict[str, Any]] = [dict(row) for row in content["objects"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise problem(where, f"{error!r} is missing or wrong", "Save it again in ISAT") from error
    layers = []
    for index, row in enumerate(rows, start=1):
        what = f"object {index}"
        try:
            if not isinstance(row.get("category"), str):
                raise ValueError("it has no category")
            draw = partial(fill, [corners(row.get("segmentation"))])
            layers.append((number(row.get("layer", index)), Object(row["category"], draw, what)))
        except ValueError as error:
            raise problem(f"{where}, {what} ({row.get('category')!r})", str(error), MEND) from error
    return Record(
        name=Path(where).with_suffix("").as_posix(),
        image=finder.find(name, where, file.stem),
        place=where,
        size=size,
        objects=[item for _, item in sorted(layers, key=lambda layer: layer[0])],
    )


def _table(file: Path) -> dict[str, Color | None]:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)  # every name stays text
        return {str(row["name"]): hex_color(row.get("color")) for row in content["label"]}
    except (OSError, AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise problem(
            str(file), f"it is no list of ISAT's classes: {error!r}", "Save it again in ISAT, or remove it"
        ) from error

"""Reader of Cityscapes: gtFine/<split>/<city>/*_gtFine_polygons.json, and gtCoarse the same.

Polygons are drawn in the order of the file, corners in whole pixels with the outline filled, as the official
scripts do, so that the masks equal the official ones bit by bit. A label such as "cargroup" counts as "car",
"license plate" (id -1) is not drawn, and classes that the benchmark leaves out are ignored.

Source:
    createLabelImage of cityscapesScripts.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hrseg.convert.base import FIX, Object, Record, Source, data_error, errors_at
from hrseg.convert.classes import SourceClasses, read_source_classes
from hrseg.convert.files import Images, read_json, read_points
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Ring, Size, empty_patch
from hrseg.labels import load_labels


def recognizes(path: Path) -> bool:
    """Return whether this is a tree of Cityscapes with polygons."""
    return path.is_dir() and next(iter(_files(path)), None) is not None


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the folder with gtFine/ or gtCoarse/, or one of these; classes are by default the official ones."""
    files = _files(path)
    if not files:
        raise DataError(f"No *_polygons.json below {path}. Give the folder with gtFine/ or gtCoarse/.")
    table = classes or read_source_classes("cityscapes")
    rows = () if classes else load_labels("cityscapes").labels
    hidden = {row.name for row in rows if row.id < 0}
    finder = Images(images, path / "leftImg8bit", path.parent / "leftImg8bit", path)
    names = [name for name in table.names if name not in hidden]
    colors = {name: table.colors.get(name) for name in names}
    source = Source(colors, background="ignore", ignored=table.ignored)
    source.records = [_record(file, path, table, hidden, finder, source) for file in files]
    return source


def _files(path: Path) -> list[Path]:
    found = sorted(path.glob("**/*_polygons.json")) if path.is_dir() else []
    fine = [file for file in found if file.stem.endswith("gtFine_polygons")]
    return fine or found


def _record(file: Path, root: Path, table: SourceClasses, hidden: set[str], images: Images, source: Source) -> Record:
    content = read_json(file)
    where = file.relative_to(root).as_posix()
    with errors_at(where, "Unpack the archive again"):
        size = int(content["imgHeight"]), int(content["imgWidth"])
        rows: list[Any] = list(content["objects"])
    objects = []
    for index, row in enumerate(rows, start=1):
        what = f"object {index}"
        if not isinstance(row, dict) or not isinstance(row.get("label"), str):
            raise data_error(f"{where}, {what}", "it has no label", FIX)
        label = row["label"]
        if label not in table.names and label.endswith("group"):
            label = label.removesuffix("group")
        if row.get("deleted") or label in hidden:
            never = f"'{label}' polygons, which are never drawn"
            source.skipped[never if label in hidden else "deleted"] += 1
            continue
        if label not in table.names:
            unknown = f"'{row['label']}' is no class of {table.place}"
            raise data_error(f"{where}, {what}", unknown, FIX)
        with errors_at(f"{where}, {what} ('{label}')", FIX):
            ring = read_points(row.get("polygon"), 2)
        objects.append(Object(label, partial(_fill_with_outline, ring), what))
    stem = file.stem.removesuffix("_polygons").rpartition("_")[0]
    city, split = file.parent.name, file.parent.parent.name
    names = (f"{split}/{city}/{stem}_leftImg8bit.png", f"{stem}_leftImg8bit")
    image = images.find(names[0], where, names[1], stem)
    return Record(f"{city}/{stem}", image, where, split, size, objects)


def _fill_with_outline(ring: Ring, size: Size) -> Patch:
    """Draw a polygon whose corners are pixels, outline included."""
    canvas = Image.new("1", (size[1], size[0]))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in ring.tolist()], fill=1)
    around = canvas.getbbox()
    if around is None:
        return empty_patch()
    return Patch(around[1], around[0], np.array(canvas.crop(around), dtype=bool))

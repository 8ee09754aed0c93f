"""Masks of colours, or of ids, in any usual folders, with a table of classes beside them or given.

labelmap.txt, colours.txt, class_dict.csv and a few more names are found; another file is given with --classes.
"""

from pathlib import Path

from hrseg.data.check.pairing import pair_any
from hrseg.data.convert.files import Images
from hrseg.data.convert.known import Known, find_table, split_name
from hrseg.data.convert.parts import Record, Source
from hrseg.data.convert.voc import of_table, raster_of
from hrseg.data.labels.tables import CLASS_FILES, DATA_YAML
from hrseg.data.layouts.pairs import name_of, visible_images
from hrseg.errors import DataError


def recognises(path: Path) -> bool:
    """Say whether a table of classes lies beside the masks."""
    table = find_table(path) if path.is_dir() else None
    return table is not None and Path(table.place).name.lower() not in DATA_YAML  # of YOLO


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read masks by a table.

    Args:
        path: Folder of masks, with or without the images.
        images: Folder of the images; None pairs what lies in the folder.
        classes: Classes of the masks; None looks for a table in the folder.

    Raises:
        DataError: No table, no masks, or masks without images.
    """
    table = classes or find_table(path)
    if table is None:
        raise DataError(
            f"Nothing in {path} says which colour is which class. Put 'name r g b' lines into {path / 'colours.txt'}, "
            f"or give --classes FILE. Names that are found: {', '.join(CLASS_FILES)}."
        )
    found = pair_any(path) if images is None else None
    if found is None:
        finder = Images([images] if images else [])
        records = []
        for mask in visible_images(path, "**/*"):
            name = name_of(mask, path)
            stem = name.removesuffix("_mask")
            image = finder.find(stem, str(mask), name)
            records.append(Record(stem, image, mask.name, raster=raster_of(mask, table)))
        return of_table(table, records)
    records = [
        Record(
            pair.name,
            pair.image,
            pair.mask.relative_to(path).as_posix(),
            "" if split == "all" else split_name(split),
            raster=raster_of(pair.mask, table),
        )
        for split, pairs in found.splits.items()
        for pair in pairs
        if pair.mask is not None
    ]
    if not records:
        raise DataError(
            f"No mask in {path} has an image beside it. Name the folder of the images with --images."
        )
    source = of_table(table, records)
    source.aside["images without a mask"] += len(found.images_alone)
    source.aside["masks without an image"] += len(found.masks_alone)
    return source

"""PASCAL VOC: masks in SegmentationClass/, images in JPEGImages/, lists in ImageSets/Segmentation/.

Palette masks hold ids, and color masks the colors of the table; 255 and VOC's cream border are ignored.
"""

from dataclasses import replace
from pathlib import Path

from hrseg.convert.base import LeftOut, Raster, Record, Source, each, packed
from hrseg.convert.classes import Known, find_table, known_classes, split_name
from hrseg.convert.files import Images, read_lines
from hrseg.data.check.pairing import pair_any
from hrseg.data.layouts.pairs import name_of, visible_images
from hrseg.errors import DataError
from hrseg.labels.tables import CLASS_FILES, DATA_YAML

_BORDER = (224, 224, 192)
VOID = "void"


def recognizes(path: Path) -> bool:
    """Say whether this is a VOC tree."""
    return bool(visible_images(path / "SegmentationClass", "**/*"))


def read(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
    """Read a VOC tree.

    Args:
        path: The folder with SegmentationClass/.
        images: Folder of the images; None is JPEGImages/.
        classes: Classes of the masks; None takes a table in the folder, or VOC 2012's.

    Raises:
        DataError: Something in it is wrong.
    """
    return masks_of_devkit(path, images, classes or find_table(path) or known_classes("voc2012"))


def masks_of_devkit(path: Path, images: Path | None, table: Known) -> Source:
    """Read masks in VOC's folders by any table.

    Raises:
        DataError: No masks, or one without its image.
    """
    folder = path / "SegmentationClass"
    masks = {name_of(mask, folder): mask for mask in visible_images(folder, "**/*")}
    if not masks:
        raise DataError(f"No masks in {folder}. Give the folder that holds SegmentationClass/.")
    finder = Images([images] if images else [path / "JPEGImages", path / "images", path])
    splits = _lists(path)
    if images is None and len(finder.folders) > 1:
        finder.folders = finder.folders[:1]  # not the masks themselves
    wanted = splits or dict.fromkeys(masks, "")
    if not wanted.keys() & masks:
        raise DataError(
            f"{path / 'ImageSets/Segmentation'} lists '{next(iter(wanted))}' and others, but {folder} has none of "
            "these masks. Add them, or take the lists away."
        )
    more = {packed(_BORDER): VOID}

    def make(name: str) -> Record:
        place = masks[name].relative_to(path).as_posix()
        raster = raster_of(masks[name], table, more)
        return Record(name, finder.find(name, place), place, wanted[name], raster=raster)

    source = Source({}, [], aside=LeftOut())
    records = each((name for name in wanted if name in masks), make, source.broken)
    for name in wanted:
        if name not in masks:  # such as those of test.txt, whose masks VOC keeps for itself
            source.aside.name("listed images without a mask", name)
    source.aside["masks that no list names"] += len(masks.keys() - wanted.keys())
    return of_table(table, records, source)


def raster_of(mask: Path, table: Known, more: dict[int, str] | None = None) -> Raster:
    """Return a mask to be read by a table; 255 is ignored where no class claims it."""
    return Raster(mask, {255: VOID} | table.ids, (more or {}) | table.by_color, table.place)


def of_table(table: Known, records: list[Record], source: Source | None = None) -> Source:
    """Return the source of mask files with a table."""
    return replace(
        source or Source({}, []),
        classes={name: table.colors.get(name) for name in table.names},
        records=records,
        ignored=table.ignored | {VOID} - set(table.names),
        covers=True,
    )


def _lists(path: Path) -> dict[str, str]:
    """Return name → split, from the lists; those that only repeat others are left out."""
    folder = path / "ImageSets" / "Segmentation"
    found = {file.stem: read_lines(file) for file in sorted(folder.glob("*.txt"))}
    if "train" in found or "val" in found:
        found.pop("trainval", None)
    splits: dict[str, str] = {}
    for split, lines in found.items():
        for line in lines:
            name = line.split()[0] if len(line.split()) > 1 and line.split()[-1] in "-101" else line
            before = splits.setdefault(name, split_name(split))
            if before != split_name(split):
                raise DataError(
                    f"{folder} lists '{name}' in '{before}' and in '{split}'. An image belongs to one split; take it "
                    "off one list."
                )
    return splits


def recognizes_colors(path: Path) -> bool:
    """Say whether a table of classes lies beside the masks."""
    table = find_table(path) if path.is_dir() else None
    return table is not None and Path(table.place).name.lower() not in DATA_YAML  # of YOLO


def read_colors(path: Path, images: Path | None = None, classes: Known | None = None) -> Source:
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
            f"Nothing in {path} says which color is which class. Put 'name r g b' lines into {path / 'colors.txt'}, "
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

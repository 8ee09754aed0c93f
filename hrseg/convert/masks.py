"""Readers of mask files: PASCAL VOC (SegmentationClass/, JPEGImages/, ImageSets/Segmentation/), and any with a table.

Palette masks hold ids, and color masks the colors of the table; 255 and VOC's cream border are ignored.
"""

from pathlib import Path

from hrseg.convert.base import Raster, Record, Source, color_code
from hrseg.convert.classes import (
    SourceClasses,
    find_source_classes,
    read_source_classes,
    split_name,
)
from hrseg.convert.files import Images, read_lines
from hrseg.data.check.pairing import pair_any
from hrseg.data.layouts.pairs import name_of, visible_images
from hrseg.errors import DataError
from hrseg.labels.tables import CLASS_FILES, DATA_YAML

_BORDER = (224, 224, 192)
VOID = "void"


def recognizes(path: Path) -> bool:
    """Return whether this is a VOC tree."""
    return bool(visible_images(path / "SegmentationClass", "**/*"))


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the folder with SegmentationClass/; classes are by default those of a table there, then VOC 2012's."""
    table = classes or find_source_classes(path) or read_source_classes("voc2012")
    return read_voc_masks(path, images, table)


def read_voc_masks(path: Path, images: Path | None, table: SourceClasses) -> Source:
    """Read masks in VOC's folders by any table.

    Raises:
        DataError: No masks, or one without its image.
    """
    folder = path / "SegmentationClass"
    masks = {name_of(mask, folder): mask for mask in visible_images(folder, "**/*")}
    if not masks:
        raise DataError(f"No masks in {folder}. Give the folder that holds SegmentationClass/.")
    finder = Images(images, path / "JPEGImages", path / "images", path)
    if images is None and len(finder.folders) > 1:
        finder.folders = finder.folders[:1]  # not the masks themselves
    splits = _lists(path) or dict.fromkeys(masks, "")
    if not splits.keys() & masks:
        raise DataError(
            f"{path / 'ImageSets/Segmentation'} lists '{next(iter(splits))}' and others, but {folder} has none of "
            "these masks. Add them, or take the lists away."
        )
    source = _source(table)

    def read_mask(name: str) -> Record:
        place = masks[name].relative_to(path).as_posix()
        raster = _raster(masks[name], table, {color_code(_BORDER): VOID})
        return Record(name, finder.find(name, place), place, splits[name], raster=raster)

    source.read_records((name for name in splits if name in masks), read_mask)
    for name in splits:
        if name not in masks:  # such as those of test.txt, whose masks VOC does not publish
            source.skipped.add("listed images without a mask", name)
    source.skipped["masks that no list names"] += len(masks.keys() - splits.keys())
    return source


def _raster(mask: Path, table: SourceClasses, more: dict[int, str] | None = None) -> Raster:
    """Return a mask with a table; 255 is ignored where no class has it."""
    return Raster(mask, {255: VOID} | table.ids, (more or {}) | table.by_color, table.place)


def _source(table: SourceClasses) -> Source:
    """Return the source of mask files with a table, still without images."""
    ignored = table.ignored | {VOID} - set(table.names)
    colors = {name: table.colors.get(name) for name in table.names}
    return Source(colors, ignored=ignored, covers=True)


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
    """Return whether a table of classes is beside the masks."""
    table = find_source_classes(path) if path.is_dir() else None
    return table is not None and Path(table.place).name.lower() not in DATA_YAML  # of YOLO


def read_colors(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read a folder of masks by a table, which is by default one in the folder; images are paired by name."""
    table = classes or find_source_classes(path)
    if table is None:
        raise DataError(
            f"There is no table of colors and classes in {path}. Put 'name r g b' lines into {path / 'colors.txt'}, "
            f"or give --classes FILE. Names that are found: {', '.join(CLASS_FILES)}."
        )
    source = _source(table)
    if images is not None or (found := pair_any(path)) is None:
        finder = Images(images)
        for mask in visible_images(path, "**/*"):
            name = name_of(mask, path)
            stem = name.removesuffix("_mask")
            image = finder.find(stem, str(mask), name)
            source.records.append(Record(stem, image, mask.name, raster=_raster(mask, table)))
        return source
    for split, pairs in found.splits.items():
        for pair in pairs:
            if pair.mask is not None:
                place = pair.mask.relative_to(path).as_posix()
                name = "" if split == "all" else split_name(split)
                raster = _raster(pair.mask, table)
                source.records.append(Record(pair.name, pair.image, place, name, raster=raster))
    if not source.records:
        raise DataError(f"No mask in {path} has an image beside it. Name the folder of the images with --images.")
    source.skipped["images without a mask"] += len(found.images_alone)
    source.skipped["masks without an image"] += len(found.masks_alone)
    return source

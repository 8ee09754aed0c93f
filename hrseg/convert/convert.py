"""Conversion of annotations into images/, masks/ and labels.yaml, written to one new folder at once."""

import contextlib
import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hrseg.convert.base import Order, Progress, Raster, Record, Source, data_error, no_progress
from hrseg.convert.classes import (
    Background,
    Plan,
    plan_classes,
    read_merge,
    read_source_classes,
    standard_split,
)
from hrseg.convert.formats import read, recognize
from hrseg.convert.report import Report, Tally, list_skipped
from hrseg.errors import ConfigError, DataError, write_hint
from hrseg.imaging import (
    image_size,
    read_image,
    read_mask,
    stored_form,
    temporary_folder,
    write_image,
    write_mask,
)
from hrseg.imaging.failures import foreign_code
from hrseg.imaging.photographs import PhotoFile
from hrseg.imaging.polygons import Size
from hrseg.imaging.reading import open_stored
from hrseg.labels import LabelSet, pack_colors

_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp"}
_ROWS = 1024  # decoded at once
_START = 0  # layer of pixels that no object covers


@dataclass(frozen=True)
class ConvertOptions:
    """Options of a conversion.

    Attributes:
        tool: A row of READERS; None recognizes it.
        images: Folder of the images; None takes the tool's usual ones.
        classes: Class table of a source that has none.
        labels: Target classes; None numbers those of the source.
        merge: Rules as `read_merge` takes them.
        background: Meaning of pixels of no object; None takes the tool's.
        order: Which object covers which; None takes the tool's.
        split: Split of images whose tool has none.
        link: Link the images instead of copying them.
    """

    tool: str | None = None
    images: Path | None = None
    classes: str | None = None
    labels: LabelSet | None = None
    merge: Sequence[str] = ()
    background: Background | None = None
    order: Order | None = None
    split: str = "train"
    link: bool = False


def convert(path: Path, out: Path, options: ConvertOptions | None = None, progress: Progress = no_progress) -> Report:
    """Convert annotations into the folder layout.

    Args:
        path: Export of a tool, or its folder.
        out: Folder to make; it must not exist.
        options: Options.
        progress: See `Progress`.

    Raises:
        DataError: Something in the source is wrong; nothing was written then.
        ConfigError: A rule of `merge` cannot be read.
    """
    options = options or ConvertOptions()
    if not re.fullmatch(r"\w[\w.-]*", options.split):
        raise ConfigError(f"--split '{options.split}' is no name of a folder. Use train, val or test.")
    refuse_existing(out)
    rules = read_merge(options.merge)
    classes = read_source_classes(options.classes) if options.classes else None
    tool = options.tool or recognize(path)
    source = read(tool, path, options.images, classes)
    _refuse_without_area(path, source)
    plan = plan_classes(source, rules, options.background, options.labels)
    source = replace(source, records=[_with_split(record) for record in source.records])
    painter = Painter(plan, options.order or source.order)
    splits = _splits(source.records, options.split)
    with new_folder(out) as folder:
        advance = progress(len(splits))
        done: Counter[str] = Counter()
        failed = []
        for record, split in zip(source.records, splits, strict=True):
            try:
                mask = painter.paint(record, _decode(record))
            except DataError as error:
                failed.append(str(error))
            else:
                _save_image(record, folder / "images" / split, options.link)
                file = folder / "masks" / split / f"{record.name}.png"
                write_mask(file, mask, plan.labels.id_palette())
                done[split] += 1
            advance(1)
        if failed and not done:
            raise DataError(failed[0])
        source.broken.extend(failed)
        comment = f"Classes of {path.name}, by hrseg data convert."
        (folder / "labels.yaml").write_text(plan.labels.to_yaml(comment), encoding="utf-8")
    return Report(tool, path, out, source, plan, painter.order, done, painter.tally)


def _refuse_without_area(path: Path, source: Source) -> None:
    """Raise where no image has an object with an area: all masks would be background."""
    if all(not record.objects and record.raster is None for record in source.records):
        skipped = list_skipped(source.skipped)
        raise DataError(
            f"{path} holds no object with an area{f', only {skipped}' if skipped else ''}. Semantic segmentation "
            "learns from outlines or masks: draw polygons or brushes, and export these."
        )


def _decode(record: Record) -> Size:
    """Return the size of an image after decoding all of it: a truncated file still has a complete header."""
    try:
        image_size(record.image)  # refuses too many pixels before any is decoded
        with open_stored(record.image) as image:
            if isinstance(image, PhotoFile):
                with foreign_code(image.name):
                    image.image.load()
            else:
                for top in range(0, image.height, _ROWS):
                    image.read(top, min(top + _ROWS, image.height))
            return image.height, image.width
    except DataError as error:
        if isinstance(record.image, Path):
            raise
        text = f"the image inside it cannot be read: {error}"
        raise data_error(record.place, text, "Name the images with --images") from error


@dataclass
class Painter:
    """Painter of masks of ids from records; counts what it paints.

    Attributes:
        plan: Ids of the classes.
        order: Which object covers which.
        tally: Counts so far.
    """

    plan: Plan
    order: Order
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._layers = {name: number for number, name in enumerate(self.plan.targets, start=1)}
        ids = [self.plan.blank, *(self.plan.ids.get(n, self.plan.blank) for n in self.plan.targets)]
        self._ids = np.array(ids, dtype=np.uint8 if max(ids) < 256 else np.uint16)

    def paint(self, record: Record, size: Size) -> np.ndarray:
        """Draw one image's mask.

        Args:
            record: The image.
            size: (height, width) of the image file.

        Raises:
            DataError: The annotations do not fit the image, or an object cannot be drawn.

        Shape:
            → (height, width)
        """
        if record.size is not None and record.size != size:
            raise data_error(
                record.place,
                f"it was annotated at {record.size[0]}x{record.size[1]} pixels (height x width), but the image file "
                f"has {size[0]}x{size[1]}",
                "Give the folder of the images that were annotated with --images",
            )
        raster = record.raster
        layers = translate_raster(raster, size, self._layers) if raster else self._draw(record, size)
        counts = np.bincount(layers.ravel(), minlength=len(self._ids))  # pixels of each class
        self.tally.pixels += Counter(dict(zip(["", *self._layers], counts.tolist(), strict=True)))
        self.tally.images.update(name for name, count in zip(self._layers, counts[1:], strict=True) if count)
        mask: np.ndarray = self._ids[layers]  # (H, W)
        return mask

    def _draw(self, record: Record, size: Size) -> np.ndarray:
        patches = []
        for item in record.objects:
            self.tally.objects[item.label] += 1
            if item.label not in self.plan.ids:
                continue
            patch = item.pixels(size, record.place)
            if not patch.pixels.any():
                self.tally.empty += 1
                continue
            patches.append((item, patch))
        if self.order == "area":
            patches.sort(key=lambda pair: (not pair[0].crowd, -int(pair[1].pixels.sum())))
        layers = np.full(size, _START, dtype=np.uint16)  # numbers of classes, (H, W)
        for item, patch in patches:
            height, width = patch.pixels.shape
            around = layers[patch.top : patch.top + height, patch.left : patch.left + width]
            around[patch.pixels] = self._layers[item.label]
        return layers


def translate_raster(raster: Raster, size: Size, layers: Mapping[str, int]) -> np.ndarray:
    """Map the values of a mask file to class numbers.

    Args:
        raster: The file.
        size: (height, width) of its image.
        layers: Class → number.

    Raises:
        DataError: Sizes differ, or a value that the table lacks; the file and the value are named.

    Shape:
        → uint16 (height, width)
    """
    values = read_mask(raster.path)  # (H, W), or (H, W, 3) of colors
    if values.shape[:2] != size:
        raise DataError(
            f"{raster.path} has {values.shape[0]}x{values.shape[1]} pixels (height x width), its image "
            f"{size[0]}x{size[1]}. They must be equal; check that they belong together."
        )
    known = {value: layers.get(name, _START) for value, name in raster.ids.items()}
    colors = {value: layers.get(name, _START) for value, name in raster.colors.items()}
    if values.ndim == 3:
        return _look_up(pack_colors(values), colors, raster, "color")
    palette = stored_form(raster.path).palette
    if palette is not None and len(palette) and colors:
        shown = pack_colors(palette)
        used = np.unique(values)
        if used.max() < len(shown) and all(int(color) in colors for color in shown[used]):
            return _look_up(shown[values], colors, raster, "color")
    return _look_up(values.astype(np.int32), known, raster, "id")


def _look_up(values: np.ndarray, known: Mapping[int, int], raster: Raster, kind: str) -> np.ndarray:
    keys = np.array(sorted(known), dtype=np.int32)
    place = np.searchsorted(keys, values).clip(0, max(0, len(keys) - 1))
    wrong = keys[place] != values if len(keys) else np.ones(values.shape, dtype=bool)
    if wrong.any():
        first = np.argwhere(wrong)[0].tolist()
        value = int(values[tuple(first)])
        shown = f"({value >> 16}, {value >> 8 & 255}, {value & 255})" if kind == "color" else value
        jpeg = raster.path.suffix.lower() in (".jpg", ".jpeg")
        step = (
            "JPEG changes colors when it is saved: export the masks as PNG"
            if jpeg
            else "Add it to the table, or give the right one with --classes"
        )
        raise DataError(
            f"{raster.path} holds {kind} {shown} in {int((values == value).sum())} pixels, the first at row "
            f"{first[0]}, column {first[1]}; {raster.table} lacks it. {step}."
        )
    numbers = np.array([known[int(key)] for key in keys], dtype=np.uint16)
    return numbers[place]


def _with_split(record: Record) -> Record:
    """Use the first folder of an image's name as its split, where the tool has none and it is one."""
    first, slash, rest = record.name.partition("/")
    split = "" if record.split or not slash else standard_split(first)
    return replace(record, split=split, name=rest) if split else record


def _splits(records: Sequence[Record], split: str) -> list[str]:
    """Return each record's split, and refuse duplicate names."""
    if not records:
        raise DataError("The source holds no image. Give the right file or folder.")
    seen: dict[tuple[str, str], str] = {}
    files: dict[Path, str] = {}
    for record in records:
        if isinstance(record.image, Path):
            other = files.setdefault(record.image, record.split)
            if other != record.split:
                raise DataError(
                    f"{record.image} was found for images of two splits, '{other}' and '{record.split}' "
                    f"({record.place}). Give the folder above those of the splits with --images."
                )
        key = record.split or split, record.name
        other = seen.setdefault(key, record.place)
        if other is not record.place:
            raise DataError(
                f"Two images would be called {key[0]}/{record.name}: that of {other} and that of {record.place}. "
                "Give each its own name, or convert them one after the other."
            )
    return [split for split, _ in seen]


def _save_image(record: Record, folder: Path, link: bool) -> None:
    """Copy, link or write an image below its split."""
    if isinstance(record.image, bytes):
        suffix = next((s for m, s in _MAGIC.items() if record.image.startswith(m)), "")
        target = folder / f"{record.name}{suffix or '.png'}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if suffix:
            target.write_bytes(record.image)
        else:
            write_image(target, read_image(io.BytesIO(record.image)))
        return
    target = folder / f"{record.name}{record.image.suffix.lower()}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        os.symlink(record.image.resolve(), target)
    else:
        shutil.copyfile(record.image, target)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside the target, which is renamed when the block succeeds.

    Args:
        out: The target; it must not exist, or be empty.

    Raises:
        DataError: It holds something already, or cannot be written.
    """
    refuse_existing(out)
    try:
        with temporary_folder(f".{out.name}", out.absolute().parent) as temporary:
            yield temporary
            if out.is_dir():
                out.rmdir()
            temporary.rename(out)
    except OSError as error:
        raise DataError(
            f"Cannot write {out}: {error.strerror or error}. Nothing was left behind. {write_hint(error)}"
        ) from error


def refuse_existing(out: Path) -> None:
    """Raise where something would be overwritten.

    Raises:
        DataError: The path is a file, or a folder that is not empty.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out} exists already, and nothing is overwritten. Choose another name, or move it away.")

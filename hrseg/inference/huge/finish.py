"""From finished bands to the final files, which appear whole or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.errors import DataError
from hrseg.imaging import write_image
from hrseg.inference.huge.readers import Reader
from hrseg.inference.huge.small import Reduced, small_mask
from hrseg.inference.huge.spool import Spool
from hrseg.inference.huge.tiles import write_tiff
from hrseg.viz import overlay


def finish(
    spool: Spool,
    reader: Reader,
    reduced: Reduced,
    labels: LabelSet,
    files: dict[str, Path],
    rgb: bool,
) -> None:
    """Make the final files in the spool's folder, then move all of them to their places.

    Args:
        spool: All bands.
        reader: Says where the image lies, and whether it has pixels without data.
        reduced: What made the bands of the reduced picture.
        labels: Names, ids and colours.
        files: Kind → file.
        rgb: Whether the picture is RGB of 8 bits.

    Raises:
        DataError: A file cannot be written; all bands are kept.
    """
    size = (reader.head.height, reader.head.width)
    ready: dict[str, Path] = {}
    for kind, file in files.items():
        if kind not in _MAPS:
            continue
        ready[kind] = spool.folder / f"{kind}.tif"
        try:
            _MAPS[kind](spool, reader, labels, ready[kind], size)
        except OSError as error:
            raise DataError(
                f"Cannot write {file}: {error.strerror or error}. All bands are kept; free some space and run the "
                "same command again."
            ) from error
    if "overlay" in files:
        picture = reduced.picture(spool.read("picture"), rgb)
        mask = small_mask(spool.read("mask"), size, reduced.factor)
        write_image(files["overlay"], overlay(picture, mask, labels))
    for kind, file in ready.items():
        file.replace(files[kind])


def _mask(
    spool: Spool, reader: Reader, labels: LabelSet, file: Path, size: tuple[int, int]
) -> None:
    """Write the dataset's ids; pixels without data become an id that no class has."""
    nodata, dtype = _free_id(labels)

    def rows() -> Iterator[tuple[int, np.ndarray]]:
        for top, mask in spool.read("mask"):
            ids = labels.decode(mask).astype(dtype)
            ids[mask == IGNORE_INDEX] = nodata
            yield top, ids

    write_tiff(
        *(file, rows, size, dtype),
        place=reader.place,
        nodata=nodata if reader.tells_nodata else None,
        palette=labels.id_palette() if dtype == np.uint8 else None,
    )


def _confidence(
    spool: Spool, reader: Reader, labels: LabelSet, file: Path, size: tuple[int, int]
) -> None:
    """Write whole per cents."""
    write_tiff(
        *(file, lambda: spool.read("confidence"), size, np.dtype(np.uint8)),
        place=reader.place,
        nodata=IGNORE_INDEX if reader.tells_nodata else None,
    )


_MAPS = {"mask": _mask, "confidence": _confidence}


def _free_id(labels: LabelSet) -> tuple[int, np.dtype[Any]]:
    """Return an id that no class has, 255 where it is free, and the type of ids."""
    wide = max(label.id for label in labels.labels) > 254
    return (65535, np.dtype(np.uint16)) if wide else (IGNORE_INDEX, np.dtype(np.uint8))

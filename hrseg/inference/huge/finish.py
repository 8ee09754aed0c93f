"""From finished bands to the final files, which appear whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.errors import DataError
from hrseg.imaging import Georeference, write_image
from hrseg.imaging.geotiff import Rows, write_raster
from hrseg.inference.huge.small import Reduced, small_mask
from hrseg.inference.huge.spool import Spool
from hrseg.inference.outputs.scores import NODATA
from hrseg.inference.prediction import nodata_id
from hrseg.viz import overlay


def finish(
    spool: Spool,
    place: Georeference | None,
    reduced: Reduced,
    labels: LabelSet,
    files: dict[str, Path],
    size: tuple[int, int],
    rgb: bool,
) -> None:
    """Make the final files in the spool's folder, then move all of them to their places.

    Args:
        spool: All bands.
        place: Where the image lies.
        reduced: What made the bands of the reduced picture.
        labels: Names, ids and colors.
        files: Kind → file; "mask", "trainids" and "confidence" as .tif or .png.
        size: (height, width).
        rgb: Whether the picture is RGB of 8 bits.

    Raises:
        DataError: A file cannot be written; all bands are kept.
    """
    ready: dict[str, Path] = {}
    for kind, file in files.items():
        if kind == "overlay":
            continue
        ready[kind] = spool.folder / f"{kind}{file.suffix}"
        rows, dtype, nodata = _RASTERS[kind](spool, labels)
        try:
            write_raster(
                *(ready[kind], rows, size, dtype),
                georeference=place,
                nodata=nodata if file.suffix == ".tif" else None,
                palette=labels.id_palette() if kind == "mask" and dtype == np.uint8 else None,
                draft=spool.folder / "draft.tif",
            )
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


_Raster = tuple[Rows, np.dtype[Any], int]


def _ids(spool: Spool, labels: LabelSet) -> _Raster:
    nodata = nodata_id(labels)
    dtype = np.dtype(np.uint8 if nodata == IGNORE_INDEX else np.uint16)
    table = labels.decode(np.arange(256)).astype(dtype)
    table[IGNORE_INDEX] = nodata  # the network chooses a class wherever there is data
    return ((top, table[mask]) for top, mask in spool.read("mask")), dtype, nodata


_RASTERS: dict[str, Callable[[Spool, LabelSet], _Raster]] = {
    "mask": _ids,
    "trainids": lambda spool, _: (spool.read("mask"), np.dtype(np.uint8), IGNORE_INDEX),
    "confidence": lambda spool, _: (spool.read("confidence"), np.dtype(np.uint16), NODATA),
}
"""Kind → rows, their type and the value of pixels without data."""

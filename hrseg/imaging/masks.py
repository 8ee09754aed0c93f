"""Masks in: ids stay ids, and how a file keeps its pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import DataError
from hrseg.imaging.failures import foreign_code, max_pixels, too_many_pixels
from hrseg.imaging.image_file import ImageFile
from hrseg.imaging.photographs import SIXTEEN_BIT, PhotoFile
from hrseg.imaging.reading import open_stored

NAN_ID = -(2**31) + 1
"""Id that `read_mask` gives to NaN; floats cannot hold it, and no integer file is known to use it."""
_FEW_BITS = {"L;2": 85, "L;4": 17}
"""Pillow's layouts of 2 and 4 bits → the number by which it multiplies."""


@dataclass(frozen=True)
class Stored:
    """How a file keeps its pixels, read from its head.

    Attributes:
        format: PNG, JPEG, ...
        mode: Pillow's word: "1", "L", "P", "I;16", "RGB", "RGBA", ...
        palette: Colors of a palette file, (n, 3).
        alpha: Whether there is transparency.
        turned: Whether EXIF says that the picture is to be turned.
        nodata: The value that means "no data", where the file names one.
    """

    format: str
    mode: str
    palette: np.ndarray | None
    alpha: bool
    turned: bool
    nodata: float | None = None


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask as it is stored: ids stay ids, a palette is not applied, nothing is scaled.

    Returns:
        uint8 or int32 ids, NaN as NAN_ID; a color mask comes back as uint8 colors.

    Raises:
        DataError: The file is missing, truncated, not an image, or holds fractions.

    Shape:
        (H, W), or (H, W, 3) for a mask of colors
    """
    with open_stored(path) as image:
        if image.height * image.width > max_pixels():
            raise DataError(too_many_pixels(image.name))
        values = _of_photograph(image) if isinstance(image, PhotoFile) else _of_raster(image)
    if values.ndim == 2 and values.dtype not in (np.uint8, np.int32):
        return _whole(values, str(path))
    return values


def stored_form(path: str | Path) -> Stored:
    """Tell how a file keeps its pixels, without decoding them.

    Raises:
        DataError: The file is missing or not an image.
    """
    with open_stored(path) as image:
        layout, turned = image.layout, image.orientation != 1
        if isinstance(image, PhotoFile):
            return Stored(
                image.format,
                image.mode,
                image.palette,
                layout.alpha is not None,
                turned,
                layout.nodata,
            )
        return Stored(
            *(image.format, _mode(image), layout.palette, layout.alpha is not None, turned),
            nodata=layout.nodata,
        )


def _mode(image: ImageFile) -> str:
    layout = image.layout
    if layout.color in ("palette", "cmyk", "lab"):
        return {"palette": "P"}.get(layout.color, layout.color.upper())
    if image.count - (layout.alpha is not None) > 2:
        deep = "" if image.dtype == np.uint8 else ";16" if image.dtype == np.uint16 else ";F"
        return f"{'RGB' if layout.alpha is None else 'RGBA'}{deep}"
    kinds = {"uint8": "1" if layout.bits == 1 else "L", "uint16": "I;16", "bool": "1"}
    mode = kinds.get(image.dtype.name, "F" if image.dtype.kind == "f" else "I")
    return "LA" if mode == "L" and layout.alpha is not None else mode


def _of_photograph(image: PhotoFile) -> np.ndarray:
    with foreign_code(image.name):
        packed: Any = image.image
        args = packed.tile[0].args if getattr(packed, "tile", None) else None
        factor = _FEW_BITS.get(str(args[0] if isinstance(args, tuple) and args else args), 1)
        packed.load()
        if packed.mode in ("L", "P"):
            return np.array(packed) // np.uint8(factor)
        if packed.mode == "1":
            return np.array(packed, dtype=np.uint8)
        if packed.mode in (*SIXTEEN_BIT, "I", "F"):
            return np.array(packed)
        if packed.mode in ("LA", "PA"):
            return np.array(packed.getchannel(0))
        return np.array(packed.convert("RGB"))


def _of_raster(image: ImageFile) -> np.ndarray:
    layout = image.layout
    if image.dtype.kind not in "buif":
        raise DataError(
            f"{image.name} holds {image.stored_type} numbers, and a mask holds whole ids. Save it with integer ids."
        )
    values, _ = image.read(0, image.height)
    if layout.inverted:
        values = values.dtype.type(2**layout.bits - 1) - values
    bands = [band for band in range(image.count) if band != layout.alpha]
    if len(bands) <= 2 or layout.color == "palette":
        return np.ascontiguousarray(values[..., bands[0]])
    if len(bands) > 4 or values.dtype.kind not in "bu":
        raise DataError(
            f"{image.name} has {len(bands)} bands of {image.stored_type}, and a mask has one band of ids or three of "
            "color. Save the band with the ids alone (gdal_translate -b 1 in.tif out.tif)."
        )
    if layout.color in ("cmyk", "lab"):
        image.prepare(None, None)
        return image.rows(0, image.height)[0]
    colors = np.ascontiguousarray(values[..., bands[:3]])
    return colors if colors.dtype == np.uint8 else _of_deep_colors(colors, image.name)


def _of_deep_colors(values: np.ndarray, name: str) -> np.ndarray:
    """Return colors of 8 bits stored with 16, or the ids that stand in one of three 16-bit bands."""
    if not (values % 257).any():
        return (values // 257).astype(np.uint8)
    first = values[..., :1]
    if (values == first).all() or not values[..., 1:].any():
        return np.ascontiguousarray(first[..., 0])
    raise DataError(
        f"{name} holds three numbers of 16 bits for each pixel, which are neither colors of 8 bits nor ids in one "
        "band. Save the band with the class ids alone (gdal_translate -b 1 in.png out.png)."
    )


def _whole(values: np.ndarray, name: str) -> np.ndarray:
    """Return ids as int32: NaN as NAN_ID, and the ends of wider types, which mark missing data, as those of int32."""
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        return values.astype(np.int32)
    floats = values.dtype.kind == "f"
    ends = np.finfo(values.dtype) if floats else np.iinfo(values.dtype)
    wide = values.astype(np.float64)
    marks = (values <= ends.min) | (values >= ends.max)
    wide[marks] = wide[marks].clip(-(2**31), 2**31 - 1)
    if floats:
        wide[np.isnan(values)] = NAN_ID
    with np.errstate(invalid="ignore"):  # what does not fit is found below
        ids = wide.astype(np.int32)
    if (ids != wide).any():
        worst = wide[ids != wide][0]
        raise DataError(
            f"{name} holds {'fractions' if worst % 1 else 'numbers beyond 31 bits'}, such as {worst:.10g}; a mask "
            "holds whole ids. Save it with integer ids."
        )
    return ids

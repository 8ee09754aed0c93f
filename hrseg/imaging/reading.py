"""Reading of image and mask files; the format is recognized by the first bytes of a file.

`open_image` gives an open image whose rows are decoded on demand, `load_image` the whole image, `read_image` its RGB,
`read_bands` its bands as stored, `read_mask` the ids of a mask.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging.archives import in_archive, read_bytes
from hrseg.imaging.failures import foreign_code, max_pixels, opening_failed, too_many_pixels
from hrseg.imaging.georeference import Georeference
from hrseg.imaging.image_file import ArrayFile, ImageFile
from hrseg.imaging.photographs import SIXTEEN_BIT, PhotoFile, opened, orientation
from hrseg.imaging.rasters import JPEG_2000, TIFF, RasterFile

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"})
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
LOSSY_SUFFIXES = JPEG_SUFFIXES | {".webp"}
ARRAY_SUFFIXES = frozenset({".npy"})
"""Files of bands that only `data.bands` reads."""
LARGE_PHOTOGRAPH = 2**25
"""Pixels from which gray and RGB PNG files are decoded by rows."""
_PNG, _JPEG, _NPY = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x93NUMPY"
_PNG_COLORS = (2, 4, 6)
"""Color types of PNG for which Pillow drops the lower byte of 16 bits."""
NAN_ID = -(2**31) + 1
"""Id that `read_mask` gives to NaN; floats cannot hold it, and no integer file is known to use it."""
_FEW_BITS = {"L;2": 85, "L;4": 17}
"""Pillow's layouts of 2 and 4 bits → the number by which it multiplies."""
Source = str | Path | bytes | IO[bytes] | Image.Image


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image.

    Attributes:
        pixels: As the network sees them, uint8 (H, W, 3), or bands (H, W, B).
        valid: Pixels with data, bool (H, W); None: all.
        georeference: Position on the ground.
        notes: Sentences for the user.
    """

    pixels: np.ndarray
    valid: np.ndarray | None
    georeference: Georeference | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """Pixel format of a file, from its header.

    Attributes:
        format: PNG, JPEG, ...
        mode: Pillow's mode: "1", "L", "P", "I;16", "RGB", "RGBA", ...
        palette: Colors of a palette file, (n, 3).
        alpha: Whether there is transparency.
        turned: Whether EXIF gives an orientation other than upright.
        nodata: The value of pixels without data, where the file declares one.
    """

    format: str
    mode: str
    palette: np.ndarray | None
    alpha: bool
    turned: bool
    nodata: float | None = None


def open_image(
    source: Source,
    *,
    bands: Sequence[int] | None = None,
    bits: int | None = None,
    page: int = 0,
    name: str | None = None,
) -> ImageFile:
    """Open an image file of any kind.

    Args:
        source: Path, also inside a zip archive; bytes of a file; open binary file; image of Pillow.
        bands: Bands that the network sees, from 0; None: RGB of 8 bits.
        bits: Significant bits of 16-bit values; None: as the file declares, else 16.
        page: Index of the image in a file of several.
        name: Name in messages; by default the path.

    Raises:
        DataError: It is missing, damaged, no image, or cannot be converted to RGB or these bands.
    """
    image = open_stored(source, page=page, stacked=bands is not None, name=name)
    try:
        image.prepare(bands, bits)
    except BaseException:
        image.close()
        raise
    return image


def load_image(
    source: Source,
    *,
    bands: Sequence[int] | None = None,
    bits: int | None = None,
    page: int = 0,
    name: str | None = None,
) -> LoadedImage:
    """Read a whole image; see `open_image`.

    Raises:
        DataError: Also where it has more pixels than are read at once.
    """
    with open_image(source, bands=bands, bits=bits, page=page, name=name) as image:
        if image.height * image.width > max_pixels():
            raise DataError(too_many_pixels(image.name))
        pixels, valid = image.rows(0, image.height)
        return LoadedImage(pixels, valid, image.georeference, image.notes)


def read_image(source: Source) -> np.ndarray:
    """Read any image as RGB.

    The EXIF orientation is undone, palettes are applied, 16 bits become 8, transparency is blended with white. Of
    several pages the first is read.

    Returns:
        uint8 RGB.

    Raises:
        DataError: The file is missing, truncated, empty, too large or not an image.

    Shape:
        (H, W, 3)
    """
    return load_image(source).pixels


def read_bands(source: Source, bands: Sequence[int] | None = None) -> np.ndarray:
    """Read bands of an image with their stored values.

    Pages of one band and one size are the bands of one image.

    Args:
        source: TIFF, .npy, PNG or any image file, also inside a zip archive.
        bands: Their indices from 0, in the order of the result; None: all.

    Returns:
        uint8, uint16 or float32; other types become float32.

    Raises:
        DataError: The file is missing or damaged, lacks a band, or holds numbers that are not finite.

    Shape:
        (H, W, B)
    """
    if bands is None:
        with open_stored(source, stacked=True) as image:
            bands = range(image.count)
    return load_image(source, bands=bands).pixels


def read_georeference(path: str | Path) -> Georeference | None:
    """Return the georeference from a file's tags, an .aux.xml or a world file; None without any.

    Raises:
        DataError: The file is missing or not an image.
    """
    with open_stored(path) as image:
        return image.georeference


def image_size(source: Source) -> tuple[int, int]:
    """Return (height, width) of what `read_image` gives, without decoding the pixels.

    Raises:
        DataError: The file is missing, not an image, or too large to be read at once.
    """
    with open_stored(source) as image:
        if image.height * image.width > max_pixels():
            raise DataError(too_many_pixels(image.name))
        return image.height, image.width


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
        values = _photo_ids(image) if isinstance(image, PhotoFile) else _raster_ids(image)
    if values.ndim == 2 and values.dtype not in (np.uint8, np.int32):
        return _to_int32(values, str(path))
    return values


def stored_form(path: str | Path) -> Stored:
    """Return the pixel format of a file without decoding it.

    Raises:
        DataError: The file is missing or not an image.
    """
    with open_stored(path) as image:
        layout, turned = image.layout, image.orientation != 1
        if isinstance(image, PhotoFile):
            mode, palette = image.mode, image.palette
        else:
            mode, palette = _mode(image), layout.palette
        alpha = layout.alpha is not None
        return Stored(image.format, mode, palette, alpha, turned, layout.nodata)


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


def _photo_ids(image: PhotoFile) -> np.ndarray:
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


def _raster_ids(image: ImageFile) -> np.ndarray:
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
    colors = np.ascontiguousarray(values[..., bands[:3]])  # (H, W, 3)
    return colors if colors.dtype == np.uint8 else _from_16_bit_colors(colors, image.name)


def _from_16_bit_colors(values: np.ndarray, name: str) -> np.ndarray:
    """Return 8-bit colors that were stored with 16 bits, or ids stored in one of three 16-bit bands."""
    if not (values % 257).any():
        return (values // 257).astype(np.uint8)
    first = values[..., :1]
    if (values == first).all() or not values[..., 1:].any():
        return np.ascontiguousarray(first[..., 0])
    raise DataError(
        f"{name} holds three numbers of 16 bits for each pixel, which are neither colors of 8 bits nor ids in one "
        "band. Save the band with the class ids alone (gdal_translate -b 1 in.png out.png)."
    )


def _to_int32(values: np.ndarray, name: str) -> np.ndarray:
    """Return ids as int32: NaN becomes NAN_ID, the extremes of wider types, which mark missing data, those of int32."""
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        return values.astype(np.int32)
    floats = values.dtype.kind == "f"
    ends = np.finfo(values.dtype) if floats else np.iinfo(values.dtype)
    wide = values.astype(np.float64)
    marks = (values <= ends.min) | (values >= ends.max)
    wide[marks] = wide[marks].clip(-(2**31), 2**31 - 1)
    if floats:
        wide[np.isnan(values)] = NAN_ID
    with np.errstate(invalid="ignore"):  # values that do not fit are found below
        ids = wide.astype(np.int32)
    if (ids != wide).any():
        worst = wide[ids != wide][0]
        raise DataError(
            f"{name} holds {'fractions' if worst % 1 else 'numbers beyond 31 bits'}, such as {worst:.10g}; a mask "
            "holds whole ids. Save it with integer ids."
        )
    return ids


def _content(source: Source, name: str | None) -> tuple[Path | bytes | Image.Image, str]:
    """Return an absolute path, bytes or an image of Pillow, and a name for messages."""
    if isinstance(source, str | Path):
        name = name or str(source)
        path = Path(source)
        if in_archive(path):
            return read_bytes(path), name
        try:
            path = path.absolute()
            with path.open("rb"):
                return path, name
        except OSError as error:
            raise opening_failed(name, error) from error
        except ValueError as error:  # a zero byte in the path
            raise DataError(f"{name!r} is no path of a file: {error}.") from error
    if isinstance(source, bytes):
        return source, name or "The image"
    named = str(getattr(source, "filename", "") or getattr(source, "name", "") or "The image")
    if isinstance(source, Image.Image):
        return source, name or named
    try:
        if source.seekable():
            source.seek(0)
        return source.read(), name or named
    except OSError as error:
        raise opening_failed(name or named, error) from error


def open_stored(source: Source, *, page: int = 0, stacked: bool = False, name: str | None = None) -> ImageFile:
    """Open a file of any type and number of bands, such as a mask.

    Args:
        source: See `open_image`.
        page: Index of the image in a file of several.
        stacked: Whether pages of one band and one size are the bands of one image.
        name: For messages.

    Raises:
        DataError: It is missing, damaged or no image.
    """
    content, name = _content(source, name)
    if isinstance(content, Image.Image):
        return PhotoFile(content, name, page=page)
    start = _start(content, name)
    if start.startswith(TIFF):
        return RasterFile(content, name, page=page, stacked=stacked)
    if start.startswith(JPEG_2000):
        try:
            return RasterFile(content, name)
        except DataError as error:  # small ones and bare streams that only Pillow takes
            with contextlib.suppress(DataError):
                return PhotoFile(content, name, page=page)
            raise error
    if start.startswith(_NPY):
        return ArrayFile(content, name)
    if start.startswith(_PNG) and start[24:25] == b"\x10" and start[25] in _PNG_COLORS:
        return RasterFile(content, name, orientation=_orientation(content, name))
    if start.startswith((_PNG, _JPEG)):
        return _photograph_by_rows(content, name) or PhotoFile(content, name, page=page)
    return PhotoFile(content, name, page=page)


def _photograph_by_rows(content: Path | bytes, name: str) -> ImageFile | None:
    """Open a large gray or RGB photograph with GDAL, which decodes by rows; None where Pillow decodes it as a whole.

    A PNG has the same pixels either way. GDAL upsamples the chroma of a JPEG unlike Pillow, so only a JPEG that is
    too large for Pillow is opened with GDAL.
    """
    turned = 1
    with foreign_code(name):
        try:
            with opened(content) as image:
                large = image.width * image.height > LARGE_PHOTOGRAPH and image.format == "PNG"
                if not large or image.mode not in ("L", "RGB") or "transparency" in image.info:
                    return None
                turned = orientation(image)
        except Image.DecompressionBombError:
            pass
        except Exception:
            return None  # PhotoFile raises the error
    return RasterFile(content, name, orientation=turned)


def _orientation(content: Path | bytes, name: str) -> int:
    with foreign_code(name), opened(content) as image:
        return orientation(image)


def _start(content: Path | bytes, name: str) -> bytes:
    if isinstance(content, bytes):
        return content[:32]
    try:
        with content.open("rb") as file:
            return file.read(32)
    except OSError as error:
        raise opening_failed(name, error) from error

"""Image and mask files in: whatever is on disk becomes uint8 RGB, or the plain ids of a mask.

Grey, palette, 16 bit, CMYK, transparent, rotated by EXIF: Pillow opens it, and every way in which a file can be
broken becomes one sentence.
"""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hrseg.archived import in_archive, read_bytes
from hrseg.errors import DataError
from hrseg.imaging.values import grey_to_rgb

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"}
)
ARRAY_SUFFIXES = frozenset({".npy"})
"""Files of bands that only `data.bands` reads."""
NAN_ID = -(2**31) + 1
"""Id that `read_mask` gives to NaN; no integer file has been seen to use it."""
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
_ORIENTATION = 0x0112
_GDAL_NODATA = 42113
# What Pillow's decoders raise on damaged files; several of them are no OSError.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError),
    *(OverflowError, MemoryError, struct.error, zlib.error),
)


def read_image(source: str | Path | IO[bytes] | Image.Image) -> np.ndarray:
    """Read any image as RGB.

    EXIF rotation is applied, palettes are resolved, 16-bit greys are divided by 257 (unless no value goes beyond
    255), transparency is laid on white. Of several frames the first is read.

    Args:
        source: A path, an open binary file, or a PIL image.

    Returns:
        uint8 RGB.

    Raises:
        DataError: The file is missing, truncated, empty, too large or not an image.

    Shape:
        (H, W, 3)
    """
    with _opened(source) as image:
        return _to_rgb(_upright(image))


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask as it is stored: ids stay ids, a palette is not applied, nothing is scaled or turned.

    Returns:
        uint8 or int32 ids; a colour mask comes back as uint8 colours.

    Raises:
        DataError: The file is missing, truncated, not an image, or holds fractions.

    Shape:
        (H, W), or (H, W, 3) for a mask of colours
    """
    with _opened(path) as image:
        if image.mode in ("L", "P"):
            return np.array(image)
        if image.mode == "1":
            return np.array(image, dtype=np.uint8)
        if image.mode in _SIXTEEN_BIT:
            return np.array(image).astype(np.int32)
        if image.mode in ("LA", "PA"):
            return np.array(image.getchannel(0))
        if image.mode == "F":
            return _whole(np.array(image), path)
        return np.array(image.convert("RGB"))


def image_size(path: str | Path | IO[bytes]) -> tuple[int, int]:
    """Return (height, width) of what `read_image` gives, without decoding the pixels.

    Raises:
        DataError: The file is missing or not an image.
    """
    with _opened(path, load=False) as image:
        tags = getattr(
            image, "tag_v2", None
        )  # Pillow gives a TIFF's size turned or not, by version
        width, height = (tags[256], tags[257]) if tags else image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


@dataclass(frozen=True)
class Stored:
    """How a file keeps its pixels, read from its head.

    Attributes:
        format: PNG, JPEG, ...
        mode: Pillow's word: "1", "L", "P", "I;16", "RGB", "RGBA", ...
        palette: Colours of a palette file, (n, 3).
        alpha: Whether there is transparency.
        turned: Whether EXIF says that the picture is to be turned.
        nodata: The value that a TIFF names as "no data" (GDAL's tag), or None.
    """

    format: str
    mode: str
    palette: np.ndarray | None
    alpha: bool
    turned: bool
    nodata: float | None = None


def stored_form(path: str | Path) -> Stored:
    """Tell how a file keeps its pixels, without decoding them.

    Raises:
        DataError: The file is missing or not an image.
    """
    with _opened(path, load=False) as image:
        palette = None
        if image.mode in ("P", "PA"):
            palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        alpha = image.mode in _TRANSPARENT or "transparency" in image.info
        turned = _orientation(image) != 1
        return Stored(image.format or "", image.mode, palette, alpha, turned, _nodata(image))


@contextlib.contextmanager
def _opened(
    source: str | Path | IO[bytes] | Image.Image, load: bool = True
) -> Iterator[Image.Image]:
    """Open an image and turn every way it can be broken into one sentence."""
    if isinstance(source, str | Path):
        name, size = str(source), _size(source)
    else:
        name, size = (
            str(getattr(source, "filename", "") or getattr(source, "name", "The image")),
            "",
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images (it refuses huge ones) and of damaged EXIF; neither needs an answer
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                source.load()
                yield source
                return
            packed = isinstance(source, str | Path) and in_archive(Path(source))
            with Image.open(io.BytesIO(read_bytes(Path(name))) if packed else source) as image:
                if load:
                    image.load()
                yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"No such file: {name}. Check the path.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(
            f"{name} cannot be opened: {error.strerror}. Give a file to read."
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not an image that can be read{size}. Replace it.") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{name} claims more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, the most that are read at "
            "once. Cut it into parts."
        ) from error
    except _DAMAGE as error:
        raise DataError(
            f"{name} cannot be read: {str(error) or type(error).__name__}. It is probably damaged{size}; "
            "copy it again."
        ) from error


def _nodata(image: Image.Image) -> float | None:
    try:
        return float(getattr(image, "tag_v2", {})[_GDAL_NODATA].strip(" \0"))
    except (LookupError, ValueError, AttributeError):
        return None


def _size(path: str | Path) -> str:
    try:
        size = Path(path).stat().st_size
    except (OSError, ValueError):
        return ""
    return f" ({size:,} byte{'s' * (size != 1)})"


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or it cannot be read; 5 to 8 swap the axes."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole file to look behind the pixels
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:
        return 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:  # a tag that can be read and not rewritten
        return image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN_BIT:
        return grey_to_rgb(_sixteen_to_eight(np.array(image)))
    if image.mode == "F":
        values = np.nan_to_num(np.array(image))
        factor = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return grey_to_rgb((values * factor).round().clip(0, 255).astype(np.uint8))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, clear).convert("RGB"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _whole(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Return floats as ids: NaN as NAN_ID, and floats beyond int32 (other marks of "no data") as its ends."""
    nothing = np.isnan(values)
    wide = np.where(nothing, NAN_ID, values.astype(np.float64)).clip(-(2**31), 2**31 - 1)
    ids = wide.astype(np.int32)
    if (ids != wide).any():
        raise DataError(
            f"{path} holds fractions; a mask holds whole ids. Save it with integer ids."
        )
    return ids


def _sixteen_to_eight(values: np.ndarray) -> np.ndarray:
    if values.max(initial=0) <= 255:  # a 16-bit file that holds 8-bit values
        return values.clip(0, 255).astype(np.uint8)
    return (values.clip(0, 65535).astype(np.float32) / 257.0).round().astype(np.uint8)

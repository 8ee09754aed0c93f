"""Image and mask files in: one door for every kind, chosen by the first bytes of a file.

`open_image` gives an open image whose rows come on demand, `load_image` all of it, `read_image` its RGB alone,
`read_bands` its bands as stored, `read_mask` the ids of a mask.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging.archives import in_archive, read_bytes
from hrseg.imaging.failures import foreign_code, max_pixels, opening_failed, too_many_pixels
from hrseg.imaging.georeference import Georeference, beside
from hrseg.imaging.image_file import ImageFile, Layout
from hrseg.imaging.photographs import PhotoFile, opened, orientation
from hrseg.imaging.rasters import JPEG_2000, TIFF, RasterFile

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"}
)
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
LOSSY_SUFFIXES = JPEG_SUFFIXES | {".webp"}
ARRAY_SUFFIXES = frozenset({".npy"})
"""Files of bands that only `data.bands` reads."""
LARGE_PHOTOGRAPH = 2**25
"""Pixels from which PNG files of plain colors are read by rows."""
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_COLORS = (2, 4, 6)
"""Color types of PNG with several bands, of which Pillow drops the lower byte of 16 bits."""
Source = str | Path | bytes | IO[bytes] | Image.Image


@dataclass(frozen=True)
class LoadedImage:
    """All of an image.

    Attributes:
        pixels: As the network sees them, uint8 (H, W, 3), or bands (H, W, B).
        valid: Where there is data, bool (H, W); None: everywhere.
        georeference: Where the image lies.
        notes: Sentences for the user.
    """

    pixels: np.ndarray
    valid: np.ndarray | None
    georeference: Georeference | None
    notes: tuple[str, ...]


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
        source: A path, which may lie in a zip archive; the bytes of a file; an open binary file; an image of Pillow.
        bands: Bands that the network sees, from 0; None: RGB of 8 bits.
        bits: Significant bits of 16-bit values; None: what the file says, else all 16.
        page: Which image of a file of several.
        name: For messages; by default the path.

    Raises:
        DataError: It is missing, damaged, no image, or cannot become what the network sees.
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
    """Read all of an image; see `open_image`.

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

    It is turned upright, palettes are resolved, 16 bits become 8, transparency is laid on white. Of several pages
    the first is read.

    Returns:
        uint8 RGB.

    Raises:
        DataError: The file is missing, truncated, empty, too large or not an image.

    Shape:
        (H, W, 3)
    """
    return load_image(source).pixels


def read_bands(source: Source, bands: Sequence[int] | None = None) -> np.ndarray:
    """Read bands of an image, with their values as they are stored.

    Pages of one band and one size are the bands of one image.

    Args:
        source: TIFF, .npy, PNG or any image file; it may lie in a zip archive.
        bands: Which ones, from 0; they come in this order. None takes all.

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
    """Return where an image file lies: from its own tags, an .aux.xml or a world file; None where nothing says it.

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


def open_stored(
    source: Source, *, page: int = 0, stacked: bool = False, name: str | None = None
) -> ImageFile:
    """Open a file whatever it holds, such as the ids of a mask; nothing is refused for its type or bands.

    Args:
        source: See `open_image`.
        page: Which image of a file of several.
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
    if start.startswith(NPY):
        return ArrayFile(content, name)
    if start.startswith(_PNG) and start[24:25] == b"\x10" and start[25] in _PNG_COLORS:
        return RasterFile(content, name, orientation=_orientation(content, name))
    if start.startswith((_PNG, _JPEG)):
        return _photograph_by_rows(content, name) or PhotoFile(content, name, page=page)
    return PhotoFile(content, name, page=page)


def _photograph_by_rows(content: Path | bytes, name: str) -> ImageFile | None:
    """Open a large picture of plain colors by rows; None where it is to be decoded whole.

    A PNG has the same pixels by either way. GDAL smooths the colors of a JPEG in another way than Pillow, so that only
    a JPEG too large for Pillow is left to it.
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
            return None  # whoever decodes it whole says what is wrong
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


NPY = b"\x93NUMPY"


class ArrayFile(ImageFile):
    """A .npy file, mapped anew for each read, so that pages that were read do not stay in memory.

    An array of three axes is (H, W, B) unless its first axis is shorter than its last: then it is (B, H, W). One of
    two axes has one band.

    Args:
        source: An absolute path, or the bytes of the file.
        name: For messages.

    Raises:
        DataError: It is damaged, or no image.
    """

    def __init__(self, source: Path | bytes, name: str) -> None:
        super().__init__()
        self.name, self._source = name, source
        values = self._mapped()
        if values.ndim not in (2, 3) or not values.size or values.dtype.kind not in "buif":
            raise DataError(
                f"{name} holds {values.dtype} of shape {values.shape}, which is no image. Save numbers as (H, W, B), "
                "(B, H, W) or (H, W)."
            )
        self._bands_first = values.ndim == 3 and values.shape[0] < values.shape[2]
        self.height, self.width, self.count = self._last(values).shape
        self.dtype, self.block = values.dtype.newbyteorder("="), 1
        color = {1: "gray", 3: "rgb"}.get(self.count, "bands")
        self.layout = Layout(color, bits=min(16, 8 * self.dtype.itemsize))
        if isinstance(source, Path):
            self.georeference = beside(source)

    def read(self, top: int, bottom: int) -> tuple[np.ndarray, None]:
        """Copy rows."""
        return np.array(self._last(self._mapped())[top:bottom], self.dtype), None

    def _last(self, values: np.ndarray) -> np.ndarray:
        if values.ndim == 2:
            return values[..., None]
        return np.moveaxis(values, 0, 2) if self._bands_first else values

    def _mapped(self) -> np.ndarray:
        try:
            if isinstance(self._source, bytes):
                return np.asarray(np.load(io.BytesIO(self._source), allow_pickle=False))
            return np.asarray(np.load(self._source, mmap_mode="r", allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise DataError(
                f"{self.name} is not a whole array of numbers: {error}. Save it again with numpy.save."
            ) from error

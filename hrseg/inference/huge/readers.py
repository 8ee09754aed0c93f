"""Images that are read from top to bottom, some rows at a time: the reader every format shares, and the choice.

A reader gives values as the file stores them; `look` makes of them what the network sees.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from hrseg.errors import DataError, HrsegError
from hrseg.imaging import image_size, read_bands, read_image, stored_form

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY = b"\x93NUMPY"
_WHOLE_BYTES = (
    8  # of a pixel while Pillow decodes: four of its own, three of the array, and some for turning
)


@dataclass(frozen=True)
class Head:
    """What a file says before any of its pixels is read.

    Attributes:
        height: Rows.
        width: Columns.
        samples: Values of a pixel.
        dtype: Their type.
        palette: Colours that the values stand for, uint8 (n, 3).
        alpha: Which sample is opacity.
        inverted: Whether 0 is white.
        nodata: The value of pixels without data.
        block: Rows that are decoded together.
        reserve: Bytes that reading takes beside what it returns.
    """

    height: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    palette: np.ndarray | None = None
    alpha: int | None = None
    inverted: bool = False
    nodata: float | None = None
    block: int = 1
    reserve: int = 0

    @property
    def row_bytes(self) -> int:
        """Of one row as stored."""
        return self.width * self.samples * self.dtype.itemsize


@dataclass(frozen=True)
class Place:
    """Where an image lies on the ground, as its file says it.

    Attributes:
        crs: rasterio's coordinate reference system.
        transform: From pixels to coordinates.
        gcps: Ground control points and their reference system.
        tags: GeoTIFF tags as tifffile takes them; instead of the others where rasterio did not read the file.
    """

    crs: Any = None
    transform: Any = None
    gcps: Any = None
    tags: tuple[Any, ...] = ()


class Reader(ABC):
    """An open image file."""

    path: Path
    head: Head
    place: Place | None = None

    @abstractmethod
    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Return rows as stored. Shape: (bottom - top, W, samples).

        Raises:
            DataError: The file is damaged.
        """

    def valid(self, values: np.ndarray, top: int) -> np.ndarray | None:
        """Tell which pixels of the rows just read have data; None: all of them. Shape: bool (rows, W)."""
        head = self.head
        if head.alpha is not None:
            seen: np.ndarray = values[..., head.alpha] != 0
            return seen
        if head.nodata is None:
            return None
        without = np.isnan(values) if np.isnan(head.nodata) else values == head.nodata
        return ~without.all(axis=2)

    @property
    def tells_nodata(self) -> bool:
        """Whether the file says which pixels have no data."""
        return self.head.alpha is not None or self.head.nodata is not None

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ArrayReader(Reader):
    """A .npy file, mapped anew for each read, so that pages that were read do not stay in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        values = self._mapped()
        if values.ndim not in (2, 3) or not values.size or values.dtype.kind not in "buif":
            raise DataError(
                f"{path} holds {values.dtype} of shape {values.shape}, which is no image. Save numbers as (H, W, B), "
                "(B, H, W) or (H, W)."
            )
        self._bands_first = values.ndim == 3 and values.shape[0] < values.shape[2]
        height, width, samples = self._last(values).shape
        self.head = Head(height, width, samples, values.dtype)

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Copy rows."""
        return np.ascontiguousarray(self._last(self._mapped())[top:bottom])

    def _last(self, values: np.ndarray) -> np.ndarray:
        if values.ndim == 2:
            return values[..., None]
        return np.moveaxis(values, 0, 2) if self._bands_first else values

    def _mapped(self) -> np.ndarray:
        try:
            values: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{self.path} is not a whole array of numbers: {error}. Save it again with numpy.save."
            ) from error
        return values


class WholeReader(Reader):
    """A PNG, JPEG or other compressed picture, decoded whole: for these there is no way to begin in the middle."""

    def __init__(self, path: Path, rgb: bool, limit: int | None) -> None:
        self.path = path
        height, width = image_size(path)
        need = height * width * _WHOLE_BYTES
        if limit is not None and need > limit:
            raise DataError(
                f"{path} has {height} x {width} pixels and can only be decoded whole, which takes {need / 2**30:.1f} "
                f"GiB; {max(0, limit) / 2**30:.1f} GiB are left for it. Allow more with --max-memory, make it a tiled "
                f"TIFF (gdal_translate -co TILED=YES -co COMPRESS=DEFLATE {path.name} {path.stem}.tif), or install "
                "hrseg[geo], which reads it row by row."
            )
        self._values = read_image(path) if rgb else read_bands(path)
        height, width, samples = self._values.shape
        self.head = Head(height, width, samples, self._values.dtype)

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Return a view."""
        return self._values[top:bottom]


def open_reader(path: str | Path, *, rgb: bool = True, limit: int | None = None) -> Reader:
    """Open an image file with the reader that needs least memory.

    TIFFs are read by rasterio where it is installed, else by tifffile; arrays are mapped; other pictures are
    read by rasterio row by row, and without it decoded whole.

    Args:
        path: The file.
        rgb: Whether it is to be RGB of 8 bits; matters to pictures that are decoded whole.
        limit: Bytes that decoding may take.

    Raises:
        DataError: It is missing, damaged, or would need more memory.
        MissingExtraError: It is a TIFF, and neither tifffile nor rasterio is there.
    """
    from hrseg.inference.huge.geo import RasterReader, has_rasterio
    from hrseg.inference.huge.tiff import TiffReader

    path = Path(path)
    start = _start(path)
    if start.startswith(_NPY):
        return ArrayReader(path)
    if start.startswith(_TIFF):
        if has_rasterio() and RasterReader.suits(path):
            return RasterReader(path)
        return TiffReader(path)
    if has_rasterio() and _plain(path) and RasterReader.suits(path):
        return RasterReader(path)
    return WholeReader(path, rgb, limit)


def size_of(path: Path) -> tuple[int, int]:
    """Return (height, width) from a file's head, however large it claims to be.

    Raises:
        DataError: It cannot be read.
        MissingExtraError: It is a TIFF that only a missing package reads.
    """
    from hrseg.inference.huge.geo import RasterReader, has_rasterio

    if _start(path).startswith((_NPY, *_TIFF)):
        with open_reader(path) as reader:
            return reader.head.height, reader.head.width
    try:
        return image_size(path)
    except DataError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            return Image.MAX_IMAGE_PIXELS or 1, 2  # at least
        if has_rasterio() and RasterReader.suits(path):  # formats that only GDAL knows
            with RasterReader(path) as reader:
                return reader.head.height, reader.head.width
        raise


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(6)
    except FileNotFoundError as error:
        raise DataError(f"No such file: {path}. Check the path.") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be opened: {error.strerror}. Give a file to read."
        ) from error


def _plain(path: Path) -> bool:
    """Tell whether a picture is stored the right way up; EXIF turns are for `imaging.read_image`."""
    try:
        return not stored_form(path).turned
    except HrsegError:  # too large for Pillow, or a format of GDAL's only
        return True

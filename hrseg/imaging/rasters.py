"""Raster files through rasterio (GDAL): TIFF and JPEG 2000 of any size, and PNG and JPEG where Pillow gives less.

GDAL follows references in files: to other files, databases, URLs. Here it gets one local file or bytes in memory and
the driver of their signature, reads no file beside it, and runs without the drivers that follow references.
"""

import functools
import io
import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import TiffImagePlugin

from hrseg.errors import DataError, parse_json
from hrseg.imaging.failures import file_size, foreign_code, silent_libraries
from hrseg.imaging.georeference import Georeference, aux_root, beside, crs_name, from_points
from hrseg.imaging.image_file import UPRIGHT, ImageFile, Layout

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
DRIVERS = {
    **dict.fromkeys(TIFF, "GTiff"),
    **dict.fromkeys(JPEG_2000, "JP2OpenJPEG"),
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
"""First bytes → GDAL's driver."""
CACHE = 64 * 2**20
"""Bytes of GDAL's cache of decoded blocks; its default is 5 % of the memory."""
_SETTINGS = {
    "GDAL_CACHEMAX": CACHE,
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no file beside the image is looked for
    "GDAL_PAM_ENABLED": "NO",  # .aux.xml neither read nor written
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",  # no address is read
}
_UNSAFE_DRIVERS = (
    "VRT,DERIVED,GTI,HTTP,WMS,WMTS,WCS,EEDA,EEDAI,PLMOSAIC,DAAS,ESRIC,STACIT,STACTA,Rasterlite,MBTiles,MRF,Zarr,"
    "KMLSUPEROVERLAY,OSM,GNMFile,GNMDatabase,SQLite,PDS4,TIL,SAFE,SENTINEL2,SNAP_TIFF,RRASTER,PCIDSK"
)
_MAX_PAGES = 2**12
_PHOTOMETRIC, _EXTRA, _ORIENTATION, _COLORMAP, _MAX_SAMPLE, _SUBFILE = 262, 338, 274, 320, 281, 254
_DESCRIPTION = 270
_WHITE_IS_ZERO, _PALETTE, _CMYK, _LAB = 0, 3, 5, 8
_UNREAD = {
    9: "ICCLab",
    10: "ITULab",
    32844: "LogL",
    32845: "LogLuv",
    32803: "raw camera",
    34892: "raw camera",
}
"""Values of PhotometricInterpretation that neither GDAL nor Pillow turns into RGB."""
_TYPES = {"complex_int16": "complex64"}
"""GDAL's types that numpy lacks."""


@functools.cache
def _rasterio() -> Any:
    """Import rasterio; GDAL registers its drivers without the unsafe ones."""
    import rasterio
    import rasterio.errors
    import rasterio.io
    import rasterio.windows

    before = os.environ.get("GDAL_SKIP")
    os.environ["GDAL_SKIP"] = ",".join(filter(None, (before, _UNSAFE_DRIVERS)))
    try:
        with rasterio.Env():  # the first one of a process registers drivers
            pass
    finally:
        if before is None:
            del os.environ["GDAL_SKIP"]
        else:
            os.environ["GDAL_SKIP"] = before
    return rasterio


@contextmanager
def gdal_settings() -> Iterator[None]:
    """Bound GDAL's cache, and restrict it to its one file."""
    with silent_libraries(), _rasterio().Env(**_SETTINGS):
        yield


_SMALL = 1 << 25
"""Pixels of an image that may take any number of bytes."""
_PIXELS_OF_A_BYTE = 100_000
"""Deflate reaches 8,256 pixels of one bit, a GeoTIFF without any tile 16,000."""


class RasterFile(ImageFile):
    """A TIFF, a JPEG 2000 file, or a PNG or JPEG by rows.

    Args:
        source: An absolute path, or the bytes of the file.
        name: For messages.
        page: Index of the image in a TIFF.
        stacked: Whether one-band pages of one size are the bands of one image.
        orientation: EXIF orientation, for formats other than TIFF.

    Raises:
        DataError: The file is damaged or of a kind that GDAL does not decode.
    """

    def __init__(
        self,
        source: Path | bytes,
        name: str,
        *,
        page: int = 0,
        stacked: bool = False,
        orientation: int = 1,
    ) -> None:
        super().__init__()
        self.name = name
        self._stack = ExitStack()
        self._files: list[Any] = []
        self._mask_file: Any = None
        with _stream(source) as file:
            start = file.read(16)
        driver = next(driver for mark, driver in DRIVERS.items() if start.startswith(mark))
        self.format = {"GTiff": "TIFF", "JP2OpenJPEG": "JPEG2000"}.get(driver, driver)
        tags, numbers = _pages(source, name) if driver == "GTiff" else ({}, [1])
        self.pages = len(numbers)
        if not 0 <= page < self.pages:
            raise DataError(
                f"{name} has {self.pages} page{'s' * (self.pages != 1)} (0 to {self.pages - 1}) and no page {page}."
            )
        numbers = numbers if stacked and self.pages > 1 else numbers[page : page + 1]
        try:
            self._files = self._open(source, driver, numbers, tags)
            with gdal_settings():  # without them GDAL prints to the terminal
                self._describe(tags, int(tags.get(_ORIENTATION, orientation)))
                self._check_density(source)
                self._read_georeference(source)
        except BaseException:
            self._stack.close()
            raise
        if self.pages > 1 and len(self._files) == 1:
            self._notes.append(f"{name} has {self.pages} pages; page {page} is read and the others are left out.")

    def _check_density(self, source: Path | bytes) -> None:
        """Refuse a header that claims far more pixels than the file's bytes can describe, empty tiles included."""
        size = len(source) if isinstance(source, bytes) else file_size(source) or 0
        if self.height * self.width > max(_SMALL, _PIXELS_OF_A_BYTE * size):
            raise DataError(
                f"{self.name} claims {self.width:,} x {self.height:,} pixels in {size:,} bytes, which no picture has. "
                "It is damaged or made to fill memory and time; leave it out."
            )

    def _open(self, source: Path | bytes, driver: str, numbers: list[int], tags: dict[int, Any]) -> list[Any]:
        """Open the pages, by their numbers in the file from 1."""
        rasterio = _rasterio()
        with foreign_code(self.name), gdal_settings():
            if isinstance(source, bytes):
                memory = self._stack.enter_context(rasterio.io.MemoryFile(source))
                place = memory.name
            else:
                place = str(source)
            if tags.get(_PHOTOMETRIC) in (_CMYK, _LAB):  # GDAL's own conversion is not Pillow's
                place = f"GTIFF_RAW:{place}"
            paths = [place] if numbers == [1] else [f"GTIFF_DIR:{n}:{place}" for n in numbers]
            files = [self._stack.enter_context(rasterio.open(path, driver=driver)) for path in paths]
        first = files[0]
        if any((f.count, f.shape, f.dtypes) != (1, first.shape, first.dtypes) for f in files[1:]):
            return files[:1]
        return files if first.count == 1 else files[:1]

    def _describe(self, tags: dict[int, Any], orientation: int) -> None:
        first = self._files[0]
        self.count = first.count if len(self._files) == 1 else len(self._files)
        kinds = set(first.dtypes)
        if len(kinds) > 1:
            raise DataError(
                f"{self.name} has bands of several types: {', '.join(sorted(kinds))}. Save them as one type."
            )
        self.dtype = np.dtype(_TYPES.get(first.dtypes[0], first.dtypes[0]))
        self.orientation = orientation if 1 <= orientation <= 8 else 1
        swapped = self.orientation >= 5
        self.height, self.width = (first.shape[1], first.shape[0]) if swapped else first.shape
        self.block = min(first.block_shapes[0][1 if swapped else 0], self.height)
        self._rows_are_pages = len(self._files) > 1 and _tifffile_shape(tags) == (
            *(len(self._files), self.height, self.width),
        )
        if self._rows_are_pages:
            self.height, self.width, self.count = len(self._files), self.height, self.width
            self.block = 1
        self.layout = self._layout(tags)
        flags = [flag.name for flag in first.mask_flag_enums[0]]
        self._masked = "per_dataset" in flags and "alpha" not in flags

    def _layout(self, tags: dict[int, Any]) -> Layout:
        first = self._files[0]
        bits = int(first.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 0))
        color, palette, alpha = self._color(tags)
        depth = 8 * self.dtype.itemsize
        top = _first(tags.get(_MAX_SAMPLE), 0)
        if not bits and depth == 16 and top in [2**n - 1 for n in range(9, 16)]:
            bits = int(top).bit_length()  # only such a number says something about all images
        return Layout(
            color=color,
            bits=bits if 0 < bits < depth else min(depth, 16),
            inverted=color == "gray" and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
            palette=palette,
            alpha=alpha,
            premultiplied=alpha is not None and _first(tags.get(_EXTRA), 2) == 1,
            nodata=first.nodata,
        )

    def _color(self, tags: dict[int, Any]) -> tuple[str, np.ndarray | None, int | None]:
        """Return the color of `Layout`, the palette, and the index of the opacity band."""
        first = self._files[0]
        meanings = [meaning.name for meaning in first.colorinterp]
        photometric = tags.get(_PHOTOMETRIC)
        if photometric in _UNREAD:
            raise DataError(
                f"{self.name} holds {_UNREAD[photometric]} colors, which are not converted here. Save it as RGB."
            )
        if photometric == _PALETTE and tags.get(_COLORMAP) is not None:
            table = np.array(tags[_COLORMAP], np.uint32).reshape(3, -1).T  # (256, 3), of 16 bits
            return "palette", (table >> 8).astype(np.uint8), None
        if not tags and meanings[0] == "palette":
            colors = first.colormap(1)
            table = np.zeros((max(colors) + 1, 3), np.uint32)
            for value, color in colors.items():
                table[value] = color[:3]
            return "palette", table.astype(np.uint8), None
        alpha = meanings.index("alpha") if "alpha" in meanings and self.count > 1 else None
        if photometric == _CMYK and self.count >= 4:
            return "cmyk", None, None
        if photometric == _LAB and self.count == 3:
            return "lab", None, None
        if len(self._files) > 1:
            return "bands", None, None
        if alpha is not None and self.count - 1 >= 3 and self._holds_band(alpha):
            self._notes.append(
                f"{self.name} marks band {alpha} as opacity, but it holds many values, as near infrared does: it is "
                "taken for a band. A model of all bands is trained with data.bands."
            )
            alpha = None
        if meanings[:3] == ["red", "green", "blue"]:
            return "rgb", None, alpha
        return ("gray" if self.count - (alpha is not None) == 1 else "bands"), None, alpha

    def _holds_band(self, alpha: int) -> bool:
        """Return whether most values of an opacity band are neither 0 nor the maximum, in up to 16 windows."""
        first = self._files[0]
        side = 256
        spots = itertools.product(_spread(first.height, side), _spread(first.width, side))
        between = total = 0
        top = 255 if self.dtype == np.uint8 else 65535
        for row, column in spots:
            window = _rasterio().windows.Window(
                column, row, min(side, first.width - column), min(side, first.height - row)
            )
            with foreign_code(self.name), gdal_settings():
                values = first.read(alpha + 1, window=window)
            between += int(((values > 0) & (values < top)).sum())
            total += values.size
        return 2 * between > total

    def _read_georeference(self, source: Path | bytes) -> None:
        first = self._files[0]
        with foreign_code(self.name), gdal_settings():
            gcps, gcp_crs = first.gcps
            if gcps:
                points = [(g.row, g.col, g.x, g.y, g.z or 0.0) for g in gcps]
                found = from_points(points, crs_name(gcp_crs))
            elif first.crs is None and first.transform.is_identity:
                found = None
            else:
                a, b, c, d, e, f = tuple(first.transform)[:6]
                found = Georeference((a, b, c, d, e, f), crs_name(first.crs))
        if isinstance(source, Path):
            found = found or beside(source)
            self._use_sidecars(source)
        if found is not None:
            found = found.turned(self.orientation, *first.shape)
        self.georeference = found

    def _use_sidecars(self, path: Path) -> None:
        """Read nodata from a plain .aux.xml, and valid pixels from a .msk that is a TIFF of the same size."""
        root = None if self.layout.nodata is not None else aux_root(path)
        value = None if root is None else root.findtext("PAMRasterBand/NoDataValue")
        if value is not None:
            with suppress(ValueError):
                self.layout = replace(self.layout, nodata=float(value))
        beside_it = path.with_name(f"{path.name}.msk")
        if self._masked or not beside_it.is_file():
            return
        with beside_it.open("rb") as file:
            plain = file.read(4).startswith(TIFF)
        if not plain:
            self._notes.append(f"{beside_it.name} is not a plain TIFF and was not used as a mask.")
            return
        with foreign_code(str(beside_it)), gdal_settings():
            mask = self._stack.enter_context(_rasterio().open(str(beside_it), driver="GTiff"))
        if mask.shape == self._files[0].shape:
            self._mask_file = mask
            self._masked = True

    def read(self, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Decode the blocks of these rows."""
        if self._rows_are_pages:
            with foreign_code(self.name), gdal_settings():
                return np.concatenate([file.read() for file in self._files[top:bottom]]), None
        window = self._window(top, bottom)
        with foreign_code(self.name), gdal_settings():
            planes = np.concatenate([file.read(window=window) for file in self._files])
            mask = None
            if self._mask_file is not None:
                mask = self._mask_file.read(1, window=window) != 0
            elif self._masked:
                mask = self._files[0].dataset_mask(window=window) != 0
        turn = UPRIGHT[self.orientation]
        values = np.ascontiguousarray(turn(np.moveaxis(planes, 0, 2)))  # (rows, W, count)
        return values, None if mask is None else np.ascontiguousarray(turn(mask))

    def _window(self, top: int, bottom: int) -> Any:
        """Return the window of the stored image that holds these rows of the upright image."""
        if self.orientation in (3, 4, 7, 8):  # from the other end
            top, bottom = self.height - bottom, self.height - top
        window = _rasterio().windows.Window
        if self.orientation >= 5:
            return window(top, 0, bottom - top, self.width)
        return window(0, top, self.width, bottom - top)

    @property
    def stored_type(self) -> str:
        """GDAL's name of the type of the values."""
        return self._files[0].dtypes[0] if self._files else self.dtype.name

    def close(self) -> None:
        """Close the file."""
        self._stack.close()


def _pages(source: Path | bytes, name: str) -> tuple[dict[int, Any], list[int]]:
    """Return the tags of a TIFF's first page, and the numbers, from 1, of its pages without overviews and masks."""
    found: list[int] = []
    first: dict[int, Any] = {}
    with foreign_code(name), _stream(source) as file:
        header = file.read(8)
        big = 43 in header[2:4]
        # Pillow recognizes BigTIFF by this header only; the byte order is a separate argument
        head = b"II+\0" + header[4:] + file.read(8) if big else header
        directory = TiffImagePlugin.ImageFileDirectory_v2(head, header[:2])
        seen: set[int] = set()
        while directory.next and directory.next not in seen and len(seen) < _MAX_PAGES:
            seen.add(directory.next)
            file.seek(directory.next)
            directory.load(file)
            tags = dict(directory)
            first = first or tags
            if not int(_first(tags.get(_SUBFILE), 0)) & 5:
                first = first if found else tags
                found.append(len(seen))
    return first, found or [1]


def _tifffile_shape(tags: dict[int, Any]) -> tuple[int, ...] | None:
    """Return the shape of (H, W, B) arrays that tifffile wrote row by row into pages, from its description."""
    try:
        shape = parse_json(tags.get(_DESCRIPTION, ""))["shape"]
    except (ValueError, TypeError, KeyError):
        return None
    return tuple(shape) if len(shape) == 3 and shape[0] >= shape[2] else None


def _stream(source: Path | bytes) -> IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _first(value: Any, default: Any) -> Any:
    """Return the first number of a tag, which may hold one or several."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    return default if value is None else value


def _spread(length: int, side: int) -> list[int]:
    """Return the starts of up to four evenly spread windows of this side."""
    count = min(4, max(1, length // side))
    return [i * max(0, length - side) // max(1, count - 1) for i in range(count)]

"""TIFF and BigTIFF row by row with tifffile: only the tiles or strips that the rows touch are decoded."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import DataError, MissingExtraError
from hrseg.inference.huge.readers import Head, Place, Reader

_DAMAGE = (
    *(OSError, ValueError, EOFError, LookupError, TypeError, AttributeError, RuntimeError),
    *(NotImplementedError, struct.error, zlib.error),
)
_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
"""Pixel scale, tie points, transformation, and the keys with their numbers and texts."""
_NODATA, _ORIENTATION = 42113, 274
_WHITE_IS_ZERO, _RGB, _PALETTE = 0, 2, 3
_UNSUITED = {5: "CMYK", 8: "CIELab", 9: "ICCLab"}
MOST_SEGMENT = 2**28
"""Tiles and strips that decode to more than this (256 MiB) are no help against memory."""


class TiffReader(Reader):
    """A TIFF whose samples lie together, plane by plane, or page by page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        tifffile = need_tifffile(path)
        try:
            self._file = tifffile.TiffFile(path)
        except (*_DAMAGE, tifffile.TiffFileError) as error:
            raise self._damaged(error) from error
        try:
            self._series = self._file.series[0].levels[0]
            page = self._page = self._series.keyframe
            tags = page.tags
            self._pages = self._pages_of()
            self._offset = self._contiguous()
            self.head = self._head(tags)
            self._check(tags)
        except (*_DAMAGE, tifffile.TiffFileError) as error:
            self._file.close()
            raise self._damaged(error) from error
        found = [tags[code] for code in _GEO_TAGS if code in tags]
        if found:
            self.place = Place(
                tags=tuple((tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in found)
            )

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Decode the tiles or strips of these rows."""
        try:
            if self._offset is not None:
                return self._mapped(top, bottom)
            out = np.empty((bottom - top, self.head.width, self.head.samples), self.head.dtype)
            for number, page in enumerate(self._pages):
                own = out if len(self._pages) == 1 else out[..., number : number + 1]
                self._fill(page, own, top, bottom)
            return out
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _pages_of(self) -> list[Any]:
        pages = list(self._series.pages)
        if len(pages) > 1 and self._page.samplesperpixel > 1:
            raise DataError(
                f"{self.path} has {len(pages)} pages of {self._page.samplesperpixel} samples. Save one picture in "
                "a file, or one band on each page."
            )
        return pages

    def _contiguous(self) -> int | None:
        """Return where the values begin, if they lie in the file as in memory."""
        plain = self._page.compression == 1 and self._page.predictor == 1
        whole_bytes = self._page.bitspersample in (8, 16, 32, 64)
        offset: int | None = self._series.dataoffset
        return offset if plain and whole_bytes and not self._page.is_tiled else None

    def _head(self, tags: Any) -> Head:
        page = self._page
        together = len(self._pages) == 1
        samples = page.samplesperpixel if together else len(self._pages)
        palette = None
        if page.photometric == _PALETTE and page.colormap is not None:
            palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
        dtype = np.dtype(page.dtype) if page.dtype is not None else np.dtype(np.uint8)
        high = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
        wide = page.tilewidth if page.is_tiled else page.imagewidth
        inner = samples if together and page.planarconfig == 1 else 1
        segment = 0 if self._offset is not None else high * wide * inner * dtype.itemsize
        if segment > MOST_SEGMENT:
            raise DataError(
                f"{self.path} is compressed in pieces of {high} x {wide} pixels, each of which has to be decoded "
                f"whole ({segment / 2**20:.0f} MiB). Make it tiled: gdal_translate -co TILED=YES -co "
                f"COMPRESS=DEFLATE -co BIGTIFF=IF_SAFER {self.path.name} tiled.tif"
            )
        return Head(
            height=page.imagelength,
            width=page.imagewidth,
            samples=samples,
            dtype=dtype,
            palette=palette,
            alpha=_alpha(page) if together else None,
            inverted=page.photometric == _WHITE_IS_ZERO,
            nodata=_number(tags[_NODATA].value) if _NODATA in tags else None,
            block=1 if self._offset is not None else high,
            reserve=3 * segment,
        )

    def _check(self, tags: Any) -> None:
        turned = _ORIENTATION in tags and int(tags[_ORIENTATION].value) != 1
        kind = _UNSUITED.get(int(self._page.photometric))
        if turned or kind:
            raise DataError(
                f"{self.path} {'is stored turned (its orientation is not 1)' if turned else f'holds {kind} colours'}, "
                "and is too large to be changed in memory. Save it upright as RGB first."
            )

    def _mapped(self, top: int, bottom: int) -> np.ndarray:
        head = self.head
        stored = head.dtype.newbyteorder(self._file.byteorder)
        planes = len(self._pages) > 1 or self._page.planarconfig == 2
        size = (head.height, head.width)
        shape = (head.samples, *size) if planes else (*size, head.samples)
        values = np.memmap(self.path, stored, "r", self._offset or 0, shape)
        part = np.moveaxis(values[:, top:bottom], 0, 2) if planes else values[top:bottom]
        return part.astype(head.dtype)

    def _fill(self, page: Any, out: np.ndarray, top: int, bottom: int) -> None:
        high = page.tilelength if page.is_tiled else page.rowsperstrip
        wide = page.tilewidth if page.is_tiled else page.imagewidth
        across, down = -(-page.imagewidth // wide), -(-page.imagelength // high)
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        for plane in range(planes):
            own = out if planes == 1 else out[..., plane : plane + 1]
            for i in range(top // high, -(-bottom // high)):
                begin, end = max(top, i * high), min(bottom, (i + 1) * high)
                for j in range(across):
                    tile = self._segment(page, (plane * down + i) * across + j)
                    place = own[begin - top : end - top, j * wide : (j + 1) * wide]
                    if tile is None:
                        place[...] = _value(self.head.nodata, self.head.dtype)
                    else:
                        place[...] = tile[begin - i * high : end - i * high, : place.shape[1]]

    def _segment(self, page: Any, index: int) -> np.ndarray | None:
        """Decode a tile or strip; None is one that the file leaves out. Shape: (rows, columns, samples)."""
        count = page.databytecounts[index]
        if not count:
            return None
        handle = self._file.filehandle
        handle.seek(page.dataoffsets[index])
        packed = handle.read(count)
        if len(packed) < count:
            raise ValueError(f"it ends {count - len(packed):,} bytes too early")
        tables = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}
        tile, _, _ = page.decode(packed, index, **tables)
        return None if tile is None else np.asarray(tile)[0]

    def _damaged(self, error: Exception) -> Exception:
        if "imagecodecs" in str(error):
            return MissingExtraError(
                f"{self.path} is compressed in a way that needs imagecodecs. Run: pip install 'hrseg[tiff]'."
            )
        if isinstance(error, DataError):
            return error
        return DataError(
            f"{self.path} cannot be read: {str(error) or type(error).__name__}. It is probably damaged; copy it again."
        )


def need_tifffile(path: Path) -> Any:
    """Import tifffile, for a file that is named in the message."""
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path} is too large to be read at once, and tifffile reads it in parts. Run: pip install 'hrseg[tiff]'."
        ) from error
    return tifffile


def _alpha(page: Any) -> int | None:
    """Return the sample that is opacity: of extra samples 1 (associated) and 2 are."""
    extra = tuple(page.extrasamples or ())
    first = page.samplesperpixel - len(extra)
    return next((first + i for i, kind in enumerate(extra) if int(kind) in (1, 2)), None)


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _value(nodata: float | None, dtype: np.dtype[Any]) -> float:
    """Return what stands for a tile that the file leaves out."""
    with np.errstate(all="ignore"):
        return 0 if nodata is None or np.array(nodata).astype(dtype) != nodata else nodata

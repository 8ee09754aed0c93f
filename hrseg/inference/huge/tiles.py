"""Maps as tiled, compressed TIFF with overviews: by GDAL where it is there, else tile by tile with tifffile."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.inference.huge.geo import TILE, has_rasterio, write_cog
from hrseg.inference.huge.readers import Place
from hrseg.inference.huge.tiff import need_tifffile

Rows = Iterable[tuple[int, np.ndarray]]
_LEVEL = 6
_CLASSIC = 3 * 2**30
"""Bytes of pixels above which a file becomes a BigTIFF; a plain one ends at 4 GiB."""


def write_tiff(
    path: Path,
    rows: Callable[[], Rows],
    size: tuple[int, int],
    dtype: np.dtype[Any],
    *,
    place: Place | None = None,
    nodata: float | None = None,
    palette: np.ndarray | None = None,
) -> None:
    """Write one band, with overviews of nearest pixels, in memory that does not grow with its height.

    Args:
        path: The file; its folder must be there.
        rows: Gives first row and values (rows, W), from top to bottom, as often as it is called.
        size: (height, width).
        dtype: Of the values, uint8 or uint16.
        place: Where the image lies.
        nodata: The value of pixels without data.
        palette: Colours of the values, uint8 (256, 3).
    """
    if has_rasterio() and not (place and place.tags):
        from hrseg.inference.huge.geo import environment

        with environment():
            write_cog(
                *(path, tile_rows(rows(), TILE), size, dtype),
                place=place,
                nodata=nodata,
                palette=palette,
            )
        return
    _write_plain(path, rows, size, dtype, place=place, nodata=nodata, palette=palette)


def tile_rows(rows: Rows, count: int, every: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Yield rows in equal portions; of every so many rows and columns only the first, if asked.

    Example:
        >>> bands = [(0, np.zeros((3, 2))), (3, np.zeros((4, 2)))]
        >>> [(top, values.shape) for top, values in tile_rows(bands, 5)]
        [(0, (5, 2)), (5, (2, 2))]
        >>> [(top, values.shape) for top, values in tile_rows(bands, 2, every=2)]
        [(0, (2, 1)), (2, (2, 1))]
    """
    top, held = 0, np.empty((0, 0))
    for first, values in rows:
        part = values[-first % every :: every, ::every]
        held = part if not held.size else np.concatenate([held, part])
        while len(held) >= count:
            yield top, held[:count]
            top, held = top + count, held[count:]
    if held.size:
        yield top, held


def _write_plain(
    path: Path,
    rows: Callable[[], Rows],
    size: tuple[int, int],
    dtype: np.dtype[Any],
    *,
    place: Place | None,
    nodata: float | None,
    palette: np.ndarray | None,
) -> None:
    height, width = size
    levels = 0
    while max(size) >> levels > TILE:
        levels += 1
    tags = list(place.tags) if place else []
    if nodata is not None:
        text = f"{nodata:g}"
        tags.append((42113, 2, len(text) + 1, text, True))
    shared: dict[str, Any] = {
        "dtype": dtype,
        "tile": (TILE, TILE),
        "compression": "zlib",
        "photometric": "minisblack" if palette is None else "palette",
        "colormap": None if palette is None else palette.T.astype(np.uint16) * 257,
        "metadata": None,
        "software": False,
        "maxworkers": 1,
    }
    big = height * width * dtype.itemsize > _CLASSIC
    with need_tifffile(path).TiffWriter(path, bigtiff=big) as writer:
        for level in range(levels + 1):
            every = 2**level
            shape = (-(-height // every), -(-width // every))
            own = {"subifds": levels, "extratags": tags} if not level else {"subfiletype": 1}
            writer.write(_packed(rows(), dtype, every), shape=shape, **shared, **own)


def _packed(rows: Rows, dtype: np.dtype[Any], every: int) -> Iterator[bytes]:
    """Yield packed tiles, from left to right and top to bottom."""
    for _, values in tile_rows(rows, TILE, every):
        for left in range(0, values.shape[1], TILE):
            tile = np.zeros((TILE, TILE), dtype)
            part = values[:, left : left + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield zlib.compress(tile.data, _LEVEL)

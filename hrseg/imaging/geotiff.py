"""Rasters out with rasterio: cloud-optimized GeoTIFF, written in rows, in their place on the ground."""

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.imaging.georeference import Georeference
from hrseg.imaging.rasters import gdal_settings
from hrseg.imaging.writing import write_atomic

TILE = 512
Rows = Iterable[tuple[int, np.ndarray]]


def write_geotiff(
    path: str | Path,
    values: np.ndarray,
    *,
    georeference: Georeference | None = None,
    nodata: float | None = None,
    palette: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> None:
    """Write an array that is in memory; see `write_raster`.

    Raises:
        DataError: The file cannot be written.

    Shape:
        values (H, W) or (bands, H, W)
    """
    from rasterio.io import MemoryFile

    about: Any = {"georeference": georeference, "nodata": nodata, "palette": palette}
    # Python's own writing tells a full disk from other errors, GDAL's does not
    with write_atomic(path) as temporary, MemoryFile(ext=Path(path).suffix) as memory:
        target = Path(memory.name)
        write_raster(target, [(0, values)], values.shape, values.dtype, names=names, **about)
        temporary.write_bytes(memory.read())


def write_raster(
    path: Path,
    rows: Rows,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    georeference: Georeference | None = None,
    nodata: float | None = None,
    palette: np.ndarray | None = None,
    names: Sequence[str] = (),
    draft: Path | None = None,
) -> None:
    """Write a cloud-optimized GeoTIFF, or a PNG where the path ends so, from rows that come from top to bottom.

    A tiled draft is written first, since overviews (of nearest pixels) stand before the pixels.

    Args:
        path: The file; its folder must be there.
        rows: First row, and values (rows, W) or (bands, rows, W).
        shape: (H, W) or (bands, H, W).
        dtype: Of the values.
        georeference: Where the image lies.
        nodata: The value of pixels without data.
        palette: Colors of the values of one band, uint8 (256, 3).
        names: Of the bands.
        draft: File for the draft, which is removed; None keeps it in memory.

    Raises:
        OSError: The disk is full, or whatever else GDAL met.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.windows import Window

    count, (height, width) = shape[0] if len(shape) == 3 else 1, shape[-2:]
    options = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "bigtiff": "IF_SAFER"}
    options |= {"compress": "deflate", "zlevel": 1, "interleave": "band", "nodata": nodata}
    options |= {"height": height, "width": width, "count": count, "dtype": dtype}
    options |= _placed(georeference) | (
        {"photometric": "rgb"} if count == 3 and dtype == np.uint8 else {}
    )
    with _gdal(), _removed(draft) as place:
        with rasterio.open(place, "w", driver="GTiff", **options) as raster:
            if palette is not None:
                raster.write_colormap(1, {i: tuple(map(int, c)) for i, c in enumerate(palette)})
            for band, name in enumerate(names, start=1):
                raster.set_band_description(band, name)
            for top, values in _of_tiles(rows):
                window = Window(0, top, width, values.shape[-2])
                raster.write(values.reshape(count, -1, width), window=window)
        png = path.suffix.lower() == ".png"
        packed = {"blocksize": TILE, "level": 1 if count > 1 else 6}
        final = {"driver": "PNG"} if png else _COG | packed
        rasterio.shutil.copy(place, path, **final)


_COG = {"driver": "COG", "compress": "DEFLATE", "bigtiff": "IF_SAFER"}
_COG |= {"overview_resampling": "NEAREST"}


def _placed(georeference: Georeference | None) -> dict[str, Any]:
    """Return what rasterio is told of a place."""
    if georeference is None:
        return {}
    from rasterio.control import GroundControlPoint

    placed: dict[str, Any] = {"crs": georeference.crs}
    if georeference.gcps:
        placed["gcps"] = [GroundControlPoint(*point) for point in georeference.gcps]
    else:
        from rasterio.transform import Affine

        placed["transform"] = Affine(*georeference.transform)
    return placed


def _of_tiles(rows: Rows) -> Rows:
    """Yield rows in portions of TILE, so that no tile is packed twice."""
    held = np.empty((0, 0))
    top = 0
    for _, values in rows:
        held = np.concatenate([held, values], axis=-2) if held.size else values
        while held.shape[-2] >= TILE:
            yield top, held[..., :TILE, :]
            top, held = top + TILE, held[..., TILE:, :]
    if held.size:
        yield top, held


@contextlib.contextmanager
def _removed(draft: Path | None) -> Iterator[str]:
    """Give the name of a draft, on disk or in memory, and remove what became of it."""
    import rasterio.shutil

    name = str(draft or f"/vsimem/{uuid.uuid4().hex}.tif")
    try:
        yield name
    finally:
        if rasterio.shutil.exists(name):
            rasterio.shutil.delete(name, driver="GTiff")


@contextlib.contextmanager
def _gdal() -> Iterator[None]:
    """Bound GDAL's memory, write no side files, and raise its errors as OSError."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        with gdal_settings():
            yield
    except (RasterioError, CPLE_BaseError) as error:  # such as of a full disk
        raise OSError(str(error)) from error

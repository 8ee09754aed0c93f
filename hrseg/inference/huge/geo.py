"""Rasters with rasterio: row by row in, cloud-optimised GeoTIFF out. The extra `geo`."""

import functools
import importlib.util
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import DataError, MissingExtraError
from hrseg.inference.huge.readers import Head, Place, Reader

CACHE = 64 * 2**20
"""Bytes of decoded blocks that GDAL keeps; its own choice would be a twentieth of the machine."""


@functools.cache
def has_rasterio() -> bool:
    """Tell whether the extra `geo` is installed."""
    return importlib.util.find_spec("rasterio") is not None


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.errors
        import rasterio.shutil
        import rasterio.windows
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "Rasters with coordinates are read by rasterio. Run: pip install 'hrseg[geo]'."
        ) from error
    return rasterio


def environment() -> AbstractContextManager[Any]:
    """Return the settings that keep GDAL's memory bounded."""
    env: AbstractContextManager[Any] = _rasterio().Env(GDAL_CACHEMAX=CACHE, GDAL_PAM_ENABLED=False)
    return env


class RasterReader(Reader):
    """Any raster that GDAL opens: GeoTIFF, BigTIFF, VRT, JPEG 2000, PNG, JPEG."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rasterio = _rasterio()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of rasters without coordinates
                self._file = self._rasterio.open(path)
        except self._rasterio.errors.RasterioError as error:
            raise self._damaged(error) from error
        raster = self._file
        kinds = set(raster.dtypes)
        if len(kinds) > 1:
            raise DataError(
                f"{path} has bands of several types: {', '.join(sorted(kinds))}. Save them as one type."
            )
        interpretations = [band.name for band in raster.colorinterp]
        palette = None
        if interpretations[0] == "palette":
            table = raster.colormap(1)
            palette = np.zeros((max(table) + 1, 3), np.uint8)
            for value, colour in table.items():
                palette[value] = colour[:3]
        alpha = interpretations.index("alpha") if "alpha" in interpretations else None
        block = raster.block_shapes[0][0]
        self.head = Head(
            *(raster.height, raster.width, raster.count, np.dtype(raster.dtypes[0])),
            palette=palette,
            alpha=alpha,
            nodata=raster.nodata,
            block=block,
            reserve=CACHE + block * raster.width * raster.count,
        )
        flags = [flag.name for flag in raster.mask_flag_enums[0]]
        self._masked = "per_dataset" in flags and alpha is None
        self.place = _place(raster)

    @classmethod
    def suits(cls, path: Path) -> bool:
        """Tell whether GDAL reads all of a file as one raster; of several pages it would read the first."""
        rasterio = _rasterio()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with rasterio.open(path) as raster:
                    return bool(raster.count and not raster.subdatasets)
        except rasterio.errors.RasterioError:
            return False

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Read all bands of these rows."""
        try:
            values = self._file.read(window=self._window(top, bottom))
        except self._rasterio.errors.RasterioError as error:
            raise self._damaged(error) from error
        return np.moveaxis(values, 0, 2)

    def valid(self, values: np.ndarray, top: int) -> np.ndarray | None:
        """Take the file's own mask where it has one."""
        if not self._masked:
            return super().valid(values, top)
        mask: np.ndarray = self._file.dataset_mask(window=self._window(top, top + len(values)))
        return mask != 0

    @property
    def tells_nodata(self) -> bool:
        """Whether the file says which pixels have no data."""
        return self._masked or super().tells_nodata

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _window(self, top: int, bottom: int) -> Any:
        return self._rasterio.windows.Window(0, top, self._file.width, bottom - top)

    def _damaged(self, error: Exception) -> DataError:
        reason = str(error.__cause__ or error).rstrip(".")
        return DataError(
            f"{self.path} cannot be read: {reason}. It is probably damaged; copy it again."
        )


def _place(raster: Any) -> Place | None:
    gcps, gcp_crs = raster.gcps
    if gcps:
        return Place(crs=gcp_crs, gcps=gcps)
    if raster.crs is None and raster.transform.is_identity:
        return None
    return Place(crs=raster.crs, transform=raster.transform)

"""Arrays of numpy (.npy) as images."""

import io
from pathlib import Path

import numpy as np

from hrseg.errors import DataError
from hrseg.imaging.georeference import beside
from hrseg.imaging.image_file import ImageFile, Layout

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
        color = {1: "grey", 3: "rgb"}.get(self.count, "bands")
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

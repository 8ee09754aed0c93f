"""Confidence, margin and entropy of each pixel: maps from 0 to 1 in files of 16 bits, or together as float32.

In 16 bits 65535 is 1, so that any program can read them, and 0 is no data: values round to the nearest of 1 to 65535,
which changes them by 0.000015 at most. In float32 no data is NaN. The entropy is that of all classes in parts of its
maximum, ln K.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hrseg.imaging import write_atomic
from hrseg.inference.outputs.archive import write_npz
from hrseg.inference.outputs.options import Options
from hrseg.inference.outputs.pictures import write_map
from hrseg.inference.prediction import Prediction

SCALE = 65535
"""The stored value that is 1."""
NODATA = 0
"""The stored value of pixels without data."""


def map_writer(name: str) -> Callable[[Prediction, Path, Options], None]:
    """Return a writer of one map of a prediction."""

    def write(prediction: Prediction, target: Path, options: Options) -> None:
        write_map(prediction, target, in_sixteen_bits(prediction.kept_map(name)), NODATA)

    return write


def write_maps(prediction: Prediction, target: Path, options: Options) -> None:
    """Write confidence, margin and entropy as float32 arrays of an .npz."""
    arrays = {name: getattr(prediction, name) for name in ("confidence", "margin", "entropy")}
    with write_atomic(target) as temporary:
        write_npz(temporary, arrays)


def in_sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Map 0 … 1 to 1 … 65535, and NaN to 0.

    Example:
        >>> in_sixteen_bits(np.array([[0, 0.5, 1, np.nan]])).tolist()
        [[1, 32768, 65535, 0]]
    """
    scaled = np.multiply(values, SCALE, dtype=np.float32)
    scaled += 0.5
    scaled = scaled.clip(1, SCALE)
    return np.nan_to_num(scaled, copy=False, nan=NODATA).astype(np.uint16)

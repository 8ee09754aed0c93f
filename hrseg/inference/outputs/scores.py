"""How sure the network is of each pixel: maps from 0 to 1, as 16-bit PNG or together as float32.

In the PNG files 65535 is 1, so that any program can read them; half a step, 0.000008, is the most that rounding
changes. The entropy is that of all classes in parts of its maximum, ln K.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hrseg.imaging import write_atomic, write_mask
from hrseg.inference.outputs.archive import write_npz
from hrseg.inference.outputs.options import Options
from hrseg.inference.prediction import Prediction

SCALE = 65535
"""The stored value that is 1."""


def map_writer(name: str) -> Callable[[Prediction, Path, Options], None]:
    """Return a writer of one map of a prediction."""

    def write(prediction: Prediction, target: Path, options: Options) -> None:
        write_mask(target, in_sixteen_bits(getattr(prediction, name)))

    return write


def write_maps(prediction: Prediction, target: Path, options: Options) -> None:
    """Write confidence, margin and entropy as float32 arrays of an .npz."""
    arrays = {name: getattr(prediction, name) for name in ("confidence", "margin", "entropy")}
    with write_atomic(target) as temporary:
        write_npz(temporary, arrays)


def in_sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Map 0 … 1 to 0 … 65535.

    Example:
        >>> in_sixteen_bits(np.array([[0, 0.5, 1]])).tolist()
        [[0, 32768, 65535]]
    """
    scaled = np.multiply(values, SCALE, dtype=np.float32)
    scaled += 0.5
    return scaled.clip(0, SCALE).astype(np.uint16)

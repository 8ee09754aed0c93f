"""Weights and images that any machine can make again: numpy's frozen RandomState, one stream for all tensors.

Nothing but numpy is needed, so that every original implementation, in whatever environment it lives, is given
the same numbers in its own naming.
"""

from collections.abc import Mapping

import numpy as np

NUM_CLASSES = 3
SIZES = ((128, 256), (125, 203))
"""One size that every implementation takes, and one that is odd on both sides at several strides."""

_MEANS = ("bias", "running_mean", "._mean")


def seeded_state(shapes: Mapping[str, tuple[int, ...]], negative_gammas: bool = False) -> dict[str, np.ndarray]:
    """Give every tensor lively values: spread-out norms, convolutions that let the signal neither die nor burst.

    Args:
        shapes: Shape of each tensor by its name in any source's spelling, in the order of its state dict.
        negative_gammas: Turn the sign of every fifth norm weight, as torch-0.4.1 training leaves some.
    """
    stream = np.random.RandomState(7)
    return {name: _values(stream, name, shape, negative_gammas) for name, shape in shapes.items()}


def seeded_image(size: tuple[int, int]) -> np.ndarray:
    """Return one normal-distributed image of a size. Shape: (1, 3, *size)."""
    return np.random.RandomState(11).randn(1, 3, *size).astype(np.float32)


def thinned(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Keep every second row and column of the even size's maps, so that the reference file stays small."""
    return values[..., ::2, ::2] if size == SIZES[0] and values.ndim == 4 else values


def _values(stream: np.random.RandomState, name: str, shape: tuple[int, ...], negative_gammas: bool) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.array(1, dtype=np.int64)
    if len(shape) > 1:
        reach = 1.2 / np.sqrt(np.prod(shape[1:]))
        values = stream.uniform(-reach, reach, size=shape)
    elif name.endswith(_MEANS):
        values = stream.uniform(-0.2, 0.2, size=shape)
    else:  # a norm's weight or variance
        values = stream.uniform(0.5, 1.5, size=shape)
        if negative_gammas and name.endswith("weight"):
            values[::5] *= -1
    return values.astype(np.float32)

"""Weights and inputs that any machine can make again: numpy's frozen RandomState, one stream for all tensors."""

import numpy as np
import torch
from torch import nn

from hrseg.models.blocks import ResizePolicy

POLICIES: tuple[ResizePolicy, ...] = ("bilinear", "bilinear_aligned")
SIZES = ((64, 96), (61, 75))
CASES: tuple[tuple[str, ResizePolicy], ...] = tuple(
    (backbone, policy)
    for backbone in ("hrnet_w18_small_v1", "hrnet_w18_small_v2")
    for policy in POLICIES
)
NUM_CLASSES = 3


def seeded_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Give every tensor of a network lively values: spread-out norms, convolutions that keep the scale."""
    stream = np.random.RandomState(7)
    return {key: _values(stream, key, old) for key, old in network.state_dict().items()}


def seeded_image(size: tuple[int, int]) -> torch.Tensor:
    """Return one normal-distributed image of a size. Shape: (1, 3, *size)."""
    return torch.from_numpy(np.random.RandomState(11).randn(1, 3, *size).astype(np.float32))


def _values(stream: np.random.RandomState, key: str, old: torch.Tensor) -> torch.Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1)
    shape = tuple(old.shape)
    if old.ndim == 4:
        values = stream.randn(*shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    elif key.endswith(("bias", "running_mean")):
        values = stream.randn(*shape) * 0.1
    else:  # a norm's weight or variance
        values = stream.uniform(0.5, 1.5, size=shape)
    return torch.from_numpy(values.astype(np.float32))

"""How windows share a pixel: the weight of each row and column of a window, largest in its middle.

A weight is the product of one curve down and one across, and never 0, so that every pixel can be divided by
what it got. The sum of all windows' weights over a pixel is divided away, so curves need not add up to 1.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch

from hrseg.errors import ConfigError, unknown_choice

Blend = Literal["ramp", "cosine", "gaussian", "equal"]
"""Straight from the rim up to where no neighbour reaches, the same as half a cosine, a bell over the whole
window, or every window counts the same."""
BLENDS: tuple[Blend, ...] = get_args(Blend)
RIM = 0.1
"""What the outermost pixel of a ramp or cosine counts, beside 1."""
SIGMA = 1 / 8
"""Standard deviation of the bell, in sides of the window."""


def blend_weights(blend: Blend, length: int, shared: int) -> torch.Tensor:
    """Return what each row (or column) of a window counts.

    Args:
        blend: One of BLENDS.
        length: Side of the window.
        shared: Pixels that it shares with its neighbour.

    Raises:
        ConfigError: An unknown blend.

    Shape:
        (length,), float32

    Source: the bell is that of nnU-Net (Isensee et al. 2021), with its width; ramp and cosine are ours.

    Example:
        >>> blend_weights("ramp", 4, 2).tolist()
        [0.550000011920929, 1.0, 1.0, 0.550000011920929]
        >>> blend_weights("cosine", 4, 2).tolist()
        [0.550000011920929, 1.0, 1.0, 0.550000011920929]
        >>> blend_weights("equal", 2, 1).tolist()
        [1.0, 1.0]
    """
    if blend not in _CURVES:
        raise ConfigError(unknown_choice("blend", blend, BLENDS))
    return _CURVES[blend](length, shared)


def _from_rim(length: int) -> torch.Tensor:
    return torch.minimum(torch.arange(length), torch.arange(length).flip(0))


def _ramp(length: int, shared: int) -> torch.Tensor:
    return (RIM + (1 - RIM) * (_from_rim(length) + 1) / max(1, shared)).clamp(max=1.0)


def _cosine(length: int, shared: int) -> torch.Tensor:
    risen = ((_from_rim(length) + 1) / max(1, shared)).clamp(max=1.0)
    return RIM + (1 - RIM) * (1 - torch.cos(math.pi * risen)) / 2


def _gaussian(length: int, shared: int) -> torch.Tensor:
    away = torch.arange(length) - (length - 1) / 2
    return torch.exp(-0.5 * (away / (SIGMA * length)) ** 2)


def _equal(length: int, shared: int) -> torch.Tensor:
    return torch.ones(length)


_CURVES: dict[str, Callable[[int, int], torch.Tensor]] = {
    "ramp": _ramp,
    "cosine": _cosine,
    "gaussian": _gaussian,
    "equal": _equal,
}

"""The head's wide map, 15C channels before the norm, in torch: passes over it, a block of rows at a time.

`triton_head` and `triton_back` have functions of the same names that do the same without a block.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from hrseg.kernels.rows import blocks, enlarged_cut, needed_rows

BLOCK_BYTES = {"cpu": 4 * 2**20, "cuda": 2**27}
Rows = tuple[int, int]


class Wide(NamedTuple):
    """What the wide map is made of: the sum of the finest branch's convolution and the enlarged coarse ones.

    Shape:
        fine (N, C, h, w), own (M, C), coarse i (N, M, h_i, w_i), maps channels last
    """

    fine: torch.Tensor
    own: torch.Tensor
    coarse: Sequence[torch.Tensor]
    aligned: bool

    @property
    def pixels(self) -> int:
        """Count them over all images."""
        return self.fine.numel() // self.fine.shape[1]

    def blocks(self) -> Iterator[Rows]:
        """Cut the rows so that a block of the wide map in single precision has about BLOCK_BYTES."""
        height, width = self.fine.shape[-2:]
        budget = BLOCK_BYTES.get(self.fine.device.type, BLOCK_BYTES["cpu"])
        return blocks(height, height, 4 * len(self.fine) * len(self.own) * width, budget)


class Norm(NamedTuple):
    """What the norm does to each channel: y = relu((wide - middle) * spread * gamma + beta). Shape: (M,) each."""

    middle: torch.Tensor
    spread: torch.Tensor
    gamma: torch.Tensor
    beta: torch.Tensor


def moments(wide: Wide, centre: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance of each channel of the wide map over all pixels.

    Args:
        wide: The map.
        centre: Where the means are about; the nearer, the more digits of the variance.

    Shape:
        → (M,), (M,)
    """
    sums = centre.new_zeros(2, len(centre))
    for _, tile in _tiles(wide):
        away = exact(tile) - _per_channel(centre)
        sums[0] += away.sum(dim=(0, 2, 3))
        sums[1] += (away * away).sum(dim=(0, 2, 3))
    first, second = sums / wide.pixels
    return centre + first, (second - first * first).clamp_min(0)


def logits(
    wide: Wide, scale: torch.Tensor, shift: torch.Tensor, last: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Return last(relu(scale * wide + shift)).

    Args:
        wide: The map.
        scale: Of each wide channel.
        shift: Of each wide channel.
        last: Weights of the classifier.
        bias: Of the classifier.

    Shape:
        last (K, M) → (N, K, h, w), channels last
    """
    shape = (len(wide.fine), len(last), *wide.fine.shape[-2:])
    out = torch.empty(
        shape, dtype=last.dtype, device=last.device, memory_format=torch.channels_last
    )
    for rows, tile in _tiles(wide):
        y = F.relu_(exact(tile) * _per_channel(scale) + _per_channel(shift))
        out[:, :, rows[0] : rows[1]] = mix(y.to(out.dtype), last, bias)
    return out


def sums(
    wide: Wide, norm: Norm, gradient: torch.Tensor, last: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the backward pass must know of all pixels before it can take a step for one.

    Args:
        wide: The map.
        norm: Its norm.
        gradient: Of the loss for the logits.
        last: Weights of the classifier.

    Shape:
        gradient (N, K, h, w) → sums of the norm's output gradient, and of it times the normalised map, (2, M);
        the gradient for the classifier's weights, (K, M)
    """
    both = exact(norm.gamma).new_zeros(2, len(norm.gamma))
    d_last = torch.zeros_like(exact(last))
    for rows, tile in _tiles(wide):
        g = exact(gradient[:, :, rows[0] : rows[1]])
        unit, y, dy = _through(tile, norm, g, last)
        both[0] += dy.sum(dim=(0, 2, 3))
        both[1] += (dy * unit).sum(dim=(0, 2, 3))
        d_last += flat(g).t() @ flat(y)
    return both, d_last


def steps(
    wide: Wide, norm: Norm, gradient: torch.Tensor, last: torch.Tensor, away: torch.Tensor
) -> Iterator[tuple[Rows, torch.Tensor, torch.Tensor]]:
    """Yield rows, and there the gradients for the wide map and for the finest branch.

    Args:
        wide: The map.
        norm: Its norm.
        gradient: Of the loss for the logits.
        last: Weights of the classifier.
        away: The means that a norm by batch takes away: `sums` over the pixels; zeros for one by running statistics.

    Shape:
        gradient (N, K, h, w), away (2, M) → (N, M, rows, w) in single precision or better, (N, C, rows, w)
    """
    for rows, tile in _tiles(wide):
        unit, _, dy = _through(tile, norm, exact(gradient[:, :, rows[0] : rows[1]]), last)
        dt = dy - _per_channel(away[0]) - unit * _per_channel(away[1])
        dt *= _per_channel(norm.gamma * norm.spread)
        yield rows, dt, mix(dt, exact(wide.own).t())


def _tiles(wide: Wide) -> Iterator[tuple[Rows, torch.Tensor]]:
    """Yield the wide map a block of rows at a time. Shape: (N, M, rows, w)."""
    fine, own, coarse, aligned = wide
    height, width = fine.shape[-2:]
    for rows in wide.blocks():
        total = mix(fine[:, :, rows[0] : rows[1]], own)
        for part in coarse:
            above, below = needed_rows(part.shape[-2], rows, height, aligned)
            cut = part[:, :, above:below]
            total += enlarged_cut(cut, above, part.shape[-2], rows, (height, width), aligned)
        yield rows, total


def _through(
    tile: torch.Tensor, norm: Norm, gradient: torch.Tensor, last: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a block normalised, after ReLU, and the gradient for what goes into the ReLU."""
    unit = (exact(tile) - _per_channel(norm.middle)) * _per_channel(norm.spread)
    y = F.relu_(unit * _per_channel(norm.gamma) + _per_channel(norm.beta))
    return unit, y, mix(gradient, exact(last).t()) * (y > 0)


def mix(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Apply a 1x1 convolution. Shape: x (N, C, h, w), weight (D, C) → (N, D, h, w), channels last."""
    if bias is not None:
        bias = bias.to(x.dtype)
    y = F.conv2d(x, weight.to(x.dtype)[:, :, None, None], bias)
    return y.contiguous(memory_format=torch.channels_last)


def flat(x: torch.Tensor) -> torch.Tensor:
    """List the pixels. Shape: (N, C, h, w) → (pixels, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def exact(x: torch.Tensor) -> torch.Tensor:
    """Leave double precision as it is, and widen whatever is shorter than single."""
    return x if x.dtype == torch.float64 else x.float()


def _per_channel(values: torch.Tensor) -> torch.Tensor:
    return exact(values)[None, :, None, None]

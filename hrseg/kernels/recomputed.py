"""The head for learning without its wide map: computed a few rows at a time, and again in the backward pass.

The plain head keeps three maps of 15C channels for the backward pass; this one keeps its inputs. With batch norm in
training, statistics are one pass over the rows and logits a second one; gradients likewise. On CUDA the forward
passes can be Triton's.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from hrseg.kernels.rows import blocks, enlarged_cut, needed_rows

BLOCK_BYTES = {"cpu": 4 * 2**20, "cuda": 2**27}


def recomputed(
    branches: Sequence[torch.Tensor],
    layers: nn.Sequential,
    aligned: bool = False,
    *,
    fused: bool = False,
) -> torch.Tensor:
    """Return the head's logits; gradients are computed in blocks of rows.

    Args:
        branches: Finest first.
        layers: 1x1 convolution, batch norm, ReLU, 1x1 convolution with bias.
        aligned: Whether resizing keeps corner pixels in place.
        fused: Let Triton compute the forward pass, on four branches.

    Shape:
        branch i (N, C_i, h_i, w_i) → logits (N, K, h_0, w_0)
    """
    conv: Any = layers[0]
    norm: Any = layers[1]
    last: Any = layers[3]
    by_batch = norm.training or norm.running_mean is None
    dtype = branches[0].dtype
    if torch.is_autocast_enabled(branches[0].device.type):
        dtype = torch.get_autocast_dtype(branches[0].device.type)
    weight, classifier = (layer.weight.flatten(1) for layer in (conv, last))
    zeros = weight.new_zeros(len(weight))
    bias = zeros if conv.bias is None else conv.bias
    known = (None, None) if by_batch else (norm.running_mean, norm.running_var)
    maps = [x.to(dtype) for x in branches]
    logits, mean, variance = _Head.apply(
        *(aligned, fused, norm.eps, *known, norm.running_mean),
        *(weight, bias, norm.weight, norm.bias, classifier, last.bias, *maps),
    )
    if norm.training and norm.running_mean is not None:
        _move(norm, mean, variance, maps[0].numel() // maps[0].shape[1])
    return logits


@torch.no_grad()
def _move(norm: Any, mean: torch.Tensor, variance: torch.Tensor, pixels: int) -> None:
    """Let the running statistics follow, as batch norm does."""
    norm.num_batches_tracked.add_(1)
    share = norm.momentum
    if share is None:
        share = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * (pixels / max(1, pixels - 1)), share)


class _Head(torch.autograd.Function):
    """Keeps branches, weights and statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        aligned: bool,
        fused: bool,
        eps: float,
        mean: torch.Tensor | None,
        variance: torch.Tensor | None,
        guess: torch.Tensor | None,
        *tensors: torch.Tensor,
    ) -> Any:
        weight, bias, gamma, beta, last, last_bias, *maps = tensors
        ctx.by_batch = mean is None
        ctx.aligned = aligned
        dtype = maps[0].dtype
        maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
        own, coarse = _parts(weight, maps)
        run = _fused(maps[0], own, coarse, aligned) if fused else None
        if mean is None or variance is None:
            centre = torch.zeros_like(bias) if guess is None else guess - bias
            find = run[0] if run else _moments_in_rows(maps[0], own, coarse, aligned)
            mean, variance = find(_exact(centre))
            mean = mean + bias
        scale = gamma * (variance + eps).rsqrt()
        shift = beta + (bias - mean) * scale
        if run:
            logits = run[1](scale, shift, last.to(dtype).contiguous(), last_bias.to(dtype))
        else:
            shape = (len(maps[0]), len(last), *maps[0].shape[-2:])
            logits = torch.empty(
                shape, dtype=dtype, device=last.device, memory_format=torch.channels_last
            )
            for rows, wide in _wide_rows(maps[0], own, coarse, aligned):
                y = F.relu_(_exact(wide) * _per_channel(scale) + _per_channel(shift))
                logits[:, :, rows[0] : rows[1]] = _mix(y.to(dtype), last.to(dtype), last_bias)
        ctx.save_for_backward(weight, bias, gamma, beta, last, mean, variance, *maps)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return logits, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        weight, bias, gamma, beta, last, mean, variance, *maps = ctx.saved_tensors
        gradient = gradients[0]
        own, coarse = _parts(weight, maps)
        spread = (variance + ctx.eps).rsqrt()
        pixels = maps[0].numel() // maps[0].shape[1]
        sums = gamma.new_zeros(2, len(gamma))  # of dy, and of dy times the normalised map
        d_last = torch.zeros_like(last)

        def of_rows(rows: tuple[int, int], wide: torch.Tensor) -> tuple[torch.Tensor, ...]:
            unit = (_exact(wide) + _per_channel(bias - mean)) * _per_channel(spread)
            y = F.relu_(unit * _per_channel(gamma) + _per_channel(beta))
            g = _exact(gradient[:, :, rows[0] : rows[1]])
            return unit, y, g, _mix(g, _exact(last).t(), None) * (y > 0)

        for rows, wide in _wide_rows(maps[0], own, coarse, ctx.aligned):
            unit, y, g, dy = of_rows(rows, wide)
            sums[0] += dy.sum(dim=(0, 2, 3))
            sums[1] += (dy * unit).sum(dim=(0, 2, 3))
            d_last += _flat(g).t() @ _flat(y)
        d_fine, d_own = torch.zeros_like(maps[0]), torch.zeros_like(_exact(own))
        d_coarse = [torch.zeros_like(_exact(part)) for part in coarse]
        d_bias = torch.zeros_like(bias)
        away = sums / pixels if ctx.by_batch else torch.zeros_like(sums)
        for rows, wide in _wide_rows(maps[0], own, coarse, ctx.aligned):
            unit, _, _, dy = of_rows(rows, wide)
            dt = dy - _per_channel(away[0]) - unit * _per_channel(away[1])
            dt *= _per_channel(gamma * spread)
            cut = slice(*rows)
            d_fine[:, :, cut] = _mix(dt, _exact(own).t(), None).to(d_fine.dtype)
            d_own += _flat(dt).t() @ _flat(_exact(maps[0][:, :, cut]))
            d_bias += dt.sum(dim=(0, 2, 3))
            for part in d_coarse:
                _add_adjoint(part, dt, rows, tuple(maps[0].shape[-2:]), ctx.aligned)
        d_weights, d_maps = [d_own], [d_fine]
        for x, d in zip(maps[1:], d_coarse, strict=True):
            share = weight[:, sum(m.shape[1] for m in d_maps) :][:, : x.shape[1]]
            d_maps.append(_mix(d, _exact(share).t(), None).to(x.dtype))
            d_weights.append(_flat(d).t() @ _flat(_exact(x)))
        d_weight = torch.cat(d_weights, dim=1).to(weight.dtype)
        d_last_bias = _exact(gradient).sum(dim=(0, 2, 3)).to(last.dtype)
        none = (None,) * 6
        return (*none, d_weight, d_bias, sums[1], sums[0], d_last, d_last_bias, *d_maps)


def _parts(
    weight: torch.Tensor, maps: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the finest branch's weights, and the other branches' convolutions at their own resolutions."""
    own, *others = weight.to(maps[0].dtype).split([x.shape[1] for x in maps], dim=1)
    coarse = [_mix(x, part, None) for x, part in zip(maps[1:], others, strict=True)]
    return own.contiguous(), coarse


def _wide_rows(
    fine: torch.Tensor, own: torch.Tensor, coarse: Sequence[torch.Tensor], aligned: bool
) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
    """Yield the wide map before its norm, without bias, a block of rows at a time. Shape: (N, M, rows, w)."""
    height, width = fine.shape[-2:]
    budget = BLOCK_BYTES.get(fine.device.type, BLOCK_BYTES["cpu"])
    for rows in blocks(height, height, 4 * len(fine) * len(own) * width, budget):
        total = _mix(fine[:, :, rows[0] : rows[1]], own, None)
        for part in coarse:
            above, below = needed_rows(part.shape[-2], rows, height, aligned)
            cut = part[:, :, above:below]
            total += enlarged_cut(cut, above, part.shape[-2], rows, (height, width), aligned)
        yield rows, total


def _moments_in_rows(
    fine: torch.Tensor, own: torch.Tensor, coarse: Sequence[torch.Tensor], aligned: bool
) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    def find(centre: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sums = centre.new_zeros(2, len(centre))
        for _, wide in _wide_rows(fine, own, coarse, aligned):
            away = _exact(wide) - _per_channel(centre)
            sums[0] += away.sum(dim=(0, 2, 3))
            sums[1] += (away * away).sum(dim=(0, 2, 3))
        first, second = sums / (fine.numel() // fine.shape[1])
        return centre + first, (second - first * first).clamp_min(0)

    return find


def _fused(
    fine: torch.Tensor, own: torch.Tensor, coarse: Sequence[torch.Tensor], aligned: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    from hrseg.kernels import triton_head  # slow to import, and only where Triton is

    def find(centre: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return triton_head.moments(fine, own, coarse, centre, aligned)

    def run(
        scale: torch.Tensor, shift: torch.Tensor, last: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        return triton_head.logits(fine, own, coarse, scale, shift, last, bias, aligned)

    return find, run


def _add_adjoint(
    total: torch.Tensor,
    gradient: torch.Tensor,
    rows: tuple[int, int],
    size: tuple[int, ...],
    aligned: bool,
) -> None:
    """Add what a block's gradient is worth for the coarse map that was enlarged into it."""
    small = total.shape[-2]
    above, below = needed_rows(small, rows, size[0], aligned)
    cut = torch.zeros_like(total[:, :, above:below]).requires_grad_()
    with torch.enable_grad():
        part = enlarged_cut(cut, above, small, rows, (size[0], size[1]), aligned)
    total[:, :, above:below] += torch.autograd.grad(part, cut, gradient)[0]


def _mix(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Apply a 1x1 convolution. Shape: x (N, C, h, w), weight (D, C) → (N, D, h, w)."""
    if bias is not None:
        bias = bias.to(x.dtype)
    y = F.conv2d(x, weight.to(x.dtype)[:, :, None, None], bias)
    return y.contiguous(memory_format=torch.channels_last)


def _flat(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _per_channel(values: torch.Tensor) -> torch.Tensor:
    return _exact(values)[None, :, None, None]


def _exact(x: torch.Tensor) -> torch.Tensor:
    """Leave double precision as it is, and widen whatever is shorter than single."""
    return x if x.dtype == torch.float64 else x.float()

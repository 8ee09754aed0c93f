"""The head for learning without its wide map: computed a few rows at a time, and again in the backward pass.

The plain head keeps three maps of 15C channels for the backward pass; this one keeps its inputs. With batch norm in
training, statistics are one pass over the rows and logits a second one; gradients likewise. The passes are those of
`wide_rows`, in torch, or of `triton_head` and `triton_back`.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from hrseg.kernels import wide_rows
from hrseg.kernels.rows import enlarged_cut, needed_rows
from hrseg.kernels.wide_rows import Norm, Wide, exact, flat, mix


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
        fused: Let Triton's kernels make both passes, on four branches.

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
        maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
        wide, passes = _wide(weight, maps, aligned), _forward_passes(fused)
        if mean is None or variance is None:
            centre = torch.zeros_like(bias) if guess is None else guess - bias
            mean, variance = passes.moments(wide, exact(centre))
            mean = mean + bias
        scale = gamma * (variance + eps).rsqrt()
        shift = beta + (bias - mean) * scale
        dtype = maps[0].dtype
        logits = passes.logits(wide, scale, shift, last.to(dtype), last_bias.to(dtype))
        ctx.save_for_backward(weight, bias, gamma, beta, last, mean, variance, *maps)
        ctx.aligned, ctx.fused, ctx.eps = aligned, fused, eps
        ctx.mark_non_differentiable(mean, variance)
        return logits, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        weight, bias, gamma, beta, last, mean, variance, *maps = ctx.saved_tensors
        gradient, (finest, *others) = gradients[0], maps
        wide, passes = _wide(weight, maps, ctx.aligned), _backward_passes(ctx.fused)
        norm = Norm(mean - bias, (variance + ctx.eps).rsqrt(), gamma, beta)
        sums, d_last = passes.sums(wide, norm, gradient, last)
        away = sums / wide.pixels if ctx.by_batch else torch.zeros_like(sums)
        # A norm by batch takes any bias before it away again.
        d_bias = torch.zeros_like(bias) if ctx.by_batch else sums[0] * gamma * norm.spread
        d_fine, d_own = torch.zeros_like(finest), torch.zeros_like(exact(wide.own))
        d_coarse = [torch.zeros_like(exact(part)) for part in wide.coarse]
        for rows, dt, part in passes.steps(wide, norm, gradient, last, away):
            cut = slice(*rows)
            d_fine[:, :, cut] = part
            d_own += flat(dt).t() @ flat(exact(finest[:, :, cut]))
            for total in d_coarse:
                _add_adjoint(total, dt, rows, tuple(finest.shape[-2:]), ctx.aligned)
        d_weights, d_maps = [d_own], [d_fine]
        for x, d in zip(others, d_coarse, strict=True):
            share = weight[:, sum(m.shape[1] for m in d_maps) :][:, : x.shape[1]]
            d_maps.append(mix(d, exact(share).t()).to(x.dtype))
            d_weights.append(flat(d).t() @ flat(exact(x)))
        d_weight = torch.cat(d_weights, dim=1).to(weight.dtype)
        d_last_bias = exact(gradient).sum(dim=(0, 2, 3)).to(last.dtype)
        d_gamma, d_beta = sums[1].to(gamma.dtype), sums[0].to(gamma.dtype)
        none = (None,) * 6
        d_layers = (d_weight, d_bias, d_gamma, d_beta, d_last.to(last.dtype), d_last_bias)
        return (*none, *d_layers, *d_maps)


def _wide(weight: torch.Tensor, maps: Sequence[torch.Tensor], aligned: bool) -> Wide:
    """Convolve each coarse branch at its own resolution."""
    own, *others = weight.to(maps[0].dtype).split([x.shape[1] for x in maps], dim=1)
    coarse = [mix(x, part) for x, part in zip(maps[1:], others, strict=True)]
    return Wide(maps[0], own.contiguous(), coarse, aligned)


def _forward_passes(fused: bool) -> ModuleType:
    """Return a module that has `moments` and `logits`."""
    if not fused:
        return wide_rows
    from hrseg.kernels import triton_head  # slow to import, and only where Triton is

    return triton_head


def _backward_passes(fused: bool) -> ModuleType:
    """Return a module that has `sums` and `steps`."""
    if not fused:
        return wide_rows
    from hrseg.kernels import triton_back

    return triton_back


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

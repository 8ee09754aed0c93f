"""HRNetV2's head without the concatenated map of all branches.

A 1x1 convolution of concatenated, resized maps equals the sum of the resized 1x1 convolutions of each map: both are
linear, and one mixes channels while the other mixes positions. So every branch is convolved at its own resolution,
for an eighth of the multiply-adds. `choose` picks the fastest form.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hrseg.errors import ConfigError, unknown_choice
from hrseg.ops.enlarge import row_mixture

Branches = Sequence[torch.Tensor]
WHOLE_BYTES = 2**26
"""Largest map of all channels that is computed whole; measured: blocks are faster from 90 MB, slower at 45."""
BLOCK_BYTES = 4 * 2**20
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.Identity)
_forced: ContextVar[str | None] = ContextVar("form", default=None)


def summed(branches: Branches, layers: nn.Sequential, aligned: bool = False) -> torch.Tensor:
    """Convolve each branch at its own resolution, resize and add; then norm, ReLU and classifier.

    Args:
        branches: Finest first.
        layers: 1x1 convolution, norm, ReLU, 1x1 convolution; the first takes the branches' channels in order.
        aligned: Whether resizing aligns the corner pixels.

    Shape:
        branch i (N, C_i, h_i, w_i) → logits (N, K, h_0, w_0)
    """
    conv: Any
    conv, norm, relu, last = layers
    size = (branches[0].shape[-2], branches[0].shape[-1])
    first, *others = conv.weight.split([x.shape[1] for x in branches], dim=1)
    total = F.conv2d(branches[0], first, conv.bias)  # (N, M, h, w)
    for x, weight in zip(branches[1:], others, strict=True):
        part = F.conv2d(x, weight)  # (N, M, h_i, w_i)
        if tuple(part.shape[-2:]) != size:
            part = F.interpolate(part, size, mode="bilinear", align_corners=aligned)
        total += part  # (N, M, h_0, w_0)
    logits: torch.Tensor = last(relu(norm(total)))  # (N, K, h_0, w_0)
    return logits


def in_rows(branches: Branches, layers: nn.Sequential, aligned: bool = False) -> torch.Tensor:
    """Do the same as `summed` a few rows at a time, for inference on a CPU; layers must be in evaluation mode.

    The coarse branches' convolutions are enlarged horizontally by torch, and vertically by one matrix product for
    each block. The norm is folded into the first convolution.
    """
    last: Any = layers[3]
    weight, bias = folded(layers, branches[0].dtype)  # (M, 15C, 1, 1), (M,)
    parts = weight.split([x.shape[1] for x in branches], dim=1)  # (M, C_i, 1, 1) each
    height, width = branches[0].shape[-2:]
    wide = len(weight)
    step = max(8, BLOCK_BYTES // (width * wide * branches[0].element_size()))
    finest = branches[0]
    shape = (len(finest), len(last.weight), height, width)
    logits = torch.empty(shape, dtype=finest.dtype, device=finest.device, memory_format=torch.channels_last)
    own = parts[0].contiguous(memory_format=torch.channels_last)  # (M, C, 1, 1)
    for image in range(len(logits)):
        coarse = [
            F.conv2d(x[image : image + 1], part.contiguous(memory_format=torch.channels_last))
            for x, part in zip(branches[1:], parts[1:], strict=True)
        ]
        for top in range(0, height, step):
            rows = (top, min(top + step, height))
            block = F.conv2d(branches[0][image : image + 1, :, rows[0] : rows[1]], own, bias)
            block = block.contiguous(memory_format=torch.channels_last)  # (1, M, rows, W)
            weights, columns = [], []
            for part in coarse:
                above, share = row_mixture(part.shape[-2], height, rows, aligned, part.device)
                cut = part[:, :, above : above + share.shape[1]]  # (1, M, some, w_i)
                line = F.interpolate(cut, (cut.shape[-2], width), mode="bilinear", align_corners=aligned)
                columns.append(line.permute(0, 2, 3, 1).reshape(share.shape[1], -1))  # (some, W M)
                weights.append(share)
            flat = block.permute(0, 2, 3, 1).view(rows[1] - rows[0], -1)  # (rows, W M), of block
            flat.addmm_(torch.cat(weights, dim=1).to(flat.dtype), torch.cat(columns))
            logits[image : image + 1, :, rows[0] : rows[1]] = last(layers[2](block))
    return logits


def folded(layers: nn.Sequential, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of the first convolution with the norm's running statistics in them.

    Shape:
        → (M, 15C, 1, 1), (M,)
    """
    conv: Any = layers[0]
    norm: Any = layers[1]
    bias = conv.weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias
    if isinstance(norm, nn.Identity):
        return conv.weight.to(dtype), bias.to(dtype)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # (M,)
    weight = conv.weight.float() * scale[:, None, None, None]  # (M, 15C, 1, 1)
    return weight.to(dtype), ((bias.float() - norm.running_mean) * scale + norm.bias).to(dtype)


FORMS: dict[str, Callable[..., torch.Tensor]] = {
    "summed": summed,
    "rows": in_rows,
}
"""Name → form, besides "plain", which concatenates."""


def choose(branches: Branches, layers: nn.Sequential, policy: str) -> str:
    """Return the fastest form for these maps; "plain" wherever another one might not be equal."""
    forced = _forced.get()
    if not _can_be_split(branches, layers, policy):
        return "plain"
    learning = torch.is_grad_enabled() and (
        layers.training or any(x.requires_grad for x in (*branches, *layers.parameters()))
    )
    if forced is not None:
        return "summed" if forced == "rows" and (learning or layers.training) else forced
    finest = branches[0]
    if finest.device.type != "cpu":
        return "plain"  # until the other forms have been measured on such a device
    layer: Any = layers[0]
    size = finest.numel() // finest.shape[1] * len(layer.weight) * finest.element_size()
    if learning or layers.training or size <= WHOLE_BYTES or torch.is_autocast_enabled("cpu"):
        return "summed"
    return "rows"


def _can_be_split(branches: Branches, layers: nn.Sequential, policy: str) -> bool:
    """Return whether this is HRNet's own classifier under a bilinear policy, and nothing traces the network."""
    if policy == "nearest" or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    if torch.jit.is_tracing() or branches[0].device.type == "meta" or len(layers) != 4:
        return False
    conv, norm, _, last = layers
    return (
        type(conv) is nn.Conv2d
        and type(conv.weight) is nn.Parameter
        and conv.kernel_size == (1, 1)
        and type(norm) in _NORMS
        and type(last) is nn.Conv2d
    )


@contextlib.contextmanager
def using(form: str) -> Iterator[None]:
    """Use one form wherever possible, for tests and measurements.

    Raises:
        ConfigError: An unknown form.

    Example:
        >>> with using("plain"):
        ...     pass
    """
    if form not in ("plain", *FORMS):
        raise ConfigError(unknown_choice("form of the head", form, ("plain", *FORMS)))
    token = _forced.set(form)
    try:
        yield
    finally:
        _forced.reset(token)

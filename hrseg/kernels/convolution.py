"""A convolution for inference with what follows it: the norm folded into its weights, addition and ReLU in its loop.

On a CPU oneDNN computes all three in one pass over the map; torch keeps these operators for its compiler, so where a
release lacks them, or refuses, the same is computed step by step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_TYPICAL = (64, 64)
"""Map size that weights are packed for; other sizes give the same numbers."""


def fold(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a convolution and the batch norm after it, by its running statistics.

    Shape:
        → (D, C, k, k), (D,), float32
    """
    weight = conv.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
    if norm is None or isinstance(norm, nn.Identity):
        return weight.float(), bias.float()
    values: Any = norm
    scale = values.weight.double() / (values.running_var.double() + values.eps).sqrt()
    bias = (bias - values.running_mean.double()) * scale + values.bias.double()
    return (weight * scale[:, None, None, None]).float(), bias.float()


class FusedConv(nn.Module):
    """Convolution, norm, and where asked for addition and ReLU, as one step without gradients.

    Args:
        conv: Any plain convolution.
        norm: The batch norm after it, in evaluation mode, or None.
        relu: Whether a ReLU comes last.

    Shape:
        x (N, C, H, W), other (N, D, H', W') or None → (N, D, H', W')
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None = None, relu: bool = False) -> None:
        super().__init__()
        weight, bias = fold(conv, norm)
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.relu = relu
        self.options: tuple[Any, ...] = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.packed: Any = None

    def pack(self) -> None:
        """Bring the weights into oneDNN's own order, once type and device are settled."""
        if self.weight.device.type != "cpu" or not fused_operators():
            return
        stride, padding, dilation, groups = self.options
        size = [1, self.weight.shape[1] * groups, *_TYPICAL]
        try:
            pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            self.packed = pack(self.weight.to_mkldnn(), padding, stride, dilation, groups, size)
        except (AttributeError, RuntimeError, TypeError):  # another release of torch
            self.packed = None

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve, add, cut below zero. Shape: as the class says."""
        stride, padding, dilation, groups = self.options
        if self.packed is None or x.dtype != self.bias.dtype:
            y = F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
            if other is not None:
                y += other
            return F.relu_(y) if self.relu else y
        run: Any = torch.ops.mkldnn._convolution_pointwise
        last = "relu" if self.relu else None
        shared = (list(padding), list(stride), list(dilation), groups)
        y = (
            run(x, self.packed, self.bias, *shared, last or "none", [], "")
            if other is None
            else run.binary(x, other, self.packed, self.bias, *shared, "add", 1.0, last, [], "")
        )
        return y


def fused_operators() -> bool:
    """Tell whether this torch has oneDNN's fused convolutions."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    found = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    return hasattr(found, "binary") and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")

"""Negative log-likelihood at image size from logits at stride 4, in blocks of rows.

Cross-entropy, OHEM and focal loss read nothing else of the logits. Enlarged logits and their gradient exist a few rows
at a time: the backward pass computes them again instead of storing them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from hrseg.ops.enlarge import BUDGET, blocks, enlarged_cut, needed_rows


def upsampled_nll(
    logits: torch.Tensor, mask: torch.Tensor, *, aligned: bool = False, ignore_index: int = 255
) -> torch.Tensor:
    """Return -log p(true class) of the bilinearly enlarged logits, 0 where ignored.

    Equal to unreduced cross-entropy of `F.interpolate`d logits, its gradient included, at a K-th of the memory.

    Args:
        logits: Of any size and precision; the arithmetic is float32.
        mask: trainIds.
        aligned: Whether enlarging aligns the corner pixels.
        ignore_index: trainId of pixels without loss.

    Shape:
        logits (N, K, h, w), mask (N, H, W) → float32 (N, H, W)

    Example:
        >>> upsampled_nll(torch.zeros(1, 2, 1, 1), torch.tensor([[[0, 255]]])).tolist()
        [[[0.6931471824645996, 0.0]]]
    """
    logits = logits.float().contiguous(memory_format=torch.channels_last)  # (N, K, h, w)
    nll: torch.Tensor = _UpsampledNLL.apply(logits, mask.long(), aligned, ignore_index)
    return nll


class _UpsampledNLL(torch.autograd.Function):
    """Both passes go through the image block by block; only logits and mask are saved."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, mask: torch.Tensor, aligned: bool, ignore_index: int) -> torch.Tensor:
        ctx.save_for_backward(logits, mask)
        ctx.aligned, ctx.ignore_index = aligned, ignore_index
        nll = logits.new_empty(mask.shape)  # (N, H, W)
        size = (mask.shape[-2], mask.shape[-1])
        for rows, above, below in _blocks(logits, mask, aligned):
            cut = logits[:, :, above:below]  # (N, K, some, w)
            large = enlarged_cut(cut, above, logits.shape[-2], rows, size, aligned)
            nll[:, rows[0] : rows[1]] = F.cross_entropy(  # large: (N, K, rows, W)
                large, mask[:, rows[0] : rows[1]], ignore_index=ignore_index, reduction="none"
            )
        return nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        logits, mask = ctx.saved_tensors
        total = torch.zeros_like(logits)  # (N, K, h, w)
        size = (mask.shape[-2], mask.shape[-1])
        for rows, above, below in _blocks(logits, mask, ctx.aligned):
            cut = logits[:, :, above:below].detach().requires_grad_()
            with torch.enable_grad():
                large = enlarged_cut(cut, above, logits.shape[-2], rows, size, ctx.aligned)
            truth, weight = mask[:, rows[0] : rows[1]], gradients[0][:, rows[0] : rows[1]]
            ignored = truth == ctx.ignore_index  # (N, rows, W)
            # d -log p(truth) = softmax - one-hot, and nothing for ignored pixels.
            slope = large.detach().softmax(dim=1)  # (N, K, rows, W)
            truth = truth.masked_fill(ignored, 0).unsqueeze(1)  # (N, 1, rows, W)
            slope.scatter_add_(1, truth, slope.new_full(truth.shape, -1.0))
            slope *= weight.masked_fill(ignored, 0.0).unsqueeze(1)  # (N, K, rows, W)
            total[:, :, above:below] += torch.autograd.grad(large, cut, slope)[0]
        return total, None, None, None


def _blocks(logits: torch.Tensor, mask: torch.Tensor, aligned: bool) -> Any:
    """Yield blocks of the mask's rows, each with its rows of the logits."""
    count, classes, small = logits.shape[:3]
    large, width = mask.shape[-2:]
    budget = BUDGET.get(logits.device.type, BUDGET["cpu"])
    for rows in blocks(small, large, 4 * count * classes * width, budget):
        yield rows, *needed_rows(small, rows, large, aligned)

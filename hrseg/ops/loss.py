"""Negative log-likelihood at image size from logits at stride 4, in blocks of rows.

Cross-entropy, OHEM and focal loss read nothing else of the logits. Enlarged logits and their gradient exist a few rows
at a time: the backward pass computes them again, unless all of them are few enough to be kept.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from hrseg.ops.enlarge import BUDGET, blocks, enlarged_cut, needed_rows

MAX_KEPT = 2**25
"""Bytes of enlarged logits that are kept for the backward pass; enlarging again takes 4 % of a step of small v1."""


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
    """Both passes go through the image block by block; beyond MAX_KEPT only logits and mask are saved."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, mask: torch.Tensor, aligned: bool, ignore_index: int) -> torch.Tensor:
        ctx.save_for_backward(logits, mask)
        ctx.aligned, ctx.ignore_index = aligned, ignore_index
        nll = logits.new_empty(mask.shape)  # (N, H, W)
        kept: list[_Block] | None = [] if logits.shape[1] * nll.numel() * 4 <= MAX_KEPT else None
        for block in _blocks(logits, mask, aligned):
            rows = slice(*block.rows)
            nll[:, rows] = F.cross_entropy(
                block.large.detach(), mask[:, rows], ignore_index=ignore_index, reduction="none"
            )
            if kept is not None:
                kept.append(block)
        ctx.kept = kept
        return nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        logits, mask = ctx.saved_tensors
        total = torch.zeros_like(logits)  # (N, K, h, w)
        for block in ctx.kept if ctx.kept is not None else _blocks(logits, mask, ctx.aligned):
            rows = slice(*block.rows)
            truth, weight = mask[:, rows], gradients[0][:, rows]
            ignored = truth == ctx.ignore_index  # (N, rows, W)
            # d -log p(truth) = softmax - one-hot, and nothing for ignored pixels.
            slope = block.large.detach().softmax(dim=1)  # (N, K, rows, W)
            truth = truth.masked_fill(ignored, 0).unsqueeze(1)  # (N, 1, rows, W)
            slope.scatter_add_(1, truth, slope.new_full(truth.shape, -1.0))
            slope *= weight.masked_fill(ignored, 0.0).unsqueeze(1)  # (N, K, rows, W)
            total[:, :, slice(*block.needed)] += torch.autograd.grad(block.large, block.cut, slope)[0]
        ctx.kept = None
        return total, None, None, None


class _Block(NamedTuple):
    """Some rows of the enlarged logits, with the graph of their enlargement."""

    rows: tuple[int, int]  # first of the image, and the one after the last
    needed: tuple[int, int]  # of the logits
    cut: torch.Tensor  # (N, K, needed, w), a leaf
    large: torch.Tensor  # (N, K, rows, W)


def _blocks(logits: torch.Tensor, mask: torch.Tensor, aligned: bool) -> Iterator[_Block]:
    count, classes, small = logits.shape[:3]
    size = (mask.shape[-2], mask.shape[-1])
    budget = BUDGET.get(logits.device.type, BUDGET["cpu"])
    for rows in blocks(small, size[0], 4 * count * classes * size[1], budget):
        needed = needed_rows(small, rows, size[0], aligned)
        cut = logits[:, :, slice(*needed)].detach().requires_grad_()
        with torch.enable_grad():
            large = enlarged_cut(cut, needed[0], small, rows, size, aligned)
        yield _Block(rows, needed, cut, large)

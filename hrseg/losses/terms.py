"""Segmentation losses of logits and mask, and the table of their names.

Every term computes in float32, leaves out pixels whose trainId is the ignore index, and is zero with zero gradients
when no pixel is left.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


def cross_entropy(
    logits: torch.Tensor,
    mask: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = 255,
    average: str = "valid",
    nll: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the class-weighted mean of -log p(true class) over the valid pixels.

    The mean is taken here and not inside torch's kernel, whose reduction is not deterministic on CUDA.

    Args:
        average: "valid" divides by the sum of the weights of the valid pixels; "all" by the number
            of pixels, ignored ones included, whatever the weights.
        nll: -log p(true class) at every pixel, if computed already; logits are not read then.

    Shape:
        logits (N, K, H, W), mask (N, H, W) → scalar

    Example:
        >>> cross_entropy(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1).long())
        tensor(0.6931)

    Source: "all" is CrossEntropyLoss of mmsegmentation with avg_non_ignore=False, its default.
    """
    nll, weights = _pixel_nll(logits, mask, class_weights, ignore_index, nll)
    return _mean(nll * weights, weights if average == "valid" else torch.ones_like(weights))


def ohem(
    logits: torch.Tensor,
    mask: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = 255,
    threshold: float = 0.9,
    min_kept: float = 131072,
    average: str = "valid",
    nll: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the plain mean of the class-weighted losses of the hard pixels.

    This is online hard example mining (OHEM). A pixel is hard when the probability of its true class is
    below `threshold`, or below that of the `min_kept`-th hardest pixel where that is higher. Pixels are
    ranked over the device's whole batch.

    Args:
        threshold: Probability below which a pixel is always used; 0 leaves the `min_kept` hardest alone.
        min_kept: Minimum number of pixels; up to 1, a share of the valid pixels instead.
        average: "valid" divides by the number of hard pixels, "all" by that of all pixels.

    Shape:
        logits (N, K, H, W), mask (N, H, W) → scalar

    Source: OhemCrossEntropy of the official code, which fails where no pixel is valid or hard. "all" is
    OHEMPixelSampler of mmsegmentation, which weighs easy pixels 0 in a mean over all.
    """
    nll, weights = _pixel_nll(logits, mask, class_weights, ignore_index, nll)
    valid = mask != ignore_index
    with torch.no_grad():
        probability = nll.neg().exp()  # (N, H, W), of the true class
        count = valid.sum()
        wanted = (count * min_kept).long() if min_kept <= 1 else torch.full_like(count, int(min_kept))
        position = torch.minimum(wanted, count - 1).clamp_min(0)
        # Ignored pixels get 2 and rank last. A full sort, since kthvalue is not deterministic on CUDA.
        ranked = probability.masked_fill(~valid, 2.0).flatten().sort().values  # (N H W,)
        limit = ranked.index_select(0, position.reshape(1)).clamp_min(threshold)  # (1,)
        hard = (valid & (probability < limit)).float()  # (N, H, W)
    return _mean(nll * weights * hard, hard if average == "valid" else torch.ones_like(hard))


def dice(logits: torch.Tensor, mask: torch.Tensor, *, ignore_index: int = 255) -> torch.Tensor:
    """Return 1 - Dice of the probabilities over the whole batch, averaged over the K classes.

    A class without a pixel in the mask adds zero to the average.

    Shape:
        logits (N, K, H, W), mask (N, H, W) → scalar

    Source: equal to DiceLoss(mode="multiclass") of segmentation_models_pytorch 0.6, with an eighth
    of its memory for the one-hot mask.
    """
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)  # (1, K, 1, 1)
    truth = mask.unsqueeze(1) == classes  # (N, K, H, W), False everywhere for ignored pixels
    probability = logits.float().softmax(dim=1) * (mask != ignore_index).unsqueeze(1)
    pixels = truth.sum(dim=(0, 2, 3))  # (K,)
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    total = probability.sum(dim=(0, 2, 3)) + pixels
    score = 2 * overlap / total.clamp_min(1e-7)  # (K,)
    return torch.where(pixels > 0, 1 - score, 0 * score).mean()  # zero with a zero gradient


def lovasz(logits: torch.Tensor, mask: torch.Tensor, *, ignore_index: int = 255) -> torch.Tensor:
    """Return the Lovász-softmax loss over the classes present in the batch's masks.

    Shape:
        logits (N, K, H, W), mask (N, H, W) → scalar

    Source: arXiv:1705.08790, algorithm 1; the "present", whole-batch form of the authors' code.
    """
    probability = logits.float().softmax(dim=1)  # (N, K, H, W)
    valid = mask != ignore_index
    present = mask[valid].unique().tolist()  # trainIds in the batch
    total = 0 * probability.sum()  # zero with zero gradients where no class is present
    for index in present:
        truth = mask == index  # (N, H, W)
        # An ignored pixel has error 0: it ranks last and changes neither loss nor gradient.
        errors = torch.where(valid, (truth.float() - probability[:, index]).abs(), 0.0).flatten()
        total = total + (errors * _lovasz_weights(errors.detach(), truth.flatten())).sum()
    return total / max(1, len(present))


def focal(
    logits: torch.Tensor,
    mask: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = 255,
    gamma: float = 2.0,
    nll: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the class-weighted mean of -(1 - p)^gamma log p; gamma 0 is cross-entropy.

    Shape:
        logits (N, K, H, W), mask (N, H, W) → scalar

    Source: arXiv:1708.02002. The mean divides by the weights' sum, as in `cross_entropy`; that is
    ours.
    """
    nll, weights = _pixel_nll(logits, mask, class_weights, ignore_index, nll)
    one_minus_p = -torch.expm1(-nll)  # without cancellation where p is close to 1
    # The floor bounds the slope of x^gamma at 0 for gamma below 1.
    return _mean(one_minus_p.clamp_min(1e-6) ** gamma * nll * weights, weights)


class Term(NamedTuple):
    """A loss, the settings of WeightedSum that it takes, and whether it reads the logits only as -log p(true class)."""

    function: Callable[..., torch.Tensor]
    settings: tuple[str, ...] = ()
    from_nll: bool = False


LOSSES: dict[str, Term] = {
    "cross_entropy": Term(cross_entropy, ("class_weights", "average"), True),
    "dice": Term(dice),
    "focal": Term(focal, ("class_weights", "gamma"), True),
    "lovasz": Term(lovasz),
    "ohem": Term(ohem, ("class_weights", "threshold", "min_kept", "average"), True),
}


def _pixel_nll(
    logits: torch.Tensor,
    mask: torch.Tensor,
    class_weights: torch.Tensor | None,
    ignore_index: int,
    nll: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return -log p(true class) and the weight per pixel, both (N, H, W) and 0 where ignored."""
    if nll is None:
        nll = F.cross_entropy(logits.float(), mask, ignore_index=ignore_index, reduction="none")
    valid = mask != ignore_index
    if class_weights is None:
        return nll, valid.float()
    weights = class_weights.to(nll)[mask.masked_fill(~valid, 0)]  # (N, H, W)
    return nll, weights * valid


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    total = weights.sum()
    return values.sum() / torch.where(total > 0, total, torch.ones_like(total))


@torch.no_grad()
def _lovasz_weights(errors: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the Jaccard loss' Lovász extension at these errors, in pixel order.

    Counts are integers: float sums would lose pixels beyond 2^24 and are not deterministic on CUDA.
    """
    order = errors.sort(descending=True, stable=True).indices  # (N H W,)
    ranked = truth[order]
    found = ranked.cumsum(0)  # pixels of the class among those with the largest errors
    pixels = found[-1]
    rank = torch.arange(1, len(errors) + 1, device=errors.device)
    jaccard = 1 - (pixels - found).double() / (pixels + rank - found)  # (N H W,)
    steps = torch.diff(jaccard, prepend=jaccard.new_zeros(1)).float()
    return torch.empty_like(errors).scatter_(0, order, steps)

"""Effective receptive field of a prediction, from gradients.

The field is the absolute gradient of the largest logit at a pixel with respect to the input, centered on that pixel
and averaged over several pixels. Its sum from the middle outwards gives a radius. An offset that is outside the image
for some of the pixels is averaged over the others.

Source: Luo et al., "Understanding the effective receptive field in deep convolutional neural networks",
arXiv:1701.04128. The split by branches is ours: the gradient is the sum of the gradients through each branch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from hrseg.explain.ablation import check_branches

Place = tuple[int, int]
PLACES = 9


def places(height: int, width: int, count: int = PLACES) -> list[Place]:
    """Spread pixels over the middle half of an image: a square number of them, or the next smaller one.

    Example:
        >>> places(9, 17, 4)
        [(2, 4), (2, 12), (6, 4), (6, 12)]
    """
    side = max(1, int(count**0.5))
    parts = [0.5] if side == 1 else [0.25 + 0.5 * i / (side - 1) for i in range(side)]
    return [(round(y * (height - 1)), round(x * (width - 1))) for y in parts for x in parts]


def receptive_field(
    logits_fn: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    where: Sequence[Place] | None = None,
) -> np.ndarray:
    """Measure the field of any function from images to logits.

    Args:
        logits_fn: Differentiable; maps (1, bands, H, W) to (1, K, H, W).
        image: Normalized; the field depends on it, since ReLUs do.
        where: Pixels (row, column); None takes nine in the middle half.

    Returns:
        Part of the whole gradient at each offset; the middle, (H - 1, W - 1), is the pixel itself.

    Shape:
        image (1, bands, H, W) → float64 (2H - 1, 2W - 1)

    Example:
        >>> field = receptive_field(lambda x: x, torch.rand(1, 2, 5, 7))
        >>> field.shape, float(field[4, 6])
        ((9, 13), 1.0)
    """
    image = image.detach().requires_grad_(True)
    height, width = int(image.shape[-2]), int(image.shape[-1])
    total = np.zeros((2 * height - 1, 2 * width - 1))  # offsets, the pixel itself in the middle
    where = where or places(height, width)
    logits = logits_fn(image)  # (1, K, H, W)
    for place in where:
        (gradient,) = torch.autograd.grad(_winner(logits, place), image, retain_graph=True)
        _add(total, gradient, place)
    return _normalized(total, where)


def branch_fields(
    network: Any, image: torch.Tensor, where: Sequence[Place] | None = None
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Measure the field of a network's predictions, and its part through each branch.

    Args:
        network: As for `ablation.switch_off`.
        image: Normalized.
        where: Pixels (row, column); None takes nine in the middle half.

    Returns:
        The field; that of each branch alone; and how large the gradients through each branch are, as parts of
        their sum.

    Raises:
        ConfigError: The network does not give its branches.

    Shape:
        image (1, bands, H, W) → (2H - 1, 2W - 1), one like it for each branch, (branches,)
    """
    check_branches(network)
    image = image.detach().requires_grad_(True)
    size = (int(image.shape[-2]), int(image.shape[-1]))
    shape = (2 * size[0] - 1, 2 * size[1] - 1)
    maps = network.forward_branches(image)
    cut = [x.detach().requires_grad_(True) for x in maps]  # so that each has its own gradient
    logits = network.upsample(network.head(cut)["main"], size)  # (1, K, H, W)
    total, parts = np.zeros(shape), [np.zeros(shape) for _ in maps]
    where = where or places(*size)
    for place in where:
        into = torch.autograd.grad(_winner(logits, place), cut, retain_graph=True, allow_unused=True)
        whole = torch.zeros_like(image)  # (1, bands, H, W)
        for part, own, gradient in zip(parts, maps, into, strict=True):
            if gradient is None:  # a head that does not read this branch
                continue
            (reached,) = torch.autograd.grad(own, image, gradient, retain_graph=True)
            whole += reached  # (1, bands, H, W)
            _add(part, reached, place)
        _add(total, whole, place)
    amounts = np.array([part.sum() for part in parts])  # (B,)
    return (
        _normalized(total, where),
        [_normalized(part, where) for part in parts],
        amounts / max(float(amounts.sum()), 1e-30),
    )


def radius(field: np.ndarray, share: float = 0.95) -> float:
    """Return the radius of the disc around the middle that holds a share of a field.

    Args:
        field: As `receptive_field` gives it.
        share: 0 to 1.

    Shape:
        (2H - 1, 2W - 1)

    Example:
        >>> radius(np.ones((3, 3)) / 9, 0.5)
        1.0
    """
    rows, columns = (np.arange(length) - length // 2 for length in field.shape)
    squares = (rows[:, None] ** 2 + columns**2).ravel()  # ((2H - 1) (2W - 1),)
    order = np.argsort(squares, kind="stable")
    cumulative = np.cumsum(field.ravel()[order])
    if cumulative[-1] <= 0:
        return 0.0
    last = int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-9)))
    return float(np.sqrt(squares[order[min(last, len(order) - 1)]]))


def _winner(logits: torch.Tensor, place: Place) -> torch.Tensor:
    return logits[0, :, place[0], place[1]].max()


def _add(total: np.ndarray, gradient: torch.Tensor, place: Place) -> None:
    """Add the absolute gradient, shifted so that the place is in the middle."""
    size = gradient[0].abs().sum(dim=0).double().cpu().numpy()  # (H, W)
    height, width = size.shape
    top, left = height - 1 - place[0], width - 1 - place[1]
    total[top : top + height, left : left + width] += size


def _normalized(field: np.ndarray, where: Sequence[Place]) -> np.ndarray:
    """Average each offset over the places for which it is inside the image; the sum is 1."""
    height, width = ((length + 1) // 2 for length in field.shape)
    counts = np.zeros(field.shape)  # places for which an offset is inside
    for y, x in where:
        top, left = height - 1 - y, width - 1 - x
        counts[top : top + height, left : left + width] += 1
    mean = field / np.maximum(counts, 1)
    whole = mean.sum()
    return mean / whole if whole > 0 else mean

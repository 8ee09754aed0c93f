"""From logits at stride 4 to labels at image size where nothing else is wanted: most pixels need no arithmetic.

A pixel of the enlarged logits is a mean of the four coarse pixels around it, the corners of its cell. Where these
four have the same winner it wins there too, by as much as it wins on average. So labels are copied wherever four
neighbours agree, and only cells with a boundary in them are computed, which are a tenth of a street.
"""

from dataclasses import dataclass

import torch

from hrseg.kernels.rows import places

CROWDED = 0.2
"""Above this share of cells with boundaries, plain enlargement is as fast."""
_CHUNK = 2**11
"""Cells at once: with a few dozen classes they fit into a core's cache."""


@dataclass(frozen=True)
class _Axis:
    """What lies where along one side.

    Attributes:
        upper: The coarse pixel before each pixel of the image, which its cell is named after.
        share: How near the pixel is to the coarse one behind it.
        first: First pixel of each cell.
        count: Pixels of each cell.
    """

    upper: torch.Tensor
    share: torch.Tensor
    first: torch.Tensor
    count: torch.Tensor

    @staticmethod
    def between(small: int, large: int, aligned: bool, device: torch.device) -> "_Axis":
        upper, _, share = places(small, large, aligned, device)
        count = torch.bincount(upper, minlength=small)
        return _Axis(upper, share, count.cumsum(0) - count, count)

    def pixels(self, cells: torch.Tensor) -> torch.Tensor:
        """Return the pixels of some cells; those of small cells repeat the last one. Shape: (M,) → (M, P)."""
        steps = torch.arange(int(self.count.max()), device=cells.device)
        return self.first[cells, None] + torch.minimum(steps, self.count[cells, None] - 1)


def labels_between_agreements(
    logits: torch.Tensor, size: tuple[int, int], policy: str = "bilinear"
) -> torch.Tensor | None:
    """Return the labels that `labels.labels_from_logits` gives, up to the rounding of equal logits.

    Args:
        logits: As a head gives them.
        size: (height, width) of the image.
        policy: The network's resize policy.

    Returns:
        trainIds, or None where neighbours disagree so often that it would not be faster, and above 256 classes.

    Shape:
        logits (N, K, h, w) → uint8 (N, H, W)

    Example:
        >>> logits = torch.tensor([[[[2.0, 2, 2, 1, 1, 1]], [[0, 0, 0, 3, 3, 3]]]])
        >>> labels_between_agreements(logits, (1, 12)).flatten().tolist()
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    """
    _, classes, small, narrow = logits.shape
    if classes > 256:
        return None
    # What follows reads all classes of a pixel at once.
    logits = logits.float().contiguous(memory_format=torch.channels_last)
    winner = logits.max(dim=1)[1].to(torch.uint8)  # (N, h, w)
    mixed = _disagree(winner)
    if int(mixed.sum()) > CROWDED * mixed.numel():
        return None
    aligned = policy == "bilinear_aligned"
    down, along = (
        _Axis.between(*sides, aligned, logits.device)
        for sides in zip((small, narrow), size, strict=True)
    )
    labels = winner.index_select(1, down.upper).index_select(2, along.upper)
    mixed &= (down.count[:, None] > 0) & (along.count > 0)
    rows = logits.permute(0, 2, 3, 1).reshape(-1, classes)  # (N h w, K)
    for cells in mixed.flatten().nonzero()[:, 0].split(_CHUNK):
        i, j = cells // narrow % small, cells % narrow
        # Steps to the corners below and on the right; beyond the rim nothing lies.
        below, right = narrow * (i < small - 1), (j < narrow - 1).long()
        corners = (cells, cells + right, cells + below, cells + below + right)
        a, b, c, d = (rows.index_select(0, corner)[..., None] for corner in corners)  # (M, K, 1)
        y, x = down.pixels(i), along.pixels(j)
        near, low = along.share[x][:, None], down.share[y][:, None, :, None]
        above, under = torch.lerp(a, b, near), torch.lerp(c, d, near)  # (M, K, P)
        chosen = torch.lerp(above[:, :, None], under[:, :, None], low).max(dim=1)[1]  # (M, P, P)
        top = cells // (small * narrow) * size[0]
        line = (top[:, None] + y) * size[1]
        labels.view(-1)[line[:, :, None] + x[:, None]] = chosen.to(torch.uint8)
    return labels


def _disagree(winner: torch.Tensor) -> torch.Tensor:
    """Tell where a pixel and those right of it, below and between have several winners. Shape: (N, h, w), bool."""
    below = torch.cat([winner[:, 1:], winner[:, -1:]], dim=1)
    right, across = (torch.cat([x[:, :, 1:], x[:, :, -1:]], dim=2) for x in (winner, below))
    return (winner != below) | (winner != right) | (winner != across)

"""From logits at stride 4 to labels at image size where nothing else is wanted: most pixels need no arithmetic.

A pixel of the enlarged logits is a mean of the four coarse pixels around it. Where these four have the same winner it
wins there too, by as much as it wins on average. So labels are copied wherever four neighbours agree, and only the
pixels beside a boundary are computed, which are a tenth of a street.
"""

import torch

from hrseg.kernels.rows import places

CROWDED = 0.25
"""Above this share of pixels beside boundaries, plain enlargement is as fast."""
_CHUNK = 2**15


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
    height, width = size
    if classes > 256:
        return None
    aligned = policy == "bilinear_aligned"
    winner = logits.max(dim=1)[1].to(torch.uint8)  # (N, h, w)
    upper, lower, down = places(small, height, aligned, logits.device)
    left, right, along = places(narrow, width, aligned, logits.device)
    mixed = _spread(_disagree(winner), upper, left).flatten()
    where = mixed.nonzero()[:, 0]
    if len(where) > CROWDED * len(mixed):
        return None
    labels = _spread(winner, upper, left)
    rows = logits.float().permute(0, 2, 3, 1).reshape(-1, classes)  # (N h w, K)
    for pixels in where.split(_CHUNK):
        image = pixels // (height * width)
        y, x = pixels // width - image * height, pixels % width
        above, below = (image * small + upper[y]) * narrow, (image * small + lower[y]) * narrow
        near, far, share = left[x], right[x], along[x, None]
        corners = (above + near, above + far, below + near, below + far)
        a, b, c, d = (rows.index_select(0, corner) for corner in corners)
        chosen = torch.lerp(a.lerp_(b, share), c.lerp_(d, share), down[y, None]).max(dim=1)[1]
        labels.view(-1)[pixels] = chosen.to(torch.uint8)
    return labels


def _disagree(winner: torch.Tensor) -> torch.Tensor:
    """Tell where a pixel and those right of it, below and between have several winners. Shape: (N, h, w), bool."""
    below = torch.cat([winner[:, 1:], winner[:, -1:]], dim=1)
    right, across = (torch.cat([x[:, :, 1:], x[:, :, -1:]], dim=2) for x in (winner, below))
    return (winner != below) | (winner != right) | (winner != across)


def _spread(maps: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return maps.index_select(1, rows).index_select(2, columns)

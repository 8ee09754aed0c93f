"""From logits at stride 4 to labels at image size, block by block of rows.

Logits of 150 classes at 1024 x 2048 are 1.2 GB as one tensor. Here they exist a few rows at a time, small enough for
the processor's cache, and each block is reduced to labels and to the maps asked for.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch

from hrseg.errors import ConfigError, unknown_choice
from hrseg.ops.interpolate_rows import blocks, enlarged_rows, places

MAPS = ("confidence", "entropy", "margin", "samples")
"""What can be had besides labels: the probability of the label, the entropy of all (in nats), the label's
probability less the next one's, and the confidence of every STEP-th row and column."""
STEP = 4
_SLICE = 64  # rows reduced at once
BUDGET = {"cpu": 4 * 2**20, "cuda": 2**28}
"""Bytes of a block: what a core's caches hold, and what a GPU needs to be busy."""


@dataclass(frozen=True)
class LabelStrip:
    """Some rows of a label map.

    Attributes:
        top: The first of them.
        labels: trainIds, uint8 (N, rows, W), int16 above 256 classes.
        confidence: Probability of the label, float32 (N, rows, W), where asked for; and so on.
        entropy: Of the probabilities, in nats.
        margin: Probability of the label less that of the second class.
        samples: Confidence of the pixels whose row and column STEP divides, float32 (N, some, ceil(W / STEP)).
    """

    top: int
    labels: torch.Tensor
    confidence: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    margin: torch.Tensor | None = None
    samples: torch.Tensor | None = None


def labels_from_logits(
    logits: torch.Tensor,
    size: tuple[int, int],
    *,
    policy: str = "bilinear",
    want: Collection[str] = (),
) -> Iterator[LabelStrip]:
    """Yield labels at image size, from top to bottom, without logits of that size.

    Labels are those of the whole: float32, enlarged bilinearly (with aligned corners for "bilinear_aligned"), and of
    equal logits the first class.

    Args:
        logits: As a head gives them.
        size: (height, width) of the image.
        policy: The network's resize policy.
        want: Any of MAPS.

    Shape:
        logits (N, K, h, w) → bands of (N, rows, W)

    Raises:
        ConfigError: An unknown map.

    Example:
        >>> logits = torch.tensor([[[[0.0, 9.0]], [[5.0, 5.0]]]])
        >>> [band.labels.tolist() for band in labels_from_logits(logits, (1, 4))]
        [[[[1, 1, 0, 0]]]]
    """
    for name in want:
        if name not in MAPS:
            raise ConfigError(unknown_choice("map", name, MAPS))
    if not set(want) - {"samples"} and logits.device.type == "cpu":
        labels = labels_between_agreements(logits, size, policy)
        if labels is not None:
            yield LabelStrip(0, labels, samples=_samples(logits, size, policy) if want else None)
            return
    for top, band in logit_rows(logits, size, policy):
        yield reduce_logits(top, band, want)


def logit_rows(
    logits: torch.Tensor, size: tuple[int, int], policy: str = "bilinear"
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield logits at image size a few rows at a time, for whoever reduces them in a way of their own.

    Args:
        logits: As a head gives them.
        size: (height, width) of the image.
        policy: The network's resize policy.

    Shape:
        logits (N, K, h, w) → (top, float32 (N, K, rows, W)), from top to bottom
    """
    logits = logits.float().contiguous(memory_format=torch.channels_last)
    count, classes, small = logits.shape[:3]
    budget = BUDGET.get(logits.device.type, BUDGET["cpu"])
    for first, last in blocks(small, size[0], 4 * count * classes * size[1], budget):
        yield first, enlarged_rows(logits, (first, last), size, policy == "bilinear_aligned")


def reduce_blocks(
    blocks: Iterable[tuple[int, int, torch.Tensor]], width: int, want: Collection[str] = ()
) -> Iterator[LabelStrip]:
    """Reduce logits that come in rows of blocks; yield each row once its last block ends with the image.

    Args:
        blocks: First row, first column and logits, each row from left to right.
        width: Of the image.
        want: Any of MAPS.

    Shape:
        blocks (N, K, rows, columns) → bands of (N, rows, W)
    """
    row: list[LabelStrip] = []
    for top, left, logits in blocks:
        parts = [band for band, _ in reduce_slices(top, left, logits, want)]
        row.append(_joined(parts, 1))
        end = left + logits.shape[-1]
        del logits  # not to be held while the network runs
        if end == width:
            yield _joined(row, 2)
            row = []


def reduce_slices(
    top: int, left: int, logits: torch.Tensor, want: Collection[str] = ()
) -> Iterator[tuple[LabelStrip, torch.Tensor]]:
    """Reduce a block some rows at a time, so that what comes between stays small; yield these rows too.

    Shape:
        logits (N, K, rows, columns) → bands of (N, some, columns), logits (N, K, some, columns)
    """
    for first in range(0, logits.shape[-2], _SLICE):
        rows = logits[..., first : first + _SLICE, :]
        yield reduce_logits(top + first, rows, want, left), rows


def _joined(bands: Sequence[LabelStrip], dim: int) -> LabelStrip:
    if len(bands) == 1:
        return bands[0]
    maps = {}
    for field in fields(LabelStrip)[1:]:
        parts = [getattr(band, field.name) for band in bands]
        if parts[0] is not None:
            maps[field.name] = torch.cat(parts, dim)
    return LabelStrip(bands[0].top, **maps)


def reduce_logits(
    top: int, logits: torch.Tensor, want: Collection[str] = (), left: int = 0
) -> LabelStrip:
    """Reduce a band of logits to labels and maps.

    Args:
        top: First row of the band.
        logits: At image size.
        want: Any of MAPS.
        left: First column.

    Shape:
        logits (N, K, rows, W) → (N, rows, W)
    """
    best, winner = logits.max(dim=1)
    labels = winner.to(torch.uint8 if logits.shape[1] <= 256 else torch.int16)
    if not want:
        return LabelStrip(top, labels)
    maps = {}
    if "samples" in want:
        maps["samples"] = _confidence(logits[:, :, -top % STEP :: STEP, -left % STEP :: STEP])
        if len(want) == 1:
            return LabelStrip(top, labels, **maps)
    below = logits - best.unsqueeze(1)  # (N, K, rows, W), 0 for the winner
    powers = below.exp()
    total = powers.sum(dim=1)
    if "confidence" in want:
        maps["confidence"] = total.reciprocal()
    if "entropy" in want:
        # -sum p log p with p = e^b / total; a logit of minus infinity adds nothing.
        maps["entropy"] = total.log() - (powers * below.clamp_min(-1e4)).sum(dim=1) / total
    if "margin" in want:
        powers.scatter_(1, winner.unsqueeze(1), 0.0)
        maps["margin"] = (1 - powers.amax(dim=1)) / total
    return LabelStrip(top, labels, **maps)


def _confidence(logits: torch.Tensor) -> torch.Tensor:
    return torch.exp(logits.amax(dim=1) - logits.logsumexp(dim=1))


def _samples(logits: torch.Tensor, size: tuple[int, int], policy: str) -> torch.Tensor:
    """Return the confidence of every STEP-th row and column, from the coarse logits."""
    maps, aligned = logits.float(), policy == "bilinear_aligned"
    for dim in (-2, -1):
        first, second, share = places(maps.shape[dim], size[dim], aligned, maps.device)
        first, second, share = first[::STEP], second[::STEP], share[::STEP]
        share = share[:, None] if dim == -2 else share
        maps = torch.lerp(maps.index_select(dim, first), maps.index_select(dim, second), share)
    return _confidence(maps)


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
        trainIds, or None where neighbors disagree so often that it would not be faster, and above 256 classes.

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

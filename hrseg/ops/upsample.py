"""Bilinear upsampling of stride-4 logits a block of rows at a time, and their reduction to labels.

Logits of 150 classes at 1024 x 2048 are 1.2 GB as one tensor. Here they exist a few rows at a time, small enough for
the processor's cache, and each block is reduced to labels and to the maps asked for.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch

from hrseg.errors import ConfigError, unknown_choice
from hrseg.ops.enlarge import BUDGET, blocks, enlarged_rows, row_mixture, source_rows

MAPS = ("confidence", "entropy", "margin", "samples")
"""Maps besides labels: the probability of the label, the entropy of all (in nats), the label's probability less the
second largest, and the confidence of every STEP-th row and column."""
STEP = 8
_SLICE = 64  # rows reduced at once
_TILE = 64, 128  # (rows, columns) of a map computed at once: with a few dozen classes they fit into a core's cache


@dataclass(frozen=True)
class LabelStrip:
    """Rows of a label map, and the maps that were asked for, see MAPS.

    Attributes:
        top: First row.
        labels: trainIds, uint8 (N, rows, W), int16 above 256 classes.
        confidence: float32 (N, rows, W), as entropy and margin.
        entropy: In nats.
        margin: 0 … 1.
        samples: Confidence where STEP divides row and column, float32 (N, rows', ceil(W / STEP)).
    """

    top: int
    labels: torch.Tensor
    confidence: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    margin: torch.Tensor | None = None
    samples: torch.Tensor | None = None


@dataclass(frozen=True)
class CoarseLogits:
    """Logits of one image at stride 4, from which its maps follow when they are asked for.

    Attributes:
        values: float32 (1, K, h, w).
        size: (height, width) of the image.
        policy: The network's resize policy.

    Example:
        >>> CoarseLogits(torch.tensor([[[[0.0, 9.0]], [[9.0, 0.0]]]]), (1, 4)).map("confidence").round(decimals=2)
        tensor([[1.0000, 0.9900, 0.9900, 1.0000]])
    """

    values: torch.Tensor
    size: tuple[int, int]
    policy: str = "bilinear"

    def map(self, name: str) -> torch.Tensor:
        """Return one of MAPS at image size, without logits of that size. Shape: float32 (H, W).

        Rows and columns are enlarged by matrix products, tile by tile: twice as fast as `F.interpolate`, and equal up
        to rounding.
        """
        values, (height, width) = self.values[0].float(), self.size  # (K, h, w)
        aligned, device = self.policy == "bilinear_aligned", self.values.device
        result = torch.empty(self.size)
        columns = [
            (left, *row_mixture(values.shape[2], width, (left, min(left + _TILE[1], width)), aligned, device))
            for left in range(0, width, _TILE[1])
        ]
        for top in range(0, height, _TILE[0]):
            above, mixture = row_mixture(values.shape[1], height, (top, min(top + _TILE[0], height)), aligned, device)
            rows = mixture @ values[:, above : above + mixture.shape[1]]  # (K, rows, w)
            for left, before, mixture in columns:
                tile = rows[..., before : before + mixture.shape[1]] @ mixture.T  # (K, rows, columns)
                best, winner = tile.max(dim=0) if name == "margin" else (tile.amax(dim=0), None)
                found = _softmax_maps(tile[None], best[None], None if winner is None else winner[None], (name,))[name]
                result[top : top + tile.shape[1], left : left + tile.shape[2]] = found[0]
        return result


def labels_from_logits(
    logits: torch.Tensor,
    size: tuple[int, int],
    *,
    policy: str = "bilinear",
    want: Collection[str] = (),
) -> Iterator[LabelStrip]:
    """Yield labels at image size, from top to bottom, without logits of that size.

    Logits are enlarged bilinearly in float32 (with aligned corners for "bilinear_aligned"); of equal logits the first
    class wins.

    Args:
        logits: Of a head, at stride 4.
        size: (height, width) of the image.
        policy: The network's resize policy.
        want: Any of MAPS.

    Shape:
        logits (N, K, h, w) → strips of (N, rows, W)

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
        labels = labels_of_boundary_cells(logits, size, policy)
        if labels is not None:
            yield LabelStrip(0, labels, samples=_samples(logits, size, policy) if want else None)
            return
    for top, rows in logit_rows(logits, size, policy):
        yield reduce_logits(top, rows, want)


def logit_rows(
    logits: torch.Tensor, size: tuple[int, int], policy: str = "bilinear"
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield logits at image size a few rows at a time; for the arguments see `labels_from_logits`.

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
    """Reduce logits that come in rows of blocks; yield each row of blocks once it is complete.

    Args:
        blocks: First row, first column and logits, each row from left to right.
        width: Of the image.
        want: Any of MAPS.

    Shape:
        blocks (N, K, rows, columns) → strips of (N, rows, W)
    """
    row: list[LabelStrip] = []
    for top, left, logits in blocks:
        parts = [strip for strip, _ in reduce_slices(top, left, logits, want)]
        row.append(_joined(parts, 1))
        end = left + logits.shape[-1]
        del logits  # memory: not to be held while the network runs
        if end == width:
            yield _joined(row, 2)
            row = []


def reduce_slices(
    top: int, left: int, logits: torch.Tensor, want: Collection[str] = ()
) -> Iterator[tuple[LabelStrip, torch.Tensor]]:
    """Reduce a block some rows at a time, so that temporaries stay small; yield the rows' logits too."""
    for first in range(0, logits.shape[-2], _SLICE):
        rows = logits[..., first : first + _SLICE, :]
        yield reduce_logits(top + first, rows, want, left), rows


def _joined(strips: Sequence[LabelStrip], dim: int) -> LabelStrip:
    if len(strips) == 1:
        return strips[0]
    maps = {}
    for field in fields(LabelStrip)[1:]:
        parts = [getattr(strip, field.name) for strip in strips]
        if parts[0] is not None:
            maps[field.name] = torch.cat(parts, dim)
    return LabelStrip(strips[0].top, **maps)


def reduce_logits(top: int, logits: torch.Tensor, want: Collection[str] = (), left: int = 0) -> LabelStrip:
    """Reduce logits at image size to labels and maps.

    Args:
        top: First row.
        logits: (N, K, rows, W).
        want: Any of MAPS.
        left: First column.
    """
    best, winner = logits.max(dim=1)  # (N, rows, W) each
    labels = winner.to(torch.uint8 if logits.shape[1] <= 256 else torch.int16)  # (N, rows, W)
    if not want:
        return LabelStrip(top, labels)
    maps = {}
    if "samples" in want:
        maps["samples"] = _confidence(logits[:, :, -top % STEP :: STEP, -left % STEP :: STEP])
        if len(want) == 1:
            return LabelStrip(top, labels, **maps)
    return LabelStrip(top, labels, **maps, **_softmax_maps(logits, best, winner, want))


def _softmax_maps(
    logits: torch.Tensor, best: torch.Tensor, winner: torch.Tensor | None, want: Collection[str]
) -> dict[str, torch.Tensor]:
    """Return the maps of MAPS but "samples" that are wanted; winner is for "margin". Shape: (N, K, rows, W)."""
    maps = {}
    below = logits - best.unsqueeze(1)  # (N, K, rows, W), 0 for the winner
    powers = below.exp() if "entropy" in want else below.exp_()  # (N, K, rows, W), 1 for the winner
    total = powers.sum(dim=1)  # (N, rows, W); its inverse is the winner's probability
    if "confidence" in want:
        maps["confidence"] = total.reciprocal()
    if "entropy" in want:
        # -sum p log p with p = e^b / total; the clamp prevents NaN from -inf * 0.
        maps["entropy"] = total.log() - (powers * below.clamp_min(-1e4)).sum(dim=1) / total
    if "margin" in want and winner is not None:
        powers.scatter_(1, winner.unsqueeze(1), 0.0)
        maps["margin"] = (1 - powers.amax(dim=1)) / total
    return maps


def _confidence(logits: torch.Tensor) -> torch.Tensor:
    return torch.exp(logits.amax(dim=1) - logits.logsumexp(dim=1))


def _samples(logits: torch.Tensor, size: tuple[int, int], policy: str) -> torch.Tensor:
    """Return the confidence of every STEP-th row and column, from the coarse logits."""
    maps, aligned = logits.float(), policy == "bilinear_aligned"  # (N, K, h, w)
    for dim in (-2, -1):
        first, second, share = source_rows(maps.shape[dim], size[dim], aligned, maps.device)
        first, second, share = first[::STEP], second[::STEP], share[::STEP]
        share = share[:, None] if dim == -2 else share
        maps = torch.lerp(maps.index_select(dim, first), maps.index_select(dim, second), share)
    return _confidence(maps)  # (N, H / STEP, W / STEP), rounded up


MAX_BOUNDARY_SHARE = 0.2
"""Above this share of cells with class boundaries, plain enlargement is as fast."""
_CHUNK = 2**11
"""Cells at once: with a few dozen classes they fit into a core's cache."""


@dataclass(frozen=True)
class _Axis:
    """Cells along one side: the pixels of the image between two neighboring coarse pixels."""

    upper: torch.Tensor  # coarse pixel before each pixel of the image: the number of its cell
    share: torch.Tensor  # weight of the coarse pixel behind it
    first: torch.Tensor  # first pixel of each cell
    count: torch.Tensor  # pixels of each cell

    @staticmethod
    def between(small: int, large: int, aligned: bool, device: torch.device) -> "_Axis":
        upper, _, share = source_rows(small, large, aligned, device)
        count = torch.bincount(upper, minlength=small)  # (h,): pixels between two coarse ones
        return _Axis(upper, share, count.cumsum(0) - count, count)

    def pixels(self, cells: torch.Tensor) -> torch.Tensor:
        """Return the pixels of cells; small cells repeat their last one. Shape: (M,) → (M, P)."""
        steps = torch.arange(int(self.count.max()), device=cells.device)
        return self.first[cells, None] + torch.minimum(steps, self.count[cells, None] - 1)


def labels_of_boundary_cells(
    logits: torch.Tensor, size: tuple[int, int], policy: str = "bilinear"
) -> torch.Tensor | None:
    """Return labels as `labels_from_logits`, up to the rounding of equal logits, enlarging only where they may change.

    Between four coarse pixels of one class, bilinear logits have that class too.

    Returns:
        trainIds, or None where too many cells have boundaries, and above 256 classes.

    Shape:
        logits (N, K, h, w) → uint8 (N, H, W)

    Example:
        >>> logits = torch.tensor([[[[2.0, 2, 2, 1, 1, 1]], [[0, 0, 0, 3, 3, 3]]]])
        >>> labels_of_boundary_cells(logits, (1, 12)).flatten().tolist()
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    """
    _, classes, small, narrow = logits.shape
    if classes > 256:
        return None
    # channels last: what follows reads all classes of a pixel at once
    logits = logits.float().contiguous(memory_format=torch.channels_last)
    winner = logits.max(dim=1)[1].to(torch.uint8)  # (N, h, w)
    mixed = _has_boundary(winner)  # (N, h, w)
    if int(mixed.sum()) > MAX_BOUNDARY_SHARE * mixed.numel():
        return None
    aligned = policy == "bilinear_aligned"
    down, along = (_Axis.between(*sides, aligned, logits.device) for sides in zip((small, narrow), size, strict=True))
    labels = winner.index_select(1, down.upper).index_select(2, along.upper)  # (N, H, W)
    mixed &= (down.count[:, None] > 0) & (along.count > 0)
    rows = logits.permute(0, 2, 3, 1).reshape(-1, classes)  # (N h w, K)
    for cells in mixed.flatten().nonzero()[:, 0].split(_CHUNK):
        i, j = cells // narrow % small, cells % narrow  # coarse row and column, (M,)
        # index steps to the corners below and on the right, 0 at the border
        below, right = narrow * (i < small - 1), (j < narrow - 1).long()
        corners = (cells, cells + right, cells + below, cells + below + right)  # (M,) each
        a, b, c, d = (rows.index_select(0, corner)[..., None] for corner in corners)  # (M, K, 1)
        y, x = down.pixels(i), along.pixels(j)  # (M, P) each
        near, low = along.share[x][:, None], down.share[y][:, None, :, None]
        above, under = torch.lerp(a, b, near), torch.lerp(c, d, near)  # (M, K, P)
        chosen = torch.lerp(above[:, :, None], under[:, :, None], low).max(dim=1)[1]  # (M, P, P)
        top = cells // (small * narrow) * size[0]  # rows of the images before this one
        row = (top[:, None] + y) * size[1]  # (M, P)
        labels.view(-1)[row[:, :, None] + x[:, None]] = chosen.to(torch.uint8)
    return labels


def _has_boundary(winner: torch.Tensor) -> torch.Tensor:
    """Return where the 2x2 coarse pixels from here have several winners. Shape: (N, h, w), bool."""
    below = torch.cat([winner[:, 1:], winner[:, -1:]], dim=1)  # (N, h, w)
    right, across = (torch.cat([x[:, :, 1:], x[:, :, -1:]], dim=2) for x in (winner, below))
    return (winner != below) | (winner != right) | (winner != across)

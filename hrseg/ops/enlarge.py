"""Rows of bilinearly enlarged maps, computed from the few rows of the small map that they need.

The arithmetic is torch's own: where the height grows by a whole factor, the rows needed are cut out and handed to
`F.interpolate`, which gives each of them the values that it has in the whole map.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

BUDGET = {"cpu": 4 * 2**20, "cuda": 2**28}
"""Bytes of a block: the cache of a core, and enough to keep a GPU busy."""
MIN_BLOCK_ROWS = 4
"""Rows of the small map in a block, at least: each block computes one more row on either side."""


def enlarged_rows(
    maps: torch.Tensor, rows: tuple[int, int], size: tuple[int, int], aligned: bool = False
) -> torch.Tensor:
    """Return rows of the bilinearly enlarged map.

    Without aligned corners and with a height that grows by a power of two, rows of maps stored channels last
    equal those of `F.interpolate` bit by bit. Otherwise they agree up to rounding.

    Args:
        maps: The small maps.
        rows: First row of the large map, and the one after the last.
        size: (height, width) of the large map.
        aligned: Whether the corner pixels keep their places.

    Shape:
        maps (N, C, h, w) → (N, C, rows, W)

    Example:
        >>> maps = torch.arange(6.0).view(1, 1, 3, 2)
        >>> whole = F.interpolate(maps, (12, 8), mode="bilinear")
        >>> torch.equal(enlarged_rows(maps, (5, 9), (12, 8)), whole[:, :, 5:9])
        True
    """
    above, below = needed_rows(maps.shape[-2], rows, size[0], aligned)
    return enlarged_cut(maps[:, :, above:below], above, maps.shape[-2], rows, size, aligned)


def needed_rows(small: int, rows: tuple[int, int], large: int, aligned: bool = False) -> tuple[int, int]:
    """Return the rows of the small map that rows of the large one depend on, as first and one after the last."""
    first, last = rows
    if small == large:
        return first, last
    if not aligned and large % small == 0:
        factor = large // small
        return max(first // factor - 1, 0), min(-(-last // factor) + 1, small)
    upper, lower, _ = source_rows(small, large, aligned, torch.device("cpu"))
    return int(upper[first]), int(lower[last - 1]) + 1


def enlarged_cut(
    cut: torch.Tensor,
    above: int,
    small: int,
    rows: tuple[int, int],
    size: tuple[int, int],
    aligned: bool = False,
) -> torch.Tensor:
    """Do the same as `enlarged_rows`, from the needed rows alone.

    Args:
        cut: The rows of `needed_rows`, (N, C, some, w).
        above: The first of them.
        small: Height of the whole small map.
        rows: See `enlarged_rows`, as the others.
        size: (height, width) of the large map.
        aligned: Whether the corner pixels keep their places.
    """
    (first, last), (height, width), some = rows, size, cut.shape[-2]
    if (small, cut.shape[-1]) == (height, width):
        return cut
    if not aligned and height % small == 0:
        factor = height // small
        part = F.interpolate(cut, (some * factor, width), mode="bilinear")  # (N, C, some …, W)
        return part[:, :, first - above * factor : last - above * factor]
    if cut.shape[-1] != width:
        cut = F.interpolate(cut, (some, width), mode="bilinear", align_corners=aligned)
    if small == height:
        return cut
    exact = torch.float64 if cut.dtype == torch.float64 else torch.float32
    upper, lower, share = source_rows(small, height, aligned, cut.device, exact)
    upper, lower = upper[first:last] - above, lower[first:last] - above  # (rows,) each
    share = share[first:last, None].to(cut.dtype)  # (rows, 1)
    return cut[:, :, upper] * (1 - share) + cut[:, :, lower] * share  # (N, C, rows, W)


def row_mixture(
    small: int, large: int, rows: tuple[int, int], aligned: bool, device: torch.device
) -> tuple[int, torch.Tensor]:
    """Return vertical bilinear enlargement as a matrix, for some rows of the large map.

    Returns:
        The first row of the small map that they need, and the weights of the rows from there.

    Shape:
        → (rows, rows of the small map), float32

    Example:
        >>> row_mixture(2, 4, (0, 4), False, torch.device("cpu"))[1].tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    upper, lower, share = source_rows(small, large, aligned, device)
    upper, lower, share = (x[rows[0] : rows[1]] for x in (upper, lower, share))
    above, below = int(upper[0]), int(lower[-1]) + 1
    matrix = torch.zeros(len(upper), below - above, device=device)  # (rows, some)
    row = torch.arange(len(upper), device=device)
    matrix[row, upper - above] += 1 - share
    matrix[row, lower - above] += share  # added: at the border both rows are one
    return above, matrix


def source_rows(
    small: int,
    large: int,
    aligned: bool,
    device: torch.device,
    exact: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return for each row of the large map its two rows of the small one, and the weight of the second."""
    at = torch.arange(large, dtype=exact, device=device)
    corner = at * ((small - 1) / max(1, large - 1))
    at = corner if aligned else ((at + 0.5) * (small / large) - 0.5).clamp_min(0)
    upper = at.long().clamp_max(small - 1)  # (H,)
    return upper, (upper + 1).clamp_max(small - 1), (at - upper).clamp(0, 1)


def blocks(small: int, large: int, row_bytes: int, budget: int) -> Iterator[tuple[int, int]]:
    """Cut the rows of a large map into blocks of about a budget's bytes.

    Args:
        small: Height of the small map; blocks begin at its rows where the large one is a multiple.
        large: Height of the large map.
        row_bytes: Bytes of one row of the large map.
        budget: Bytes of a block, unless MIN_BLOCK_ROWS rows of the small map take more.

    Example:
        >>> list(blocks(10, 40, row_bytes=100, budget=2000))
        [(0, 20), (20, 40)]
    """
    factor = max(1, large // small)
    step = factor * max(MIN_BLOCK_ROWS, budget // (row_bytes * factor))
    for first in range(0, large, step):
        yield first, min(first + step, large)

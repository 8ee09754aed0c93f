"""The loop over windows: row of windows by row of windows, keeping only what later windows still touch.

An image is anything that windows can be cut out of, so it need not be in memory; nor are its logits.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from hrseg.inference.blending import blend_weights
from hrseg.inference.grid import Grid, Span
from hrseg.inference.prepare import LogitsFunction

Block = tuple[int, int, torch.Tensor]
"""First row, first column, and logits (N, K, rows, columns)."""
Weights = Callable[[int, int, torch.dtype, torch.device], torch.Tensor]


class Source(Protocol):
    """An image that windows are cut out of, row of windows after row of windows, each from left to right."""

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Return one window, normalised. Shape: (N, bands, height, width)."""

    def empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Tell whether nobody will look at any pixel of a window, so that it need not be run."""


def window_blocks(
    logits_fn: LogitsFunction, source: Source, grid: Grid, begin: int = 0
) -> Iterator[Block]:
    """Run the windows of a grid, and yield what no later window touches.

    In memory are the logits of one batch of windows, and those of the rows that the next row of windows
    shares; neither grows with the image's height.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        source: The image.
        grid: Its windows.
        begin: Rows above are known already. Windows that end above are not run, and what is yielded above
            means nothing; from there on all is as if every window had run.

    Shape:
        → (top, left, (N, K, rows, columns)), row of windows by row of windows, each from left to right
    """
    if len(grid.rows) == len(grid.columns) == 1:
        yield 0, 0, logits_fn(source.cut(0, 0, *grid.size))
        return
    weights: Weights = functools.cache(functools.partial(_weights, grid))
    shelf = _Shelf(grid)
    for (top, h), below in zip(grid.rows, grid.bottoms, strict=True):
        if top + h <= begin:
            continue
        done = below - top
        for first, total, weight in _columns(logits_fn, source, grid, (top, h), weights, shelf):
            yield top, first, total[..., :done, :] / weight[:done]
            shelf.put(first, total[..., done:, :], weight[done:])
        shelf.rows = h - done


def _columns(
    logits_fn: LogitsFunction,
    source: Source,
    grid: Grid,
    row: Span,
    weights: Weights,
    shelf: "_Shelf",
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Run one row of windows, and yield sums and weights of the columns that no later window touches."""
    top, h = row
    batches = grid.batches()
    left, total, weight = 0, torch.empty(0), torch.empty(0)  # of the columns still open
    for columns, after in zip(
        batches, [*(b[0][0] for b in batches[1:]), grid.size[1]], strict=True
    ):
        run = [(x, w) for x, w in columns if not (shelf.known and source.empty(top, x, h, w))]
        parts: tuple[torch.Tensor, ...] = ()
        if run:
            cuts = [source.cut(top, x, h, w) for x, w in run]
            logits = logits_fn(torch.cat(cuts))
            parts = logits.split(len(cuts[0]))
            shelf.know(parts[0])
        right = columns[-1][0] + columns[-1][1]
        total, weight = shelf.open(h, left, right, total, weight)
        for (x, w), part in zip(run, parts, strict=True):
            ramp = weights(h, w, part.dtype, part.device)
            total[..., x - left : x - left + w].addcmul_(part, ramp)
            weight[:, x - left : x - left + w] += ramp
        yield left, total[..., : after - left], weight[:, : after - left]
        total, weight = total[..., after - left :], weight[:, after - left :]
        left = after


class _Shelf:
    """What rows of windows leave for the next: sums and weights of the rows that they share."""

    def __init__(self, grid: Grid) -> None:
        self.most, self.width = grid.most_kept, grid.size[1]
        self.known = False
        self.rows = 0  # that the row of windows above has left

    def know(self, logits: torch.Tensor) -> None:
        """Learn classes, type and device from the first logits."""
        if not self.known:
            self.known = True
            self.total = logits.new_zeros(*logits.shape[:2], self.most, self.width)
            self.weight = logits.new_zeros(self.most, self.width)

    def open(
        self, height: int, left: int, right: int, total: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Widen the open columns to `right`: with what the row of windows above left, and zeros."""
        wide = self.total.new_zeros(*self.total.shape[:2], height, right - left)
        heavy = self.weight.new_zeros(height, right - left)
        old = weight.shape[-1] if weight.ndim == 2 else 0
        if old:
            wide[..., :old], heavy[:, :old] = total, weight
        rows, new = slice(self.rows), slice(left + old, right)
        wide[..., rows, old:], heavy[rows, old:] = (
            self.total[..., rows, new],
            self.weight[rows, new],
        )
        return wide, heavy

    def put(self, left: int, total: torch.Tensor, weight: torch.Tensor) -> None:
        """Keep rows for the next row of windows, in the place of those that were taken."""
        rows, columns = slice(weight.shape[0]), slice(left, left + weight.shape[1])
        self.total[..., rows, columns], self.weight[rows, columns] = total, weight


def _weights(grid: Grid, h: int, w: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    rows = blend_weights(grid.blend, h, grid.shared[0])
    columns = blend_weights(grid.blend, w, grid.shared[1])
    return (rows[:, None] * columns[None, :]).to(device, dtype)

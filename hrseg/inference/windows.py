"""Sliding-window inference over any logits function: images in memory, or read row by row as windows need them.

Windows are blended, so their borders leave no seam. Finished blocks are handed on at once, so that nobody has to hold
the logits of a large image: only what later windows still touch is kept. `grid` says where windows lie.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from hrseg.errors import DataError
from hrseg.imaging import to_tensor
from hrseg.inference.prepare import LogitsFunction
from hrseg.inference.window_grid import Grid, Size, Span, blend_weights

Block = tuple[int, int, torch.Tensor]
"""First row, first column, and logits (N, K, rows, columns)."""
Weights = Callable[[int, int, torch.dtype, torch.device], torch.Tensor]


class Source(Protocol):
    """An image that windows are cut out of, row of windows after row of windows, each from left to right."""

    size: Size

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Return one window, normalized. Shape: (N, bands, height, width)."""

    def empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Tell whether nobody will look at any pixel of a window, so that it need not be run."""


class TensorSource:
    """Normalized images. Shape: (N, bands, H, W)."""

    def __init__(self, image: torch.Tensor) -> None:
        self.image, self.size = image, _checked((int(image.shape[-2]), int(image.shape[-1])))

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Return a view; of everything, the images themselves."""
        if (height, width) == self.size:
            return self.image
        return self.image[..., top : top + height, left : left + width]

    def empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Return False."""
        return False


class PixelSource:
    """Pixels of images of one size, normalized window by window: as float32 they would take four times the memory.

    Args:
        images: As stored, each (H, W, bands).
        mean: Per-band mean.
        std: Per-band standard deviation.
        value_range: The stored value that becomes 1; None takes the type's.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        value_range: float | None = None,
    ) -> None:
        self.images, self.size = images, _checked(images[0].shape[:2])
        self.normalized = functools.partial(to_tensor, mean=mean, std=std, value_range=value_range)

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Normalize a window of each image."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        cuts = [np.ascontiguousarray(image[rows, columns]) for image in self.images]
        return torch.stack([self.normalized(cut) for cut in cuts])

    def empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Return False."""
        return False


def _checked(size: Size) -> Size:
    if not size[0] * size[1]:
        raise DataError(f"The image is {size[0]} x {size[1]}; it has no pixels to label.")
    return size


def whole_map(blocks: Iterable[Block], size: Size) -> torch.Tensor:
    """Put blocks together. Shape: → (N, K, H, W)."""
    total: torch.Tensor | None = None
    for top, left, block in blocks:
        h, w = int(block.shape[-2]), int(block.shape[-1])
        if (h, w) == size:
            return block
        if total is None:
            total = block.new_empty(*block.shape[:2], *size)
        total[..., top : top + h, left : left + w] = block
    assert total is not None
    return total


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
    if grid.whole:
        yield 0, 0, logits_fn(source.cut(0, 0, *grid.size))
        return
    weights: Weights = functools.cache(functools.partial(_weights, grid))
    waiting = _Overlap(grid)
    for (top, h), below in zip(grid.rows, grid.bottoms, strict=True):
        if top + h <= begin:
            continue
        done = below - top
        for first, total, weight in _columns(logits_fn, source, grid, (top, h), weights, waiting):
            total[..., :done, :].div_(weight[:done])
            yield top, first, total[..., :done, :]
            waiting.put(first, total[..., done:, :], weight[done:])
            del (
                total,
                weight,
            )  # not to be held while the network runs; so does whoever takes a block
        waiting.rows = h - done


def _columns(
    logits_fn: LogitsFunction,
    source: Source,
    grid: Grid,
    row: Span,
    weights: Weights,
    waiting: "_Overlap",
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Run one row of windows, and yield sums and weights of the columns that no later window touches."""
    top, h = row
    batches = grid.batches()
    left, total, weight = 0, torch.empty(0), torch.empty(0)  # of the columns still open
    for columns, after in zip(
        batches, [*(b[0][0] for b in batches[1:]), grid.size[1]], strict=True
    ):
        run = [(x, w) for x, w in columns if not (waiting.known and source.empty(top, x, h, w))]
        parts: tuple[torch.Tensor, ...] = ()
        cuts: list[torch.Tensor] = []
        if run:
            cuts = [source.cut(top, x, h, w) for x, w in run]
            parts = logits_fn(torch.cat(cuts) if len(cuts) > 1 else cuts[0]).split(len(cuts[0]))
            waiting.know(parts[0])
        right = columns[-1][0] + columns[-1][1]
        total, weight = waiting.open(h, left, right, total, weight)
        for (x, w), part in zip(run, parts, strict=True):
            ramp = weights(h, w, part.dtype, part.device)
            total[..., x - left : x - left + w].addcmul_(part, ramp)
            weight[:, x - left : x - left + w] += ramp
        parts, cuts, part = (), [], torch.empty(0)  # not to be held while the columns are reduced
        yield left, total[..., : after - left], weight[:, : after - left]
        total, weight = total[..., after - left :].clone(), weight[:, after - left :].clone()
        left = after


class _Overlap:
    """What rows of windows leave for the next: sums and weights of the rows that they share."""

    def __init__(self, grid: Grid) -> None:
        self.most, self.width = grid.max_waiting, grid.size[1]
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

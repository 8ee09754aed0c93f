"""Sliding-window inference over any logits function, on images in memory or read row by row.

`plan_windows` is the one planner: windows follow from the image's size, the protocol and the network alone, never from
free memory. Windows are blended, so that their borders leave no seam. Finished blocks are yielded at once: only the
rows that later windows still touch are held.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np
import torch

from hrseg.errors import ConfigError, DataError, unknown_choice
from hrseg.imaging import to_tensor
from hrseg.inference.prepare import LogitsFunction

Blend = Literal["ramp", "cosine", "gaussian", "equal"]
"""Weight of a window's pixels: linear from the border up to where no neighbor reaches, half a cosine there, a Gaussian
over the whole window, or the same everywhere."""
BLENDS: tuple[Blend, ...] = get_args(Blend)
BORDER_WEIGHT = 0.1
"""Weight of the outermost pixel of a ramp or cosine, relative to 1 in the middle."""
SIGMA = 1 / 8
"""Standard deviation of the Gaussian, in sides of the window."""
STRIDE = 32
"""Windows are multiples of the coarsest stride, so that the features of all windows are on one grid."""
WHOLE_PIXELS = 2 * 1536**2
"""Above this, as the network sees it, an image is cut into windows: 4.7 megapixels, or 2.1 enlarged 1.5 times."""
WINDOW_PIXELS = 1440**2
"""Default pixels of a window, as the network sees them: 960 x 960 enlarged 1.5 times."""
BATCH_PIXELS = 2**21
"""Windows are run together up to this many pixels: one of 1024 x 2048, eight of 512 x 512."""
OVERLAP = 0.25
"""Default shared fraction of neighboring windows."""
Size = tuple[int, int]
Span = tuple[int, int]
"""First pixel, and number of pixels."""
Block = tuple[int, int, torch.Tensor]
"""First row, first column, and logits (N, K, rows, columns)."""


def blend_weights(blend: Blend, length: int, shared: int) -> torch.Tensor:
    """Return the weight of each row (or column) of a window.

    Args:
        blend: One of BLENDS.
        length: Side of the window.
        shared: Pixels that it shares with its neighbor.

    Shape:
        (length,), float32

    Source: the Gaussian is that of nnU-Net (Isensee et al. 2021), with its width; ramp and cosine are ours.

    Example:
        >>> blend_weights("ramp", 4, 2).tolist()
        [0.550000011920929, 1.0, 1.0, 0.550000011920929]
        >>> blend_weights("equal", 2, 1).tolist()
        [1.0, 1.0]
    """
    if blend == "equal":
        return torch.ones(length)
    if blend == "gaussian":
        distance = torch.arange(length) - (length - 1) / 2  # (length,), from the middle
        return torch.exp(-0.5 * (distance / (SIGMA * length)) ** 2)
    to_border = torch.minimum(torch.arange(length), torch.arange(length).flip(0))  # (length,)
    if blend == "ramp":
        rise = (to_border + 1) / max(1, shared)
        return (BORDER_WEIGHT + (1 - BORDER_WEIGHT) * rise).clamp(max=1.0)
    if blend == "cosine":
        rise = ((to_border + 1) / max(1, shared)).clamp(max=1.0)
        return BORDER_WEIGHT + (1 - BORDER_WEIGHT) * (1 - torch.cos(math.pi * rise)) / 2
    raise ConfigError(unknown_choice("blend", blend, BLENDS))


@dataclass(frozen=True)
class Grid:
    """Windows over an image.

    Attributes:
        rows: Spans of the rows of windows, from top to bottom; the last ends with the image.
        columns: Spans of the columns of windows, likewise.
        shared: (rows, columns) that neighbors are meant to share; weights rise over as many.
        blend: One of BLENDS.
        batch: Windows that run together.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    shared: Size = (0, 0)
    blend: Blend = "gaussian"
    batch: int = 1

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        return sum(self.rows[-1]), sum(self.columns[-1])

    @property
    def whole(self) -> bool:
        """Whether one window is the image."""
        return len(self.rows) == len(self.columns) == 1

    @property
    def window(self) -> Size:
        """(height, width) of the largest window."""
        return max(h for _, h in self.rows), max(w for _, w in self.columns)

    @property
    def bottoms(self) -> list[int]:
        """For each row of windows, the image row where the next one begins."""
        return [*(top for top, _ in self.rows[1:]), self.size[0]]

    @property
    def max_waiting(self) -> int:
        """Largest number of rows that wait for the next row of windows."""
        return max(top + h - below for (top, h), below in zip(self.rows, self.bottoms, strict=True))

    def batches(self) -> list[tuple[Span, ...]]:
        """Return the columns that run together: neighbors of one width."""
        batches: list[list[Span]] = []
        for column in self.columns:
            if batches and len(batches[-1]) < self.batch and batches[-1][-1][1] == column[1]:
                batches[-1].append(column)
            else:
                batches.append([column])
        return [tuple(columns) for columns in batches]


def plan_windows(
    size: Size,
    window: Size,
    overlap: float = OVERLAP,
    *,
    stride: Size | None = None,
    blend: Blend = "gaussian",
    batch: int | None = None,
) -> Grid:
    """Lay windows over an image.

    A window larger than the image shrinks to it. With blend "equal" windows are placed as in published protocols: a
    stride apart, the last shifted to end with the image. All others begin on the grid of the coarsest stride, and the
    last is up to 31 pixels longer instead: off the grid it would see other features than its neighbors.

    Args:
        size: (height, width) of the image.
        window: (height, width); multiples of 32 unless the blend is "equal".
        overlap: Shared fraction of neighboring windows, 0 to 0.9.
        stride: (height, width) between windows in pixels, instead of the overlap.
        blend: One of BLENDS.
        batch: Windows that run together; None takes as many as BATCH_PIXELS allow.

    Raises:
        ConfigError: A window, overlap or stride out of range.

    Example:
        >>> plan_windows((100, 300), (128, 128), 0.5).columns
        ((0, 128), (64, 128), (128, 128), (192, 108))
        >>> plan_windows((100, 300), (128, 128), 0.5, blend="equal").columns
        ((0, 128), (64, 128), (128, 128), (172, 128))
    """
    check_window(window, overlap, stride, blend)
    grid = 1 if blend == "equal" else STRIDE
    (h, down), (w, right) = (
        (
            min(side, length),
            max(grid, int(step if stride else side * (1 - overlap) + 0.5) // grid * grid),
        )
        for side, length, step in zip(window, size, stride or window, strict=True)
    )
    return Grid(
        rows=_spans(size[0], h, down, grid),
        columns=_spans(size[1], w, right, grid),
        shared=(h - down, w - right),
        blend=blend,
        batch=batch or max(1, BATCH_PIXELS // (h * w)),
    )


def default_window(pixels: float) -> Size:
    """Return the largest square window of at most so many pixels.

    Example:
        >>> default_window(WINDOW_PIXELS)
        (1440, 1440)
    """
    return (max(STRIDE, math.isqrt(int(pixels)) // STRIDE * STRIDE),) * 2


def _spans(length: int, window: int, step: int, grid: int) -> tuple[Span, ...]:
    """Return windows along one side; all begin on the grid, and the last ends with the image."""
    last = -(-(length - window) // grid)  # in steps of the grid
    if grid == 1:
        starts = [*range(0, last, step), last]
    else:  # evenly: no two windows share so many rows that their logits fill the memory
        count = max(1, -(-last * grid // step))
        starts = sorted({grid * (i * last // count) for i in range(count + 1)})
    return (*((start, window) for start in starts[:-1]), (starts[-1], length - starts[-1]))


def check_window(window: Size, overlap: float, stride: Size | None = None, blend: Blend = "gaussian") -> None:
    """Raise if a window is off the network's grid, or its overlap or stride out of range.

    Published protocols, whose blend is "equal", have windows off the grid, and HRNet runs them.

    Raises:
        ConfigError: With the next larger window that fits.
    """
    if min(window) < 1 or (blend != "equal" and any(side % STRIDE for side in window)):
        larger = tuple(max(STRIDE, -(-side // STRIDE) * STRIDE) for side in window)
        raise ConfigError(f"Window {tuple(window)} is not a multiple of {STRIDE}. Next larger: {larger}.")
    if not 0 <= overlap <= 0.9:
        raise ConfigError(f"Overlap {overlap} is outside 0 to 0.9. Use 0.5, or 0.25 for speed.")
    if stride and not all(1 <= step <= side for step, side in zip(stride, window, strict=True)):
        raise ConfigError(
            f"Stride {tuple(stride)} does not fit window {tuple(window)}: it would leave gaps, or never move on. "
            f"Use 1 to {tuple(window)}, for example {(2 * window[0] // 3, 2 * window[1] // 3)}."
        )


class Source(Protocol):
    """An image that windows are cut out of, row of windows after row of windows, each from left to right."""

    size: Size

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Return one window, normalized. Shape: (N, bands, height, width)."""

    def empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Return whether a window has no pixel with data, so that it need not be run."""
        return False


class TensorSource(Source):
    """Normalized images. Shape: (N, bands, H, W)."""

    def __init__(self, image: torch.Tensor) -> None:
        self.image, self.size = image, _checked((int(image.shape[-2]), int(image.shape[-1])))

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Return a view; of the whole size, the images themselves."""
        if (height, width) == self.size:
            return self.image
        return self.image[..., top : top + height, left : left + width]


class PixelSource(Source):
    """Stored images (H, W, bands) of one size, normalized window by window: float32 takes four times the memory."""

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
        return torch.stack([self.normalized(cut) for cut in cuts])  # (N, bands, h, w)


def _checked(size: Size) -> Size:
    if not size[0] * size[1]:
        raise DataError(f"The image is {size[0]} x {size[1]}; it has no pixels to label.")
    return size


def assemble(blocks: Iterable[Block], size: Size) -> torch.Tensor:
    """Put blocks together. Shape: → (N, K, H, W)."""
    total: torch.Tensor | None = None
    for top, left, block in blocks:
        h, w = int(block.shape[-2]), int(block.shape[-1])
        if (h, w) == size:
            return block
        if total is None:
            total = block.new_empty(*block.shape[:2], *size)  # (N, K, H, W)
        total[..., top : top + h, left : left + w] = block
    assert total is not None
    return total


def window_blocks(logits_fn: LogitsFunction, source: Source, grid: Grid, begin: int = 0) -> Iterator[Block]:
    """Run the windows of a grid, and yield the parts that no later window touches.

    In memory are the logits of one batch of windows, and those of the rows that the next row of windows
    shares; neither grows with the image's height.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        source: The image.
        grid: Its windows.
        begin: Rows above are done already. Windows that end above are not run, and blocks above are undefined; from
            there on they are as if every window had run.

    Shape:
        → (top, left, (N, K, rows, columns)), row of windows by row of windows, each from left to right
    """
    if grid.whole:
        yield 0, 0, logits_fn(source.cut(0, 0, *grid.size))
        return

    @functools.cache
    def weights(h: int, w: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        rows = blend_weights(grid.blend, h, grid.shared[0])  # (h,)
        columns = blend_weights(grid.blend, w, grid.shared[1])  # (w,)
        return (rows[:, None] * columns[None, :]).to(device, dtype)  # (h, w)

    waiting = _Overlap(grid)
    for (top, h), below in zip(grid.rows, grid.bottoms, strict=True):
        if top + h <= begin:
            continue
        done = below - top
        for first, total, weight in _columns(logits_fn, source, grid, (top, h), weights, waiting):
            total[..., :done, :].div_(weight[:done])  # (N, K, done, columns)
            yield top, first, total[..., :done, :]
            waiting.put(first, total[..., done:, :], weight[done:])
            del total, weight  # memory: not to be held while the network runs; callers do likewise
        waiting.rows = h - done


def _columns(
    logits_fn: LogitsFunction,
    source: Source,
    grid: Grid,
    row: Span,
    weights: Callable[..., torch.Tensor],
    waiting: "_Overlap",
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Run one row of windows, and yield sums and weights of the columns that no later window touches."""
    top, h = row
    batches = grid.batches()
    left, total, weight = 0, torch.empty(0), torch.empty(0)  # of the columns still open
    for columns, after in zip(batches, [*(b[0][0] for b in batches[1:]), grid.size[1]], strict=True):
        run = [(x, w) for x, w in columns if not (waiting.ready and source.empty(top, x, h, w))]
        parts: tuple[torch.Tensor, ...] = ()
        cuts: list[torch.Tensor] = []
        if run:
            cuts = [source.cut(top, x, h, w) for x, w in run]  # (N, bands, h, w) each
            parts = logits_fn(torch.cat(cuts) if len(cuts) > 1 else cuts[0]).split(len(cuts[0]))
            waiting.allocate(parts[0])
        right = columns[-1][0] + columns[-1][1]
        total, weight = waiting.open(h, left, right, total, weight)  # (N, K, h, open), (h, open)
        for (x, w), part in zip(run, parts, strict=True):
            ramp = weights(h, w, part.dtype, part.device)  # (h, w)
            total[..., x - left : x - left + w].addcmul_(part, ramp)
            weight[:, x - left : x - left + w] += ramp
        # memory: not to be held while columns are reduced
        parts, cuts, part = (), [], torch.empty(0)
        yield left, total[..., : after - left], weight[:, : after - left]
        total, weight = total[..., after - left :].clone(), weight[:, after - left :].clone()
        left = after


def in_windows(logits_fn: LogitsFunction, image: torch.Tensor, window: Size) -> torch.Tensor:
    """Run a function that takes one size only on an image of any size.

    A smaller image is padded with zeros, as layers pad; windows overlap by a quarter or more, and are blended.

    Args:
        logits_fn: (n, bands, h, w) of the window's size → (n, K, h, w).
        image: Normalized.
        window: (height, width).

    Shape:
        (N, bands, H, W) → (N, K, H, W)
    """
    h, w = int(image.shape[-2]), int(image.shape[-1])
    below, right = max(0, window[0] - h), max(0, window[1] - w)
    padded = torch.nn.functional.pad(image, (0, right, 0, below))
    source = TensorSource(padded)
    grid = plan_windows(source.size, window, blend="equal")  # which alone leaves no window longer
    logits = assemble(window_blocks(logits_fn, source, replace(grid, blend="gaussian")), source.size)
    return logits[..., :h, :w]


class _Overlap:
    """Sums and weights of the rows that two rows of windows share."""

    def __init__(self, grid: Grid) -> None:
        self.height, self.width = grid.max_waiting, grid.size[1]
        self.ready = False
        self.rows = 0  # that the row of windows above has left

    def allocate(self, logits: torch.Tensor) -> None:
        """Allocate on the first logits, which have classes, type and device."""
        if not self.ready:
            self.ready = True
            self.total = logits.new_zeros(*logits.shape[:2], self.height, self.width)  # (N, K, …)
            self.weight = logits.new_zeros(self.height, self.width)  # (waiting rows, W)

    def open(
        self, height: int, left: int, right: int, total: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Widen the open columns to `right`: with what the row of windows above left, and zeros."""
        wide = self.total.new_zeros(*self.total.shape[:2], height, right - left)  # (N, K, h, …)
        wide_weight = self.weight.new_zeros(height, right - left)  # (h, open columns)
        old = weight.shape[-1] if weight.ndim == 2 else 0
        if old:
            wide[..., :old], wide_weight[:, :old] = total, weight
        rows, new = slice(self.rows), slice(left + old, right)
        wide[..., rows, old:] = self.total[..., rows, new]
        wide_weight[rows, old:] = self.weight[rows, new]
        return wide, wide_weight

    def put(self, left: int, total: torch.Tensor, weight: torch.Tensor) -> None:
        """Store rows for the next row of windows, in the place of those that were taken."""
        rows, columns = slice(weight.shape[0]), slice(left, left + weight.shape[1])
        self.total[..., rows, columns], self.weight[rows, columns] = total, weight

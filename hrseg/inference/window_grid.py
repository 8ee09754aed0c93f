"""Where windows lie over an image: the one planner of sliding windows, for images in memory and on disk.

Windows follow from the image's size, the protocol and the network alone, never from the memory that is free.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from hrseg.errors import ConfigError, unknown_choice

Blend = Literal["ramp", "cosine", "gaussian", "equal"]
"""Straight from the rim up to where no neighbor reaches, the same as half a cosine, a bell over the whole
window, or every window counts the same."""
BLENDS: tuple[Blend, ...] = get_args(Blend)
RIM = 0.1
"""What the outermost pixel of a ramp or cosine counts, beside 1."""
SIGMA = 1 / 8
"""Standard deviation of the bell, in sides of the window."""


def blend_weights(blend: Blend, length: int, shared: int) -> torch.Tensor:
    """Return what each row (or column) of a window counts.

    Args:
        blend: One of BLENDS.
        length: Side of the window.
        shared: Pixels that it shares with its neighbor.

    Raises:
        ConfigError: An unknown blend.

    Shape:
        (length,), float32

    Source: the bell is that of nnU-Net (Isensee et al. 2021), with its width; ramp and cosine are ours.

    Example:
        >>> blend_weights("ramp", 4, 2).tolist()
        [0.550000011920929, 1.0, 1.0, 0.550000011920929]
        >>> blend_weights("cosine", 4, 2).tolist()
        [0.550000011920929, 1.0, 1.0, 0.550000011920929]
        >>> blend_weights("equal", 2, 1).tolist()
        [1.0, 1.0]
    """
    if blend not in _CURVES:
        raise ConfigError(unknown_choice("blend", blend, BLENDS))
    return _CURVES[blend](length, shared)


def _from_rim(length: int) -> torch.Tensor:
    return torch.minimum(torch.arange(length), torch.arange(length).flip(0))


def _ramp(length: int, shared: int) -> torch.Tensor:
    return (RIM + (1 - RIM) * (_from_rim(length) + 1) / max(1, shared)).clamp(max=1.0)


def _cosine(length: int, shared: int) -> torch.Tensor:
    risen = ((_from_rim(length) + 1) / max(1, shared)).clamp(max=1.0)
    return RIM + (1 - RIM) * (1 - torch.cos(math.pi * risen)) / 2


def _gaussian(length: int, shared: int) -> torch.Tensor:
    away = torch.arange(length) - (length - 1) / 2
    return torch.exp(-0.5 * (away / (SIGMA * length)) ** 2)


def _equal(length: int, shared: int) -> torch.Tensor:
    return torch.ones(length)


_CURVES: dict[str, Callable[[int, int], torch.Tensor]] = {
    "ramp": _ramp,
    "cosine": _cosine,
    "gaussian": _gaussian,
    "equal": _equal,
}


STRIDE = 32
"""Windows are multiples of the coarsest stride, so that every window's grid of features is the image's."""
WHOLE_PIXELS = 2 * 1536**2
"""Above this, as the network sees it, an image is cut into windows: 4.7 megapixels, or 2.1 enlarged 1.5 times."""
WINDOW_PIXELS = 1440**2
"""Pixels of a window, as the network sees them, where no other is asked for: 960 x 960 enlarged 1.5 times."""
BATCH_PIXELS = 2**21
"""Windows are run together up to this many pixels: one of 1024 x 2048, eight of 512 x 512."""
OVERLAP = 0.25
"""Shared fraction of neighboring windows where nothing else is asked for."""
Size = tuple[int, int]
Span = tuple[int, int]
"""First pixel, and how many."""


@dataclass(frozen=True)
class Grid:
    """Windows over an image.

    Attributes:
        rows: Where rows of windows begin and how high they are, from top to bottom; the last ends with the image.
        columns: The same across.
        shared: (rows, columns) that neighbors are meant to share; weights rise over as many.
        blend: How they share them.
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
        (top, h), (left, w) = self.rows[-1], self.columns[-1]
        return top + h, left + w

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
        """For each row of windows, the image row from which the next one takes part."""
        return [*(top for top, _ in self.rows[1:]), self.size[0]]

    @property
    def max_waiting(self) -> int:
        """The most rows that wait for the next row of windows."""
        return max(top + h - below for (top, h), below in zip(self.rows, self.bottoms, strict=True))

    def batches(self) -> list[tuple[Span, ...]]:
        """Return the columns that run together: neighbors, and all as wide as one another."""
        found: list[list[Span]] = []
        for column in self.columns:
            if found and len(found[-1]) < self.batch and found[-1][-1][1] == column[1]:
                found[-1].append(column)
            else:
                found.append([column])
        return [tuple(columns) for columns in found]


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

    A window larger than the image shrinks to it. Windows that count equally lie as published protocols have them, a
    stride apart, the last shifted to end with the image. All others begin on the grid of the coarsest stride, and the
    last is up to 31 pixels longer instead: off the grid it would see other features than its neighbors.

    Args:
        size: (height, width) of the image.
        window: (height, width); multiples of 32 unless the blend is "equal".
        overlap: Shared fraction of neighboring windows, 0 to 0.9.
        stride: (height, width) between windows in pixels, instead of the overlap.
        blend: How windows share a pixel, see `blending`.
        batch: Windows that run together; None takes as many as BATCH_PIXELS allow.

    Raises:
        ConfigError: A window, overlap or stride that cannot work.

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
    """Return the largest square window of so many pixels.

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
    else:  # evenly, so that no two share so many rows that their logits fill the memory
        count = max(1, -(-last * grid // step))
        starts = sorted({grid * (i * last // count) for i in range(count + 1)})
    return (*((start, window) for start in starts[:-1]), (starts[-1], length - starts[-1]))


def check_window(
    window: tuple[int, int],
    overlap: float,
    stride: tuple[int, int] | None = None,
    blend: Blend = "gaussian",
) -> None:
    """Refuse windows the network's grid does not fit, and overlaps or strides out of range.

    Published protocols, which count windows equally, have windows off the grid, and HRNet runs them.

    Args:
        window: (height, width).
        overlap: Shared fraction.
        stride: In pixels, or None.
        blend: See `blending`.

    Raises:
        ConfigError: With the next larger window that fits.
    """
    if min(window) < 1 or (blend != "equal" and any(side % STRIDE for side in window)):
        larger = tuple(max(STRIDE, -(-side // STRIDE) * STRIDE) for side in window)
        raise ConfigError(
            f"Window {tuple(window)} is not a multiple of {STRIDE}. Next larger: {larger}."
        )
    if not 0 <= overlap <= 0.9:
        raise ConfigError(f"Overlap {overlap} is outside 0 to 0.9. Use 0.5, or 0.25 for speed.")
    if stride and not all(1 <= step <= side for step, side in zip(stride, window, strict=True)):
        raise ConfigError(
            f"Stride {tuple(stride)} does not fit window {tuple(window)}: it would leave gaps, or never move on. "
            f"Use 1 to {tuple(window)}, for example {(2 * window[0] // 3, 2 * window[1] // 3)}."
        )

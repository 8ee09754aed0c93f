"""Large images in overlapping windows: tensors in memory, whole or in windows, in one piece or in bands of rows.

Works with any logits function. Windows are blended, so their borders leave no seam, and finished rows are
handed on band by band, so that nobody has to hold the logits of a very large image. The loop is in `blocks`,
which also runs images that are not in memory.
"""

import functools
import logging
from collections.abc import Iterator

import torch

from hrseg.errors import DataError
from hrseg.inference.blending import Blend
from hrseg.inference.blocks import window_blocks
from hrseg.inference.grid import (
    STRIDE,
    Grid,
    check_window,
    spans_every,
    starts,
    starts_every,
    step_of,
)
from hrseg.inference.prepare import LogitsFunction

__all__ = [
    "STRIDE",
    "WHOLE_PIXELS",
    "Band",
    "Blend",
    "check_window",
    "in_rows",
    "logit_bands",
    "sliding_window",
    "starts",
    "starts_every",
    "whole_or_windows",
]

log = logging.getLogger(__name__)

WHOLE_PIXELS = 2**23
"""Above this (8.4 megapixels, 2048 x 4096) an image without a window is cut into FALLBACK windows."""
FALLBACK = ((1024, 2048), 0.25)
BATCH_PIXELS = 2**21
"""Windows are run together up to this many pixels: one of 1024 x 2048, eight of 512 x 512."""
_ROWS = 256  # handed on at once

Band = tuple[int, torch.Tensor]
"""First row, and logits (N, K, rows, W)."""


class _InMemory:
    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        return self.image[..., top : top + height, left : left + width]

    def empty(self, top: int, left: int, height: int, width: int) -> bool:
        return False


def whole_or_windows(
    logits_fn: LogitsFunction,
    image: torch.Tensor,
    window: tuple[int, int] | None = None,
    overlap: float = 0.5,
    stride: tuple[int, int] | None = None,
    blend: Blend = "ramp",
) -> torch.Tensor:
    """Run an image whole, or in windows where they are asked for or the image is very large.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        image: Normalised.
        window: (height, width), or None for the whole image up to WHOLE_PIXELS.
        overlap: Shared fraction of neighbouring windows.
        stride: See `sliding_window`.
        blend: See `sliding_window`.

    Shape:
        image (N, bands, H, W) → (N, K, H, W)

    Raises:
        ConfigError: A window, overlap or stride that cannot work.
        DataError: The image has no pixels.
    """
    window, overlap = _choose(image, window, overlap)
    if window is None:
        return logits_fn(image)
    return sliding_window(logits_fn, image, window, overlap, stride=stride, blend=blend)


def logit_bands(
    logits_fn: LogitsFunction,
    image: torch.Tensor,
    window: tuple[int, int] | None = None,
    overlap: float = 0.5,
    stride: tuple[int, int] | None = None,
    blend: Blend = "ramp",
) -> Iterator[Band]:
    """Yield what `whole_or_windows` returns band by band, for callers that reduce it at once.

    With windows only one row of them is in memory. The arguments are those of `whole_or_windows`.

    Shape:
        image (N, bands, H, W) → (top, (N, K, rows, W)), from top to bottom
    """
    window, overlap = _choose(image, window, overlap)
    if window is None:
        yield from in_rows(0, logits_fn(image))
        return
    for top, band in _window_bands(logits_fn, image, window, overlap, stride, blend, None):
        yield from in_rows(top, band)


def sliding_window(
    logits_fn: LogitsFunction,
    image: torch.Tensor,
    window: tuple[int, int],
    overlap: float = 0.5,
    batch: int | None = None,
    *,
    stride: tuple[int, int] | None = None,
    blend: Blend = "ramp",
) -> torch.Tensor:
    """Blend overlapping window logits into one map.

    Inside the overlap each window's weight rises from its rim, so neighbours fade into one another and no
    pixel divides by zero. A window larger than the image shrinks to it; the last one of a row is shifted
    to end with the image.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        image: Normalised.
        window: (height, width) in pixels; multiples of 32 unless the blend is "equal".
        overlap: Shared fraction of neighbouring windows, 0 to 0.9.
        batch: Windows run at once; None takes as many as BATCH_PIXELS allow.
        stride: (height, width) between windows in pixels, instead of the overlap.
        blend: "ramp", "cosine" or "gaussian", or "equal" for the plain mean of all windows over a pixel, as
            published protocols have it.

    Returns:
        Logits at image size.

    Shape:
        image (N, bands, H, W) → (N, K, H, W)

    Raises:
        ConfigError: A window, overlap or stride that cannot work.
        DataError: The image has no pixels.

    Source: the official multi-scale inference averages overlaps equally; the ramp is ours.
    """
    total: torch.Tensor | None = None
    height = image.shape[-2]
    for top, band in _window_bands(logits_fn, image, window, overlap, stride, blend, batch):
        if band.shape[-2] == height:
            return band
        if total is None:
            total = band.new_empty(*band.shape[:2], height, band.shape[-1])
        total[..., top : top + band.shape[-2], :] = band
    assert total is not None
    return total


def _choose(
    image: torch.Tensor, window: tuple[int, int] | None, overlap: float
) -> tuple[tuple[int, int] | None, float]:
    height, width = int(image.shape[-2]), int(image.shape[-1])
    if not height * width:
        raise DataError(f"The image is {height} x {width}; it has no pixels to label.")
    if window is not None or height * width <= WHOLE_PIXELS:
        return window, overlap
    _tell_fallback(height, width, *FALLBACK[0], FALLBACK[1])
    return FALLBACK


@functools.cache  # once for each size, not for each image of a set
def _tell_fallback(height: int, width: int, h: int, w: int, overlap: float) -> None:
    log.warning(
        "Images of %d x %d pixels are run in windows of %d x %d that overlap by %g, to fit into memory. Set a "
        "window to choose another size.",
        *(height, width, h, w, overlap),
    )


def _window_bands(
    logits_fn: LogitsFunction,
    image: torch.Tensor,
    window: tuple[int, int],
    overlap: float,
    stride: tuple[int, int] | None,
    blend: Blend,
    batch: int | None,
) -> Iterator[Band]:
    """Run an image in memory, and put the blocks of each row of windows together."""
    check_window(window, overlap, stride, blend)
    count, height, width = image.shape[0], int(image.shape[-2]), int(image.shape[-1])
    h, w = min(window[0], height), min(window[1], width)
    down, right = stride or (step_of(h, overlap), step_of(w, overlap))
    if (h, w) == (height, width):
        yield 0, logits_fn(image)
        return
    grid = Grid(
        rows=spans_every(height, h, down),
        columns=spans_every(width, w, right),
        shared=(h - down, w - right),
        blend=blend,
        batch=batch or max(1, BATCH_PIXELS // (count * h * w)),
    )
    band: torch.Tensor | None = None
    for top, left, block in window_blocks(logits_fn, _InMemory(image), grid):
        if block.shape[-1] == width:
            yield top, block
            continue
        if band is None:
            band = block.new_empty(*block.shape[:-1], width)
        band[..., left : left + block.shape[-1]] = block
        if left + block.shape[-1] == width:
            yield top, band
            band = None


def in_rows(top: int, logits: torch.Tensor) -> Iterator[Band]:
    """Cut a map into bands. Shape: (N, K, H, W) → (top, (N, K, rows, W))."""
    for row in range(0, logits.shape[-2], _ROWS):
        yield top + row, logits[..., row : row + _ROWS, :]

"""Large images in overlapping windows: a grid, a ramp, one loop over bands of rows.

Works with any logits function. Windows are blended, so their borders leave no seam, and finished rows are
handed on band by band, so that nobody has to hold the logits of a very large image.
"""

import functools
import logging
from collections.abc import Iterator
from typing import Literal

import torch

from hrseg.errors import ConfigError, DataError
from hrseg.inference.prepare import LogitsFunction

log = logging.getLogger(__name__)

STRIDE = 32
"""Windows are multiples of the coarsest stride, so that every window's grid of features is the image's."""
WHOLE_PIXELS = 2**23
"""Above this (8.4 megapixels, 2048 x 4096) an image without a window is cut into FALLBACK windows."""
FALLBACK = ((1024, 2048), 0.25)
BATCH_PIXELS = 2**21
"""Windows are run together up to this many pixels: one of 1024 x 2048, eight of 512 x 512."""
RIM = 0.1
_ROWS = 256  # handed on at once

Blend = Literal["ramp", "equal"]
"""How windows share a pixel: each fades towards its rim, or each counts the same."""
Band = tuple[int, torch.Tensor]
"""First row, and logits (N, K, rows, W)."""


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

    Inside the overlap each window's weight rises from its rim to 1, so neighbours fade into one another and
    no pixel divides by zero. A window larger than the image shrinks to it; the last one of a row is shifted
    to end with the image.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        image: Normalised.
        window: (height, width) in pixels; with a ramp, multiples of 32.
        overlap: Shared fraction of neighbouring windows, 0 to 0.9.
        batch: Windows run at once; None takes as many as BATCH_PIXELS allow.
        stride: (height, width) between windows in pixels, instead of the overlap.
        blend: "ramp", or "equal" for the plain mean of all windows over a pixel, as published protocols have it.

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
    """Run a row of windows, yield the rows no later window touches, keep the rest for the next."""
    check_window(window, overlap, stride, blend)
    count, height, width = image.shape[0], int(image.shape[-2]), int(image.shape[-1])
    h, w = min(window[0], height), min(window[1], width)
    if (h, w) == (height, width):
        yield 0, logits_fn(image)
        return
    batch = batch or max(1, BATCH_PIXELS // (count * h * w))
    down, right = stride or (_step(h, overlap), _step(w, overlap))
    tops, lefts = starts_every(height, h, down), starts_every(width, w, right)
    ramp = torch.ones(h, w)
    if blend == "ramp":
        ramp = _ramp(h, h - down)[:, None] * _ramp(w, w - right)[None, :]
    total: torch.Tensor | None = None
    for top, below in zip(tops, [*tops[1:], height], strict=True):
        for first in range(0, len(lefts), batch):
            chosen = lefts[first : first + batch]
            cuts = torch.cat([image[..., top : top + h, x : x + w] for x in chosen])
            logits = logits_fn(cuts)
            if total is None:
                total = logits.new_zeros(count, logits.shape[1], h, width)
                weight = logits.new_zeros(h, width)
                ramp = ramp.to(logits)
            for x, part in zip(chosen, logits.split(count), strict=True):
                total[..., x : x + w].addcmul_(part, ramp)
                weight[:, x : x + w] += ramp
        assert total is not None
        done = below - top
        for row in range(0, done, _ROWS):
            rows = slice(row, min(row + _ROWS, done))
            yield top + row, total[..., rows, :] / weight[rows]
        _move_up(total, done)
        _move_up(weight, done)


def in_rows(top: int, logits: torch.Tensor) -> Iterator[Band]:
    """Cut a map into bands. Shape: (N, K, H, W) → (top, (N, K, rows, W))."""
    for row in range(0, logits.shape[-2], _ROWS):
        yield top + row, logits[..., row : row + _ROWS, :]


def _move_up(rows: torch.Tensor, by: int) -> None:
    """Keep what later windows still touch, and clear the place for them."""
    kept = rows.shape[-2] - by
    rows[..., :kept, :] = rows[..., by:, :].clone()
    rows[..., kept:, :] = 0


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along one side; the last is shifted to end with the image.

    Example:
        >>> starts(100, 64, 0.5)
        [0, 32, 36]
        >>> starts(64, 64, 0.5)
        [0]
    """
    return starts_every(length, window, _step(window, overlap))


def starts_every(length: int, window: int, step: int) -> list[int]:
    """Return where windows begin along one side, a step apart; the last is shifted to end with the image.

    Example:
        >>> starts_every(100, 64, 20)
        [0, 20, 36]
    """
    return [*range(0, length - window, step), max(0, length - window)]


def _step(window: int, overlap: float) -> int:
    return max(1, round(window * (1 - overlap)))


def check_window(
    window: tuple[int, int],
    overlap: float,
    stride: tuple[int, int] | None = None,
    blend: Blend = "ramp",
) -> None:
    """Refuse windows the network's grid does not fit, and overlaps or strides out of range.

    Published protocols, which count windows equally, have windows off the grid, and HRNet runs them.

    Args:
        window: (height, width).
        overlap: Shared fraction.
        stride: In pixels, or None.
        blend: See `sliding_window`.

    Raises:
        ConfigError: With the next larger window that fits.
    """
    if min(window) < 1 or (blend == "ramp" and any(side % STRIDE for side in window)):
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


def _ramp(length: int, shared: int) -> torch.Tensor:
    distance = torch.minimum(torch.arange(length), torch.arange(length).flip(0))
    return (RIM + (1 - RIM) * (distance + 1) / max(1, shared)).clamp(max=1.0)

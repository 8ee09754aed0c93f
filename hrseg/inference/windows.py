"""Large images in overlapping windows: a grid, a ramp, one loop.

Works with any logits function. Windows are blended, so their borders leave no seam.
"""

import logging
from itertools import product

import torch

from hrseg.errors import ConfigError
from hrseg.inference.prepare import LogitsFunction

log = logging.getLogger(__name__)

STRIDE = 32
"""Windows are multiples of the coarsest stride, so that every window's grid of features is the image's."""
WHOLE_PIXELS = 2**23
"""Above this (8.4 megapixels, 2048 x 4096) an image without a window is cut into FALLBACK windows."""
FALLBACK = ((1024, 2048), 0.25)
RIM = 0.1


def whole_or_windows(
    logits_fn: LogitsFunction,
    image: torch.Tensor,
    window: tuple[int, int] | None = None,
    overlap: float = 0.5,
) -> torch.Tensor:
    """Run an image whole, or in windows where they are asked for or the image is very large.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        image: Normalised.
        window: (height, width), or None for the whole image up to WHOLE_PIXELS.
        overlap: Shared fraction of neighbouring windows.

    Shape:
        image (N, bands, H, W) → (N, K, H, W)
    """
    if window is None:
        height, width = image.shape[-2:]
        if height * width <= WHOLE_PIXELS:
            return logits_fn(image)
        window, overlap = FALLBACK
        log.warning(
            "%d x %d pixels are run in windows of %d x %d; set a window to choose.",
            height,
            width,
            *window,
        )
    return sliding_window(logits_fn, image, window, overlap)


def sliding_window(
    logits_fn: LogitsFunction,
    image: torch.Tensor,
    window: tuple[int, int],
    overlap: float = 0.5,
    batch: int = 4,
) -> torch.Tensor:
    """Blend overlapping window logits into one map.

    Inside the overlap each window's weight rises from its rim to 1, so neighbours fade into one another and
    no pixel divides by zero. A window larger than the image shrinks to it.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        image: Normalised.
        window: (height, width) in pixels, multiples of 32.
        overlap: Shared fraction of neighbouring windows, 0 to 0.9.
        batch: Windows run at once.

    Returns:
        Logits at image size.

    Shape:
        image (N, bands, H, W) → (N, K, H, W)

    Raises:
        ConfigError: The window is not a multiple of 32, or the overlap is out of range.

    Source: the official multi-scale inference averages overlaps equally; the ramp is ours.
    """
    check_window(window, overlap)
    height, width = int(image.shape[-2]), int(image.shape[-1])
    h, w = min(window[0], height), min(window[1], width)
    if (h, w) == (height, width):
        return logits_fn(image)
    places = list(product(starts(height, h, overlap), starts(width, w, overlap)))
    ramp = _ramp(h, overlap)[:, None] * _ramp(w, overlap)[None, :]
    total: torch.Tensor | None = None
    for first in range(0, len(places), batch):
        chosen = places[first : first + batch]
        cuts = torch.cat([image[..., y : y + h, x : x + w] for y, x in chosen])
        logits = logits_fn(cuts)
        if total is None:
            total = logits.new_zeros(image.shape[0], logits.shape[1], height, width)
            weight = logits.new_zeros(height, width)
            ramp = ramp.to(logits)
        for (y, x), part in zip(chosen, logits.split(image.shape[0]), strict=True):
            total[..., y : y + h, x : x + w] += part * ramp
            weight[y : y + h, x : x + w] += ramp
    if total is None:
        raise ConfigError(f"An image of {height} x {width} pixels has no window to run.")
    return total.div_(weight)


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along one side; the last is shifted to end with the image.

    Example:
        >>> starts(100, 64, 0.5)
        [0, 32, 36]
        >>> starts(64, 64, 0.5)
        [0]
    """
    step = max(1, round(window * (1 - overlap)))
    return [*range(0, length - window, step), max(0, length - window)]


def check_window(window: tuple[int, int], overlap: float) -> None:
    """Refuse windows the network's grid does not fit, and overlaps out of range.

    Raises:
        ConfigError: With the next larger window that fits.
    """
    if min(window) < STRIDE or any(side % STRIDE for side in window):
        larger = tuple(max(STRIDE, -(-side // STRIDE) * STRIDE) for side in window)
        raise ConfigError(
            f"Window {tuple(window)} is not a multiple of {STRIDE}. Next larger: {larger}."
        )
    if not 0 <= overlap <= 0.9:
        raise ConfigError(f"Overlap {overlap} is outside 0 to 0.9. Use 0.5, or 0.25 for speed.")


def _ramp(length: int, overlap: float) -> torch.Tensor:
    rise = max(1, round(length * overlap))
    distance = torch.minimum(torch.arange(length), torch.arange(length).flip(0))
    return (RIM + (1 - RIM) * (distance + 1) / rise).clamp(max=1.0)

"""Where windows lie: along one side, and as a grid of rows and columns of windows over an image."""

from dataclasses import dataclass

from hrseg.errors import ConfigError
from hrseg.inference.blending import Blend

STRIDE = 32
"""Windows are multiples of the coarsest stride, so that every window's grid of features is the image's."""
Span = tuple[int, int]
"""First pixel, and how many."""


@dataclass(frozen=True)
class Grid:
    """Windows over an image.

    Attributes:
        rows: Where rows of windows begin and how high they are, from top to bottom; the last ends with the image.
        columns: The same across.
        shared: (rows, columns) that neighbours are meant to share; weights rise over as many.
        blend: How they share them.
        batch: Windows that run together.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    shared: tuple[int, int]
    blend: Blend = "ramp"
    batch: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        (top, h), (left, w) = self.rows[-1], self.columns[-1]
        return top + h, left + w

    @property
    def bottoms(self) -> list[int]:
        """For each row of windows, the image row from which the next one takes part."""
        return [*(top for top, _ in self.rows[1:]), self.size[0]]

    @property
    def most_kept(self) -> int:
        """The most rows that wait for the next row of windows."""
        return max(top + h - below for (top, h), below in zip(self.rows, self.bottoms, strict=True))

    def batches(self) -> list[tuple[Span, ...]]:
        """Return the columns that run together: neighbours, and all as wide as one another."""
        found: list[list[Span]] = []
        for column in self.columns:
            if found and len(found[-1]) < self.batch and found[-1][-1][1] == column[1]:
                found[-1].append(column)
            else:
                found.append([column])
        return [tuple(columns) for columns in found]


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along one side; the last is shifted to end with the image.

    Example:
        >>> starts(100, 64, 0.5)
        [0, 32, 36]
        >>> starts(64, 64, 0.5)
        [0]
    """
    return starts_every(length, window, step_of(window, overlap))


def starts_every(length: int, window: int, step: int) -> list[int]:
    """Return where windows begin along one side, a step apart; the last is shifted to end with the image.

    Example:
        >>> starts_every(100, 64, 20)
        [0, 20, 36]
    """
    return [*range(0, length - window, step), max(0, length - window)]


def spans_every(length: int, window: int, step: int) -> tuple[Span, ...]:
    """Return windows along one side as `starts_every` places them.

    Example:
        >>> spans_every(100, 64, 20)
        ((0, 64), (20, 64), (36, 64))
    """
    window = min(window, length)
    return tuple((start, window) for start in starts_every(length, window, step))


def even_spans(length: int, window: int, step: int) -> tuple[Span, ...]:
    """Return windows along one side that all begin on the grid of the coarsest stride, evenly spread.

    The last is up to 31 pixels longer than the others, so that it ends with the image: a window that was
    shifted off the grid would see other features than its neighbours. No two are further apart than the step.

    Args:
        length: Of the image's side.
        window: A multiple of 32.
        step: Between windows, at most; a multiple of 32.

    Example:
        >>> even_spans(300, 128, 64)
        ((0, 128), (32, 128), (96, 128), (160, 140))
        >>> even_spans(100, 128, 64)
        ((0, 100),)
    """
    last = (length - window) // STRIDE
    if last <= 0:
        return ((0, length),)
    most = max(1, step // STRIDE)
    count = -(-last // most)
    begins = [STRIDE * (i * last // count) for i in range(count + 1)]
    return (*((start, window) for start in begins[:-1]), (begins[-1], length - begins[-1]))


def step_of(window: int, overlap: float) -> int:
    """Return the pixels from one window to the next."""
    return max(1, round(window * (1 - overlap)))


def step_on_grid(window: int, overlap: float) -> int:
    """Return the pixels from one window to the next, a multiple of the coarsest stride.

    Example:
        >>> step_on_grid(512, 0.25), step_on_grid(64, 0.9)
        (384, 32)
    """
    return max(STRIDE, int(window * (1 - overlap)) // STRIDE * STRIDE)


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
        blend: See `windows.sliding_window`.

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

"""The rows of a file that the present row of windows needs, from which windows are cut."""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from hrseg.imaging import to_tensor
from hrseg.inference.huge.look import check_look, seen
from hrseg.inference.huge.readers import Reader

log = logging.getLogger(__name__)

MOST_AHEAD = 1024
"""Rows that are read ahead at most, so that blocks are decoded once."""


class Strips:
    """A `blocks.Source` over a reader: rows are read once, from top to bottom, and let go when they are done.

    Args:
        reader: The open file.
        bands: Bands that the network sees, or None for RGB.
        mean: Per-band mean.
        std: Per-band standard deviation.
        value_range: The stored value that becomes 1; None takes the type's.

    Raises:
        DataError: A type or a band that does not fit.
    """

    def __init__(
        self,
        reader: Reader,
        bands: Sequence[int] | None,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        value_range: float | None,
    ) -> None:
        check_look(reader.head, str(reader.path), bands)
        self.reader, self.bands = reader, bands
        self.mean, self.std, self.value_range = mean, std, value_range
        self.brightest = 0  # of 16-bit values that become 8 bits
        self._top = self._bottom = 0
        self._pixels: np.ndarray | None = None
        self._valid: np.ndarray | None = None

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Return one window, normalised. Shape: (1, bands, height, width)."""
        self.hold(top, top + height)
        pixels = self.pixels(top, top + height)[:, left : left + width]
        return to_tensor(np.ascontiguousarray(pixels), self.mean, self.std, self.value_range)[None]

    def empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Tell whether a window has no pixel with data."""
        self.hold(top, top + height)
        valid = self.valid(top, top + height)
        return valid is not None and not valid[:, left : left + width].any()

    def pixels(self, top: int, bottom: int) -> np.ndarray:
        """Return rows that are held. Shape: (rows, W, bands)."""
        assert self._pixels is not None
        return self._pixels[top - self._top : bottom - self._top]

    def valid(self, top: int, bottom: int) -> np.ndarray | None:
        """Return where rows that are held have data; None: everywhere. Shape: bool (rows, W)."""
        return None if self._valid is None else self._valid[top - self._top : bottom - self._top]

    def hold(self, top: int, bottom: int) -> None:
        """Read down to `bottom`, and let go of what is above `top`."""
        if self._pixels is None or top >= self._bottom:
            self._top = self._bottom = top
            self._pixels = self._valid = None
        if bottom <= self._bottom:
            return
        head = self.reader.head
        if head.block <= MOST_AHEAD:
            bottom = min(head.height, -(-bottom // head.block) * head.block)
        values = self.reader.rows(self._bottom, bottom)
        valid = self.reader.valid(values, self._bottom)
        if self.bands is None and values.dtype == np.uint16:
            self.brightest = max(self.brightest, int(values.max(initial=0)))
        pixels = seen(values, head, valid, self.bands)
        del values
        kept = slice(top - self._top, None)
        if self._pixels is not None:
            pixels = np.concatenate([self._pixels[kept], pixels])
            if valid is not None and self._valid is not None:
                valid = np.concatenate([self._valid[kept], valid])
        self._pixels, self._valid = pixels, valid
        self._top, self._bottom = top, bottom

    def tell(self) -> None:
        """Say what was only known after all rows."""
        if 0 < self.brightest <= 255:
            log.warning(
                "%s has 16 bits, and no value beyond 255: it was taken for nearly black. Save it with 8 bits.",
                self.reader.path,
            )

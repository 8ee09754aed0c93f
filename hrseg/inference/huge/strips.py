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
PORTION = 256
"""Rows that are read at a time, or one block of the file."""


class Strips:
    """A `windows.Source` over a reader: rows are read once, from top to bottom, and let go when they are done.

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
        self.size = (reader.head.height, reader.head.width)
        self.mean, self.std, self.value_range = mean, std, value_range
        self.brightest = 0  # of 16-bit values that become 8 bits
        self._top = self._bottom = 0  # of what is held
        self._pixels = np.empty((0, 0, 0))  # the row at the top is the first
        self._valid: np.ndarray | None = None

    def bytes_held(self, rows: int) -> int:
        """Return the most bytes that rows as high as a window take: as stored, as pixels, and their labels."""
        head = self.reader.head
        kept = min(head.dtype.itemsize, 4) * len(self.bands) if self.bands else 3
        ahead = head.block if head.block <= MOST_AHEAD else 0
        portion = max(PORTION, head.block) if ahead else rows
        pixels = (rows + ahead) * (kept + 1) + 12 * rows  # labels, confidence, and both packed
        return head.reserve + head.width * pixels + 2 * portion * (head.row_bytes + kept * head.width)

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
        return self._pixels[top - self._top : bottom - self._top]

    def valid(self, top: int, bottom: int) -> np.ndarray | None:
        """Return where rows that are held have data; None: everywhere. Shape: bool (rows, W)."""
        return None if self._valid is None else self._valid[top - self._top : bottom - self._top]

    def hold(self, top: int, bottom: int) -> None:
        """Read down to `bottom`, and let go of what is above `top`, where there is more to read."""
        if bottom <= self._bottom:
            return
        head, ahead = self.reader.head, self.reader.head.block <= MOST_AHEAD
        if ahead:
            bottom = min(head.height, -(-bottom // head.block) * head.block)
        self._let_go(top)
        portion = -(-PORTION // head.block) * head.block if ahead else bottom
        while self._bottom < bottom:
            end = min(bottom, (self._bottom // portion + 1) * portion)
            values = self.reader.rows(self._bottom, end)
            valid = self.reader.valid(values, self._bottom)
            if self.bands is None and values.dtype == np.uint16:
                self.brightest = max(self.brightest, int(values.max(initial=0)))
            pixels = seen(values, head, valid, self.bands)
            rows = slice(self._bottom - self._top, end - self._top)
            self._pixels = _roomy(self._pixels, bottom - self._top, pixels)
            self._pixels[rows] = pixels
            if valid is not None:
                held = np.empty((0, 0), bool) if self._valid is None else self._valid
                self._valid = _roomy(held, bottom - self._top, valid)
                self._valid[rows] = valid
            self._bottom = end

    def _let_go(self, top: int) -> None:
        """Move what is still needed to the beginning."""
        kept = max(0, self._bottom - top)
        for rows in (self._pixels, self._valid):
            if rows is not None and kept:
                _move_up(rows, top - self._top, kept)
        self._top, self._bottom = top, top + kept

    def tell(self) -> None:
        """Say what was only known after all rows."""
        if 0 < self.brightest <= 255:
            log.warning(
                "%s has 16 bits, and no value beyond 255: it was taken for nearly black. Save it with 8 bits.",
                self.reader.path,
            )


def _move_up(rows: np.ndarray, by: int, count: int) -> None:
    """Move rows to the beginning, in pieces that do not overlap, so that nothing is copied twice."""
    for begin in range(0, count if by else 0, max(1, by)):
        end = min(begin + by, count)
        rows[begin:end] = rows[begin + by : end + by]


def _roomy(rows: np.ndarray, count: int, like: np.ndarray) -> np.ndarray:
    """Return an array with room for so many rows like those, which begins with the rows that there are."""
    if len(rows) >= count and rows.shape[1:] == like.shape[1:]:
        return rows
    larger = np.empty((count, *like.shape[1:]), like.dtype)
    if rows.shape[1:] == like.shape[1:]:
        larger[: len(rows)] = rows
    return larger

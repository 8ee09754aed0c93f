"""The rows of a file that the present row of windows needs, from which windows are cut."""

import numpy as np
import torch

from hrseg.imaging import ImageFile, to_tensor

MOST_AHEAD = 1024
"""Rows that are read ahead at most, so that blocks are decoded once."""
PORTION = 256
"""Rows that are read at a time, or one block of the file."""


class Strips:
    """A `windows.Source` over an open image: rows are read once, from top to bottom, and let go when they are done.

    Args:
        image: The open file.
        mean: Per-band mean.
        std: Per-band standard deviation.
        value_range: The stored value that becomes 1; None takes the type's.
    """

    def __init__(
        self,
        image: ImageFile,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        value_range: float | None,
    ) -> None:
        self.image, self.size = image, (image.height, image.width)
        self.mean, self.std, self.value_range = mean, std, value_range
        self._top = self._bottom = 0  # of what is held
        self._pixels = np.empty((0, 0, 0))  # the row at the top is the first
        self._valid: np.ndarray | None = None

    def bytes_held(self, rows: int) -> int:
        """Return the most bytes that rows as high as a window take: as stored, as pixels, and their labels."""
        image = self.image
        stored = image.count * image.dtype.itemsize
        kept = min(image.dtype.itemsize, 4) * len(image.bands) if image.bands else 3
        ahead = image.block if image.block <= MOST_AHEAD else 0
        portion = max(PORTION, image.block) if ahead else rows
        held = (rows + ahead) * (kept + 1) + 12 * rows  # labels, confidence, and both packed
        whole = 2 * stored * image.height if image.block >= image.height else 0
        return image.width * (whole + held + 2 * portion * (stored + kept))

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Return one window, normalized. Shape: (1, bands, height, width)."""
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
        block, ahead = self.image.block, self.image.block <= MOST_AHEAD
        if ahead:
            bottom = min(self.size[0], -(-bottom // block) * block)
        self._let_go(top)
        portion = -(-PORTION // block) * block if ahead else bottom
        while self._bottom < bottom:
            end = min(bottom, (self._bottom // portion + 1) * portion)
            pixels, valid = self.image.rows(self._bottom, end)
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

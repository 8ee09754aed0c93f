"""A mask as objects: the pixels of each class, or polygons to be drawn one after the other.

Polygons run along the edges of pixels. A part inside another one comes later and lies on top, so that no polygon
needs a hole. Pixels of the background, or ignored ones where there is no background, are what remains when
everything else is drawn; they are written only where they lie inside something.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrseg.convert.base import BACKGROUND_NAMES
from hrseg.convert.classes import BACKGROUND
from hrseg.imaging.polygons import Ring, Size, area, fill, simplify, trace
from hrseg.labels import IGNORE_INDEX, LabelSet

IGNORED = "__ignore__"
"""What ignored pixels are called in a tool, where the background has a class of its own."""


@dataclass(frozen=True)
class Masked:
    """One image with its mask.

    Attributes:
        image: Its file.
        name: What the tool shall call it: the path below the folder of images.
        mask: trainIds, 255 where ignored.
    """

    image: Path
    name: str
    mask: np.ndarray

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.mask.shape[0], self.mask.shape[1]


@dataclass(frozen=True)
class Style:
    """How masks are written.

    Attributes:
        labels: Their classes.
        shapes: "masks" or "polygons".
        tolerance: How far a polygon may be from the border, in pixels.
        smallest: Parts with fewer pixels are left out of polygons.
    """

    labels: LabelSet
    shapes: str
    tolerance: float = 0.0
    smallest: int = 1

    @property
    def blank(self) -> int:
        """TrainId that is not written: the background, or ignored pixels."""
        names = [name.lower() for name in self.labels.names]
        return next((i for i, name in enumerate(names) if name in BACKGROUND_NAMES), IGNORE_INDEX)

    def name(self, train_id: int) -> str:
        """Return a class by its trainId."""
        if train_id == IGNORE_INDEX:
            return IGNORED
        return BACKGROUND if train_id == self.blank else self.labels.names[train_id]

    @property
    def names(self) -> list[str]:
        """Every name that may be written, in trainId order."""
        ids = [i for i in range(self.labels.num_classes) if i != self.blank]
        return [self.name(i) for i in ids] + [IGNORED] * (self.blank != IGNORE_INDEX)


def layers(masked: Masked, style: Style) -> list[tuple[int, np.ndarray]]:
    """Return the pixels of each class that is written."""
    return [
        (train_id, masked.mask == train_id)
        for train_id in np.unique(masked.mask).tolist()
        if train_id != style.blank
    ]


def parts(mask: np.ndarray, style: Style) -> list[tuple[str, Ring]]:
    """Return polygons that give the mask when they are drawn in this order.

    Example:
        >>> from hrseg.labels import load_labels
        >>> style = Style(load_labels("voc2012"), "polygons")
        >>> [(name, len(ring)) for name, ring in parts(np.array([[0, 7], [0, 0]]), style)]
        [('car', 4)]

    Shape:
        mask (H, W)
    """
    found: list[tuple[float, int, Ring]] = []
    for train_id in np.unique(mask).tolist():
        for ring in trace(mask == train_id):
            size = area(ring)
            if size > 0:  # holes are filled by what lies in them
                found.append((size, train_id, ring))
    # whatever lies inside an outline has a smaller one, so it comes later
    found.sort(key=lambda part: -part[0])
    below = _Below(mask.shape, style.blank)
    written = []
    for size, train_id, ring in found:
        if size < style.smallest or below.is_already(train_id, ring):
            continue
        below.draw(train_id, ring)
        written.append((style.name(train_id), simplify(ring, style.tolerance)))
    return written


class _Below:
    """What was drawn so far, so that background is written only where it lies on something."""

    def __init__(self, shape: tuple[int, ...], blank: int) -> None:
        self.canvas = np.full(shape, blank, dtype=np.uint8)
        self.blank = blank

    def is_already(self, train_id: int, ring: Ring) -> bool:
        """Say whether a blank part lies on blank."""
        if train_id != self.blank:
            return False
        x, y = ring[ring[:, 1] == ring[:, 1].min()].min(axis=0).astype(int)  # its upper left pixel
        return bool(self.canvas[y, x] == self.blank)

    def draw(self, train_id: int, ring: Ring) -> None:
        """Draw one part."""
        patch = fill([ring], (self.canvas.shape[0], self.canvas.shape[1]))
        height, width = patch.pixels.shape
        around = self.canvas[patch.top : patch.top + height, patch.left : patch.left + width]
        around[patch.pixels] = train_id

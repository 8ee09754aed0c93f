"""Masks as objects: the pixels of each class, or polygons to be painted in order.

Polygons run along the edges of pixels. A polygon inside another one comes later and covers it, so that none needs a
hole. Pixels of the background, or ignored ones where there is no background, are what remains; they are written only
where they are inside another polygon.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrseg.convert.base import BACKGROUND_NAMES
from hrseg.convert.classes import BACKGROUND
from hrseg.imaging.polygons import Ring, Size, area, fill, simplify, trace
from hrseg.labels import IGNORE_INDEX, LabelSet

IGNORED = "__ignore__"
"""Name of ignored pixels in a tool, where the background has a class of its own."""


@dataclass(frozen=True)
class MaskedImage:
    """One image with its mask.

    Attributes:
        image: Its file.
        name: Its name in the tool: the path below the folder of images.
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
    """Options of the output.

    Attributes:
        labels: Their classes.
        shapes: "masks" or "polygons".
        tolerance: Largest distance of a polygon from the border, in pixels.
        smallest: Fewest pixels of a polygon.
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


def class_pixels(masked: MaskedImage, style: Style) -> list[tuple[int, np.ndarray]]:
    """Return the pixels of each class that is written."""
    return [
        (train_id, masked.mask == train_id) for train_id in np.unique(masked.mask).tolist() if train_id != style.blank
    ]


def mask_polygons(mask: np.ndarray, style: Style) -> list[tuple[str, Ring]]:
    """Return polygons that give the mask when they are painted in this order.

    Example:
        >>> from hrseg.labels import load_labels
        >>> style = Style(load_labels("voc2012"), "polygons")
        >>> [(name, len(ring)) for name, ring in mask_polygons(np.array([[0, 7], [0, 0]]), style)]
        [('car', 4)]

    Shape:
        mask (H, W)
    """
    found: list[tuple[float, int, Ring]] = []
    for train_id in np.unique(mask).tolist():
        for ring in trace(mask == train_id):
            size = area(ring)
            if size > 0:  # holes are filled by the polygons in them
                found.append((size, train_id, ring))
    # a polygon inside another has a smaller outline, so it comes later
    found.sort(key=lambda polygon: -polygon[0])
    canvas: np.ndarray = np.full(mask.shape, style.blank, dtype=np.uint8)  # what is painted so far
    written = []
    for size, train_id, ring in found:
        if size < style.smallest or (train_id == style.blank and _is_blank(canvas, ring, train_id)):
            continue
        patch = fill([ring], (mask.shape[0], mask.shape[1]))
        height, width = patch.pixels.shape
        region = canvas[patch.top : patch.top + height, patch.left : patch.left + width]
        region[patch.pixels] = train_id
        written.append((style.name(train_id), simplify(ring, style.tolerance)))
    return written


def _is_blank(canvas: np.ndarray, ring: Ring, blank: int) -> bool:
    """Return whether background would be painted on background."""
    x, y = ring[ring[:, 1] == ring[:, 1].min()].min(axis=0).astype(int)  # its upper left pixel
    return bool(canvas[y, x] == blank)

"""What the writers of results may be told, in one record."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """For all writers; each looks at what concerns it.

    Attributes:
        pixel_size: Side of a pixel on the ground in metres, where the image does not say it.
        tolerance: How far the simplified outline of a polygon may lie from the pixels' edges, in pixels; 0 is exact.
        min_area: Polygons of fewer pixels, and holes of fewer, are left out.
    """

    pixel_size: float | None = None
    tolerance: float = 0.0
    min_area: float = 0.0

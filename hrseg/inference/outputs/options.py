"""What the writers of results may be told, in one record."""

import math
from dataclasses import dataclass

import numpy as np

from hrseg.errors import ConfigError
from hrseg.inference.prediction import Prediction


@dataclass(frozen=True)
class Options:
    """For all writers; each looks at what concerns it.

    Attributes:
        pixel_size: Side of a pixel on the ground in metres; None asks the image.
        tolerance: How far the simplified outline of a polygon may lie from the pixels' edges, in pixels; 0 is exact.
        min_area: Polygons of fewer pixels are left out, and holes of fewer are closed.

    Raises:
        ConfigError: A number below 0, or a pixel without size.
    """

    pixel_size: float | None = None
    tolerance: float = 0.0
    min_area: float = 0.0

    def __post_init__(self) -> None:
        size = self.pixel_size
        if size is not None and not 0 < size < math.inf:
            raise ConfigError(
                f"Pixel size {size:g} is no length. Give metres above 0, such as 0.1 for pixels of 10 cm."
            )
        for name, value in (("Tolerance", self.tolerance), ("Smallest area", self.min_area)):
            if not 0 <= value < math.inf:
                raise ConfigError(
                    f"{name} {value:g} is below 0 or no number. Give pixels, 0 or more."
                )

    def pixel_areas(self, prediction: Prediction) -> np.ndarray | None:
        """Return the square metres of pixels, or None where they cannot be known. Shape: (H, W), or (H, 1)."""
        height, width = prediction.size
        if self.pixel_size is not None:
            return np.full((height, 1), self.pixel_size**2)
        place = prediction.georeference
        return None if place is None else place.pixel_areas(height, width)

"""Options of result writers, and shards of a batch."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hrseg.errors import ConfigError

if TYPE_CHECKING:
    from hrseg.inference.prediction import Prediction


@dataclass(frozen=True)
class Options:
    """Options of all writers.

    Attributes:
        pixel_size: Side of a pixel on the ground in meters; None takes the image's georeference.
        tolerance: Largest distance of a simplified outline from the pixel edges, in pixels; 0 is exact.
        min_area: Polygons of fewer pixels are left out, and smaller holes are closed.

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
                f"Pixel size {size:g} is no length. Give meters above 0, such as 0.1 for pixels of 10 cm."
            )
        for name, value in (("Tolerance", self.tolerance), ("Smallest area", self.min_area)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} {value:g} is below 0 or no number. Give pixels, 0 or more.")

    def pixel_areas(self, prediction: "Prediction") -> np.ndarray | None:
        """Return the square meters of each pixel, or None where unknown. Shape: (H, W), or (H, 1)."""
        height, width = prediction.size
        if self.pixel_size is not None:
            return np.full((height, 1), self.pixel_size**2)
        place = prediction.georeference
        return None if place is None else place.pixel_areas(height, width)


T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Every `count`-th image from the `number`-th on (1 to count); all machines need the same arguments in order.

    Example:
        >>> [list(Shard(number, 2).take("abcde")) for number in (1, 2)]
        [['a', 'c', 'e'], ['b', 'd']]
    """

    number: int = 1
    count: int = 1

    def take(self, items: Iterable[T]) -> Iterator[T]:
        """Return the items of this shard, in order."""
        return (item for index, item in enumerate(items) if index % self.count == self.number - 1)

    def named(self, stem: str) -> str:
        """Return a file stem that is unique to this shard.

        Example:
            >>> Shard(2, 8).named("manifest"), Shard().named("manifest")
            ('manifest-2-of-8', 'manifest')
        """
        return stem if self.count == 1 else f"{stem}-{self.number}-of-{self.count}"


def read_shard(word: str | None) -> Shard:
    """Read "2/8"; None is all images. Raises ConfigError for anything else."""
    if word is None:
        return Shard()
    number, _, count = word.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return Shard(int(number), int(count))
    raise ConfigError(
        f"'{word}' is not a shard. Of 8 shards the first is 1/8 and the last 8/8; each machine gets its own."
    )

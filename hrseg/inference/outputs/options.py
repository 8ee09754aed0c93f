"""What the writers of results may be told, in one record."""

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
    """For all writers; each looks at what concerns it.

    Attributes:
        pixel_size: Side of a pixel on the ground in meters; None asks the image.
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
                f"Pixel size {size:g} is no length. Give meters above 0, such as 0.1 for pixels of 10 cm."
            )
        for name, value in (("Tolerance", self.tolerance), ("Smallest area", self.min_area)):
            if not 0 <= value < math.inf:
                raise ConfigError(
                    f"{name} {value:g} is below 0 or no number. Give pixels, 0 or more."
                )

    def pixel_areas(self, prediction: "Prediction") -> np.ndarray | None:
        """Return the square meters of pixels, or None where they cannot be known. Shape: (H, W), or (H, 1)."""
        height, width = prediction.size
        if self.pixel_size is not None:
            return np.full((height, 1), self.pixel_size**2)
        place = prediction.georeference
        return None if place is None else place.pixel_areas(height, width)


T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Every count-th image, beginning with the number-th.

    All machines have to be given the same images in the same words: which ones a shard takes follows from their order.

    Attributes:
        number: From 1 to count.
        count: How many shards there are.

    Example:
        >>> [list(Shard(number, 2).take("abcde")) for number in (1, 2)]
        [['a', 'c', 'e'], ['b', 'd']]
    """

    number: int = 1
    count: int = 1

    def take(self, items: Iterable[T]) -> Iterator[T]:
        """Yield what belongs to this shard, in order."""
        return (item for index, item in enumerate(items) if index % self.count == self.number - 1)

    def named(self, stem: str) -> str:
        """Give a file of this shard a name of its own; that of the only one stays plain.

        Example:
            >>> Shard(2, 8).named("manifest"), Shard().named("manifest")
            ('manifest-2-of-8', 'manifest')
        """
        return stem if self.count == 1 else f"{stem}-{self.number}-of-{self.count}"


def read_shard(word: str | None) -> Shard:
    """Read "2/8"; None is everything.

    Raises:
        ConfigError: It is something else.
    """
    if word is None:
        return Shard()
    number, _, count = word.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return Shard(int(number), int(count))
    raise ConfigError(
        f"Shard '{word}' is none. Of 8 shards the first is 1/8 and the last 8/8; each machine gets its own."
    )

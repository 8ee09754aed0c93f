"""One job for several machines: every image belongs to exactly one shard, and each keeps its order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from hrseg.errors import ConfigError

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

"""Sampler of training and evaluation images for one or several devices, and pixel counts of the classes.

A sampler computes the Draws of a whole epoch, the same on every device, and yields the share of its own.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch.utils.data import Sampler

from hrseg.data.dataset import Draw, encode, read_ids
from hrseg.data.layouts import Pair
from hrseg.errors import DataError
from hrseg.labels import LabelSet

log = logging.getLogger(__name__)

RARITY_TEMPERATURE = 0.1
"""Smaller gives rare classes more. With 0.1 the road of Cityscapes is drawn 40 times less often than a rider."""
LOG_EVERY = 500


class ShardSampler(Sampler[Draw]):
    """One device's share of an epoch.

    Training reshuffles each epoch and leaves out the few images that the devices cannot share equally.
    Evaluation preserves the order and counts each image once: shards are filled up with images whose mask is
    255 everywhere, because devices with unequal numbers of steps would deadlock.

    Args:
        length: Images in the dataset.
        rank: This device, from 0.
        world: Number of devices.
        train: Shuffle, or evaluate in order.
        seed: With the epoch it decides the order; the same on every device.
        counts: Pixels of each class in each image, to draw images by the rarity of what they hold.

    Shape:
        counts (length, K)

    Example:
        >>> [draw.index for draw in ShardSampler(3, rank=1, world=2)]
        [1, -1]
    """

    def __init__(
        self,
        length: int,
        *,
        rank: int = 0,
        world: int = 1,
        train: bool = False,
        seed: int = 0,
        counts: np.ndarray | None = None,
    ) -> None:
        self.length = length
        self.rank, self.world = rank, world
        self.train = train
        self.seed = seed
        self.counts = counts
        self.epoch = 0
        self._resumed = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order of the next pass; called by Lightning."""
        self.epoch = epoch

    def start(self, epoch: int, seen: int) -> None:
        """Begin in the middle of an epoch, as a resumed run does.

        Args:
            epoch: The first one.
            seen: Number of its samples that this device has had.
        """
        self.epoch = epoch
        self._resumed = (epoch, seen)

    def __len__(self) -> int:
        return self.length // self.world if self.train else -(-self.length // self.world)

    def __iter__(self) -> Iterator[Draw]:
        shard = self._epoch()[self.rank : len(self) * self.world : self.world]  # every world-th
        epoch, seen = self._resumed
        return iter(shard[seen:] if self.epoch == epoch else shard)

    def _epoch(self) -> list[Draw]:
        """List the draws of all devices."""
        if not self.train:
            missing = len(self) * self.world - self.length
            filler = [Draw(-1 - i % self.length) for i in range(missing)]  # negative: not counted
            return [*map(Draw, range(self.length)), *filler]
        generator = np.random.default_rng((self.seed, self.epoch))  # the same on all devices
        if self.counts is None:
            order = generator.permutation(self.length).tolist()
            return [Draw(index, self.epoch) for index in order]
        turns = [0] * self.length
        draws = []
        for index, wanted in _draw_rare(self.counts, self.length, generator):
            draws.append(Draw(index, self.epoch, turns[index], wanted))
            turns[index] += 1
        return draws


def class_probabilities(counts: np.ndarray) -> np.ndarray:
    """Return the probability that a class is drawn: the rarer, the higher; 0 for a class without pixels.

    With f the share of a class in all pixels, proportional to exp((1 - f) / T).

    Args:
        counts: Pixels of each class.

    Shape:
        (K,) → (K,)

    Source:
        DAFormer, arXiv:2111.14887; the formula of its get_rcs_class_probs.

    Example:
        >>> class_probabilities(np.array([60, 40, 0])).round(3).tolist()
        [0.119, 0.881, 0.0]
    """
    share = counts / max(1, counts.sum())  # (K,)
    weights = np.exp((share[share > 0].min(initial=1) - share) / RARITY_TEMPERATURE) * (share > 0)
    return weights / max(weights.sum(), 1e-12)


def _draw_rare(counts: np.ndarray, number: int, generator: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Draw a class by its rarity, then an image that holds it."""
    holders = [np.flatnonzero(column) for column in counts.T]  # class → images that hold it
    classes = generator.choice(counts.shape[1], size=number, p=class_probabilities(counts.sum(axis=0)))
    for wanted in classes.tolist():
        yield int(generator.choice(holders[wanted])), wanted


def pixels_by_image(
    pairs: Sequence[Pair],
    labels: LabelSet,
    read: Callable[[Pair], np.ndarray | None] = read_ids,
) -> np.ndarray:
    """Count the pixels of each class in each mask, reading on up to four threads.

    Args:
        pairs: The images.
        labels: The classes.
        read: Pair → ids.

    Returns:
        int64 counts.

    Raises:
        DataError: A mask that cannot be read, or none that holds a class.

    Shape:
        (N, K)
    """

    def count(pair: Pair) -> np.ndarray:
        ids = read(pair)
        if ids is None:
            return np.zeros(labels.num_classes, np.int64)
        return np.bincount(encode(pair, ids, labels).ravel(), minlength=256)[: labels.num_classes]

    log.info("counting the classes of %d masks", len(pairs))
    found = np.zeros((len(pairs), labels.num_classes), np.int64)  # (N, K)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for number, counts in enumerate(pool.map(count, pairs)):
            found[number] = counts
            if number and number % LOG_EVERY == 0:
                log.info("counted %d of %d masks", number, len(pairs))
    if not found.any():
        raise DataError(
            f"None of the {len(pairs)} masks holds a pixel of a class of table '{labels.name}'; all are ignored. "
            "Check that data.labels fits the masks."
        )
    return found

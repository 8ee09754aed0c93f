"""Who sees which image when."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hrseg.data.layouts import Pair
from hrseg.data.sampling import (
    ShardSampler,
    class_probabilities,
    pixels_by_image,
)
from hrseg.data.transforms import NO_CLASS
from hrseg.errors import DataError
from hrseg.labels import load_labels


def indexes(sampler: ShardSampler) -> list[int]:
    found = [draw.index for draw in sampler]
    assert len(found) == len(sampler)
    return found


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 5, 6, 101])
def test_evaluation_counts_each_image_once(world, length):
    shards = [indexes(ShardSampler(length, rank=r, world=world)) for r in range(world)]
    assert len({len(shard) for shard in shards}) == 1
    everything = [index for shard in shards for index in shard]
    assert sorted(i for i in everything if i >= 0) == list(range(length))
    assert all(-length <= i for i in everything)


def test_evaluation_keeps_the_order():
    assert indexes(ShardSampler(4)) == [0, 1, 2, 3]
    assert indexes(ShardSampler(5, rank=1, world=2)) == [1, 3, -1]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_shares_one_shuffled_epoch(world):
    shards = [indexes(ShardSampler(11, rank=r, world=world, train=True, seed=4)) for r in range(world)]
    assert {len(shard) for shard in shards} == {11 // world}
    everything = [index for shard in shards for index in shard]
    assert len(set(everything)) == len(everything)
    assert min(everything) >= 0


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = ShardSampler(20, train=True, seed=seed)
        sampler.set_epoch(epoch)
        assert all(draw.epoch == epoch for draw in sampler)
        return indexes(sampler)

    assert order(0, 0) == order(0, 0)
    assert sorted(order(0, 0)) == list(range(20))
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_rare_classes_are_drawn_more_often():
    counts = np.array([[1000, 0], [1000, 0], [1000, 0], [990, 10]] * 25)
    draws = list(ShardSampler(100, train=True, counts=counts))
    rare = [draw for draw in draws if draw.wanted == 1]
    assert len(rare) > 80
    assert all(counts[draw.index, 1] for draw in rare)
    assert all(counts[draw.index, draw.wanted] for draw in draws)


def test_repeated_images_are_told_apart():
    draws = list(ShardSampler(40, train=True, counts=np.eye(2, dtype=int)[[0] * 39 + [1]]))
    assert len({(draw.index, draw.turn) for draw in draws}) == 40
    assert max(draw.turn for draw in draws) > 5


def test_rare_draws_are_shared_too():
    counts = np.random.default_rng(0).integers(0, 9, (10, 3))
    whole = list(ShardSampler(10, train=True, counts=counts))
    shards = [list(ShardSampler(10, train=True, counts=counts, rank=r, world=2)) for r in (0, 1)]
    assert [draw for pair in zip(*shards, strict=True) for draw in pair] == whole


def test_uniform_draws_want_no_class():
    assert {draw.wanted for draw in ShardSampler(5, train=True)} == {NO_CLASS}


def test_probabilities_by_hand():
    # Shares 0.5, 0.3, 0.2, 0: exp(-(share - 0.2) / 0.1) = e^-3, e^-1, 1, and 0 without pixels.
    expected = np.exp([-3.0, -1.0, 0.0])
    found = class_probabilities(np.array([50, 30, 20, 0]))
    assert found[:3] == pytest.approx(expected / expected.sum())
    assert found[3] == 0
    assert Counter(class_probabilities(np.array([7, 0])).tolist()) == {1.0: 1, 0.0: 1}


def ids_of(pair: Pair) -> np.ndarray | None:
    return {
        "a": np.array([[7, 7], [8, 0]], np.uint8),  # road, road, pavement, ignored
        "b": np.array([[26, 7]], np.uint8),  # car, road
        "c": None,
    }[pair.name]


def test_pixel_counts_by_hand():
    labels = load_labels("cityscapes")
    pairs = [Pair(Path(name), Path(name), name) for name in "abc"]
    found = pixels_by_image(pairs, labels, ids_of)
    assert found.dtype == np.int64
    assert found.sum(axis=1).tolist() == [3, 2, 0]
    assert found[0, :2].tolist() == [2, 1]
    assert found[1, 13] == 1
    assert found.sum(axis=0)[:2].tolist() == [3, 1]


def test_pixel_counts_know_the_table_of_a_pair():
    pair = Pair(Path("a"), Path("a"), "a", "cityscapes_trainids")
    ids = np.array([[0, 13, 255]], np.uint8)
    found = pixels_by_image([pair], load_labels("cityscapes"), lambda _: ids)
    assert np.flatnonzero(found[0]).tolist() == [0, 13]


def test_masks_without_a_class():
    pairs = [Pair(Path("c"), None, "c")]
    with pytest.raises(DataError, match=r"None of the 1 masks holds .* Check that data\.labels"):
        pixels_by_image(pairs, load_labels("cityscapes"), ids_of)

"""Percentiles, paired ratios and exponents: cases worked by hand, and numpy's own answers."""

import numpy as np
import pytest

from hrseg.benchmark.ratios import exponent, paired_ratio, percentile
from hrseg.errors import ConfigError


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.9, 0.99, 1])
def test_percentiles_are_numpys(share):
    values = list(np.random.default_rng(3).random(17))
    assert percentile(values, share) == pytest.approx(np.quantile(values, share), abs=1e-9)


def test_percentile_of_one_value_is_that_value():
    assert percentile([3.0], 0.99) == 3.0


def test_a_load_that_comes_and_goes_does_not_move_a_paired_ratio():
    quick = [1.0, 1.0, 9.0, 1.0, 5.0]  # a busy machine in the third and fifth round
    slow = [2.0, 2.0, 18.0, 2.0, 10.0]
    ratio = paired_ratio(slow, quick)
    assert (ratio.median, ratio.low, ratio.high, ratio.pairs) == (2.0, 2.0, 2.0, 5)


def test_the_interval_holds_the_median_and_widens_with_its_level():
    first = np.random.default_rng(0).normal(2, 0.3, 40)
    narrow = paired_ratio(first, np.ones(40), level=0.5)
    wide = paired_ratio(first, np.ones(40), level=0.99)
    assert wide.low < narrow.low <= narrow.median <= narrow.high < wide.high
    assert narrow.median == np.median(first)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    draws = np.random.default_rng(1)
    hits = 0
    for seed in range(100):
        ratio = paired_ratio(
            draws.lognormal(0.0, 0.2, 25), np.ones(25), level=0.9, resamples=400, seed=seed
        )
        hits += ratio.low <= 1.0 <= ratio.high
    assert 80 <= hits <= 99


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_exponent_of_a_power(power):
    sizes = [0.5, 1, 4, 64]
    assert exponent(sizes, [7 * size**power for size in sizes]) == pytest.approx(power)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: percentile([], 0.5),
        lambda: percentile([1.0], 1.5),
        lambda: paired_ratio([1.0], [1.0, 2.0]),
        lambda: paired_ratio([], []),
        lambda: paired_ratio([0.0], [1.0]),
        lambda: exponent([1, 1], [2, 3]),
        lambda: exponent([1, 2], [0, 3]),
    ],
)
def test_what_has_no_answer_is_refused(wrong):
    with pytest.raises(ConfigError):
        wrong()

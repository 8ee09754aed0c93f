"""Rows, paired ratios and what is printed of them: cases worked by hand."""

import numpy as np
import pytest

from hrseg.benchmark.results import (
    Comparison,
    Machine,
    Ratio,
    Report,
    Row,
    paired_ratio,
    summarize,
)
from hrseg.errors import ConfigError

MACHINE = Machine("a processor", "cpu", 2, {"torch": "2"})


def row(memory: int | None = 3_000_000) -> Row:
    return summarize(("a", "fp32"), (2, 100, 200), 1.0, [0.5, 0.25, 0.25], memory)


def test_what_follows_from_times():
    one = row().against(10**9, 16e9)
    assert one.seconds == pytest.approx({"p50": 0.25, "p90": 0.45, "p99": 0.495})
    assert one.images_per_second == 6.0
    assert one.megapixels_per_second == pytest.approx(0.12)
    assert one.share_of_ceiling == 0.5  # 2e9 operations in 1/4 s are half of 16e9 a second


@pytest.mark.parametrize("known", [(10**9, None), (None, 16e9)])
def test_a_share_takes_a_count_and_a_ceiling(known):
    assert row().against(*known).share_of_ceiling is None


def test_what_is_not_known_is_a_question_mark():
    text = str(Report(MACHINE, "labels", (row(memory=None),)))
    assert text.splitlines()[-1].split()[-4:] == ["?", "?", "?", "3"]
    assert "Ceiling" not in text


def test_a_table_and_a_comparison_in_words():
    text = str(Report(MACHINE, "labels", (row().against(10**9, 16e9),)))
    assert text.startswith("a processor, 2 threads; torch 2\nTimed: uint8 images in")
    assert "Ceiling, one matrix product: 16.0 GFLOP/s in fp32." in text
    assert text.splitlines()[-1].split()[:4] == ["a", "100x200", "2", "fp32"]
    assert "50 %" in text
    told = str(
        Comparison(
            *(MACHINE, "head", 8, 8, 1, ("a, fp32", "b, bf16"), (0.2, 0.1)),
            *(Ratio(2, 1.9, 2.1, 9), 0.5),
        )
    )
    assert "A takes 2.00 x the time of B, 95 % interval 1.90 to 2.10, 9 pairs in turns." in told
    assert "50.000 % of the pixels get the same class." in told


def test_a_load_that_comes_and_goes_does_not_move_a_paired_ratio():
    quick = [1.0, 1.0, 9.0, 1.0, 5.0]  # a busy machine in the third and fifth round
    slow = [2.0, 2.0, 18.0, 2.0, 10.0]
    assert paired_ratio(slow, quick) == Ratio(2.0, 2.0, 2.0, 5)


def test_the_interval_holds_the_median():
    first = np.random.default_rng(0).normal(2, 0.3, 40).tolist()
    ratio = paired_ratio(first, [1.0] * 40)
    assert ratio.low < ratio.median < ratio.high
    assert ratio.median == np.median(first)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    draws, hits = np.random.default_rng(1), 0
    for _ in range(100):
        ratio = paired_ratio(draws.lognormal(0.0, 0.2, 25).tolist(), [1.0] * 25)
        hits += ratio.low <= 1.0 <= ratio.high
    assert 86 <= hits <= 99


@pytest.mark.parametrize("times", [([1.0], [1.0, 2.0]), ([], []), ([0.0], [1.0])])
def test_what_has_no_ratio_is_refused(times):
    with pytest.raises(ConfigError):
        paired_ratio(*times)

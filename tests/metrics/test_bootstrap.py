import numpy as np
import pytest

from hrseg.errors import DataError
from hrseg.metrics.bootstrap import compare, format_table, interval, interval_text, pair, table
from hrseg.metrics.records import ImageRecords
from tools.interval_coverage import Set, coverage


def ledger(quality, name="m", seed=0, images=40):
    """Images of 200 pixels, 100 of each class, of which each model finds about a share."""
    draw = np.random.default_rng(seed)
    hits = draw.binomial(100, quality, size=(images, 2))
    matrices = np.zeros((images, 2, 2), dtype=np.int64)
    matrices[:, 0, 0], matrices[:, 0, 1] = hits[:, 0], 100 - hits[:, 0]
    matrices[:, 1, 1], matrices[:, 1, 0] = hits[:, 1], 100 - hits[:, 1]
    return ImageRecords(tuple(f"{i:03}" for i in range(images)), ("x", "y"), matrices, name)


def test_a_model_equals_itself():
    result = compare(ledger(0.8), ledger(0.8))
    assert (result.miou, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_a_real_difference_is_clear_and_a_small_one_is_not():
    clear = compare(ledger(0.9, seed=1), ledger(0.8, seed=2))
    assert 0 < clear.low < clear.miou < clear.high
    assert clear.p < 0.01
    small = compare(ledger(0.8, seed=1), ledger(0.8, seed=2))
    assert small.low < 0 < small.high


def test_the_interval_has_the_width_that_theory_gives():
    # Pixel accuracy of n images of variance s² has a standard error s / sqrt(n). Here both classes are equally
    # large and IoU ≈ a / (2 - a), so its slope at accuracy a is 2 / (2 - a)².
    one = ledger(0.8, images=400)
    hits = np.diagonal(one.matrices, axis1=1, axis2=2).sum(axis=1) / 200
    error = hits.std() / np.sqrt(400) * 2 / (2 - hits.mean()) ** 2
    low, high = interval(one, draws=4000)
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.1)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    truth = 0.8 / 1.2  # IoU where both classes are found with 0.8
    inside = [
        low <= truth <= high for low, high in (interval(ledger(0.8, seed=seed), draws=300) for seed in range(200))
    ]
    assert 0.88 <= np.mean(inside) <= 0.99


@pytest.mark.slow
def test_rare_classes_and_few_images_do_not_make_it_too_narrow():
    # percentiles of the draws hold the truth in 86 % of such sets
    held, different = coverage(Set(19, 0.05), 20, repetitions=300, draws=300, skill=2.2)
    assert 0.9 <= held <= 0.99
    assert 0.01 <= different <= 0.1


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_handful_of_images_carries_no_claim(images):
    one, other = ledger(0.9, "a", seed=1, images=images), ledger(0.7, "b", seed=2, images=images)
    rows = table([one, other])
    assert rows[1]["p"] > 0.05
    assert rows[1]["difference_low"] < 0 < rows[1]["difference_high"]
    assert rows[1]["enough_images"] is False
    assert f"{images} image{'s' * (images > 1)}: too few for a claim" in format_table(rows)
    assert "too few" in interval_text(0.1, 0.2, images)
    assert "too few" not in format_table(table([ledger(0.9), ledger(0.8)]))


def test_images_without_a_label_say_nothing():
    one = ledger(0.8, images=30)
    empty = np.concatenate([one.matrices, np.zeros_like(one.matrices)])
    more = ImageRecords(tuple(map(str, range(60))), one.classes, empty)
    assert interval(more) == interval(one)
    with pytest.raises(DataError, match="not one pixel of the masks has a class"):
        interval(ImageRecords(one.names, one.classes, np.zeros_like(one.matrices)))


def test_only_common_images_count():
    whole = ledger(0.8, images=10)
    some = whole.take(["003", "001"])
    one, other = pair(whole, some)
    assert one.names == other.names == ("001", "003")


def test_what_cannot_be_compared_is_refused():
    one = ledger(0.8, images=3)
    with pytest.raises(DataError, match="other classes"):
        compare(one, ImageRecords(one.names, ("x", "z"), one.matrices))
    with pytest.raises(DataError, match="different images"):
        compare(one, ImageRecords(("p", "q", "r"), one.classes, one.matrices))
    with pytest.raises(DataError, match="other masks"):
        compare(one, ImageRecords(one.names, one.classes, one.matrices * 2))


def test_the_table_compares_with_the_first():
    rows = table([ledger(0.8, "a"), ledger(0.9, "b", seed=1)], draws=200)
    assert [row["model"] for row in rows] == ["a", "b"]
    assert "difference" not in rows[0]
    assert rows[1]["difference"] == pytest.approx(rows[1]["miou"] - rows[0]["miou"])
    assert set(rows[1]["classes"]) == {"x", "y"}

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from hrseg.errors import ConfigError, DataError
from hrseg.metrics.calibration import (
    BINS,
    bin_counts,
    calibration_error,
    fit_temperature,
    merge_bins,
    nll,
    reliability,
    scale_temperature,
)


def honest(count, classes=5, seed=0, spread=2.0):
    """Logits whose softmax is the truth: each class is drawn with its own probability."""
    draw = np.random.default_rng(seed)
    logits = spread * draw.standard_normal((count, classes))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (chances.cumsum(axis=1) > draw.random((count, 1))).argmax(axis=1)
    return logits, truth


def test_bins_by_hand():
    confidence = np.array([0.95, 0.85, 0.55, 0.52])
    counts = bin_counts(confidence, np.array([1, 0, 1, 0], bool), 2)
    assert counts[1].tolist() == pytest.approx([4, 2.87, 2])
    ten = bin_counts(confidence, np.array([1, 0, 1, 0], bool), 10)
    # gaps: |0.95 - 1|, |0.85 - 0| of one pixel each, and |1.07 - 1| of two
    assert calibration_error(ten) == pytest.approx((0.05 + 0.85 + 0.07) / 4)


@pytest.mark.parametrize("bins", [10, 15, 20])
def test_error_equals_torchmetrics(bins):
    logits, truth = honest(4000, seed=bins)
    chances = torch.from_numpy(2 * logits).softmax(dim=1)
    theirs = multiclass_calibration_error(chances, torch.from_numpy(truth), num_classes=5, n_bins=bins, norm="l1")
    ours = calibration_error(merge_bins(reliability(2 * logits, truth), bins))
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_merged_bins_are_the_bins_counted_coarsely():
    logits, truth = honest(500)
    assert np.allclose(merge_bins(reliability(logits, truth)), reliability(logits, truth, 1, BINS))
    with pytest.raises(ConfigError, match="Choose of"):
        merge_bins(np.zeros((60, 3)), 7)


def test_nll_equals_cross_entropy():
    logits, truth = honest(50)
    theirs = torch.nn.functional.cross_entropy(torch.from_numpy(logits) / 1.7, torch.from_numpy(truth))
    assert nll(logits, truth, 1.7) == pytest.approx(float(theirs))


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5, 8.0])
def test_the_scale_of_honest_logits_is_found_again(scale):
    logits, truth = honest(40_000)
    assert fit_temperature(scale * logits, truth) == pytest.approx(scale, rel=0.02)


def test_no_other_temperature_is_more_likely():
    logits, truth = honest(2000, seed=3)
    best = fit_temperature(3 * logits, truth)
    around = [nll(3 * logits, truth, best * factor) for factor in (0.97, 0.999, 1.001, 1.03)]
    assert nll(3 * logits, truth, best) < min(around)


def test_logits_that_are_always_right_or_always_wrong_have_an_end():
    right = np.eye(3)[[0, 1, 2, 1]]
    for gap in (0.01, 1, 5, 30, 800):
        assert fit_temperature(gap * right, right.argmax(axis=1)) == 0.01  # the colder the better
        assert fit_temperature(-gap * right, right.argmax(axis=1)) == 100
    with pytest.raises(DataError, match="No labeled pixel"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


@pytest.mark.parametrize("value", [0.0, -7.5, 1e4])
def test_logits_that_are_alike_for_all_classes_keep_their_temperature(value):
    assert fit_temperature(np.full((4, 3), value), np.array([0, 1, 2, 0])) == 1


def test_mending_is_measured_on_the_other_half():
    logits, truth = honest(30_000)
    image = np.arange(len(truth)) // 100
    mending = scale_temperature(4 * logits, truth, image)
    assert mending.temperature == pytest.approx(4, rel=0.03)
    assert mending.halves == pytest.approx((4, 4), rel=0.05)
    assert mending.nll_after < mending.nll_before
    assert mending.ece_after < 0.02 < mending.ece_before
    # a half that is honest as it is gains nothing from the other half's temperature
    mixed = np.where((image % 2 == 0)[:, None], 4 * logits, logits)
    assert scale_temperature(mixed, truth, image).nll_after > nll(mixed, truth)

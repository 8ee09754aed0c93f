import math

import pytest
import torch
import torch.nn.functional as F

from hrseg.errors import ConfigError, DataError
from hrseg.losses import CITYSCAPES_WEIGHTS, WeightedSum, class_weights_from_counts
from hrseg.losses.terms import cross_entropy, dice, focal, ohem
from tests.losses.test_terms import batch


def test_weighted_sum_adds_factor_times_term():
    logits, mask = batch()
    found = WeightedSum({"cross_entropy": 0.5, "dice": 2.0, "lovasz": 0.0})(logits, mask)
    torch.testing.assert_close(found, 0.5 * cross_entropy(logits, mask) + 2 * dice(logits, mask))


def test_no_terms_means_cross_entropy():
    logits, mask = batch()
    assert torch.equal(WeightedSum({})(logits, mask), WeightedSum({"cross_entropy": 1.0})(logits, mask))


def test_settings_reach_their_terms():
    logits, mask = batch()
    weights = torch.tensor([0.2, 1.0, 0.5, 3.0, 0.7])
    loss = WeightedSum(
        {"ohem": 1.0, "focal": 1.0},
        class_weights=weights,
        ohem_threshold=0.3,
        ohem_min_kept=7,
        focal_gamma=3.0,
    )
    expected = ohem(logits, mask, class_weights=weights, threshold=0.3, min_kept=7)
    expected = expected + focal(logits, mask, class_weights=weights, gamma=3.0)
    torch.testing.assert_close(loss(logits, mask), expected)


@pytest.mark.parametrize(("resize", "aligned"), [("bilinear", False), ("bilinear_aligned", True), ("nearest", False)])
def test_total_resizes_by_policy_and_adds_plain_cross_entropy_on_aux(resize, aligned):
    _, mask = batch()
    main, aux = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    loss = WeightedSum({"ohem": 1.0}, ohem_min_kept=5, aux_weight=0.4)
    large = [F.interpolate(x, (9, 13), mode="bilinear", align_corners=aligned) for x in (main, aux)]
    aux_loss = cross_entropy(large[1], mask, average="all")  # as the official code reduces it
    expected = ohem(large[0], mask, min_kept=5) + 0.4 * aux_loss
    torch.testing.assert_close(loss.total({"main": main, "aux": aux}, mask, resize), expected)


def test_total_without_aux_is_the_main_loss():
    logits, mask = batch()
    loss = WeightedSum({"dice": 1.0})
    assert torch.equal(loss.total({"main": logits}, mask), loss(logits, mask))


def test_class_weights_move_with_the_module_and_stay_out_of_checkpoints():
    loss = WeightedSum(class_weights=torch.ones(5))
    assert not loss.state_dict()
    assert loss.to("meta").class_weights.device.type == "meta"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"terms": {"lovas": 1.0}}, "Unknown loss 'lovas'.*Did you mean 'lovasz'"),
        ({"terms": {"dice": -1.0}}, "loss.terms.dice is -1.0"),
        ({"terms": {"dice": 0.0}}, "All loss factors are 0"),
        ({"terms": {"dice": float("nan")}}, "loss.terms.dice is nan"),
        (
            {"ohem_threshold": 1.5},
            "loss.ohem_threshold is 1.5. Right would be a number from 0 to 1",
        ),
        ({"ohem_min_kept": -1}, "loss.ohem_min_kept is -1"),
        ({"focal_gamma": -2.0}, "loss.focal_gamma is -2.0"),
        ({"class_weights": torch.tensor([1.0, -1.0])}, "not usable"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        WeightedSum(**settings)


def test_trainid_that_is_no_class_is_named():
    logits, mask = batch()
    mask[0, 0, 0] = 40
    with pytest.raises(DataError, match="holds 40; trainIds are 0 to 4 and 255 to ignore"):
        WeightedSum()(logits, mask)


def test_logits_of_another_size_are_refused():
    logits, mask = batch()
    with pytest.raises(DataError, match="do not match"):
        WeightedSum()(logits[..., :4, :4], mask)


def test_class_weights_of_another_length_are_refused():
    with pytest.raises(DataError, match="3 class weights for 5 classes"):
        WeightedSum(class_weights=torch.ones(3))(*batch())


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("none", [1, 1, 1, 1]),
        ("inverse", [1 / (3 * 0.5), 1 / (3 * 0.4), 1 / (3 * 0.1), 1 / (3 * 0.1)]),
        ("median_frequency", [0.8, 1.0, 4.0, 4.0]),
        ("enet", [1 / math.log(1.52), 1 / math.log(1.42), 1 / math.log(1.12), 1 / math.log(1.12)]),
    ],
)
def test_class_weights_by_hand_and_unseen_class_as_the_rarest(formula, expected):
    weights = class_weights_from_counts(torch.tensor([50, 40, 10, 0]), formula)
    assert weights.tolist() == pytest.approx(expected)
    assert weights.dtype == torch.float32


def test_official_weights_are_cityscapes_only():
    weights = class_weights_from_counts(torch.ones(19), "official")
    assert weights.tolist() == pytest.approx(CITYSCAPES_WEIGHTS)
    with pytest.raises(ConfigError, match="these data have 11"):
        class_weights_from_counts(torch.ones(11), "official")


def test_class_weights_need_a_known_formula_and_a_pixel():
    with pytest.raises(ConfigError, match="Did you mean 'inverse'"):
        class_weights_from_counts(torch.ones(3), "invers")
    with pytest.raises(DataError, match="No pixel of any class"):
        class_weights_from_counts(torch.zeros(3), "inverse")

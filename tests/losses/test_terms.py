import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hrseg.errors import ConfigError
from hrseg.losses import WeightedSum
from hrseg.losses.terms import LOSSES, cross_entropy, dice, focal, lovasz, ohem

NAMES = sorted(LOSSES)
EVERY_TERM = dict.fromkeys(NAMES, 0.5)


def batch(classes: int = 5, ignored: float = 0.2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (2, K, 9, 13) and a mask with a share of ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 9, 13, generator=generator)
    mask = torch.randint(0, classes, (2, 9, 13), generator=generator)
    mask[torch.rand(2, 9, 13, generator=generator) < ignored] = 255
    return logits, mask


def two_pixels(first: float, second: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and mask of two pixels of class 0 that have these probabilities of being it."""
    odds = [[math.log(p / (1 - p)) for p in (first, second)], [0.0, 0.0]]
    return torch.tensor(odds).reshape(1, 2, 1, 2), torch.zeros(1, 1, 2, dtype=torch.long)


# cross-entropy


def test_cross_entropy_by_hand():
    assert cross_entropy(*two_pixels(0.5, 0.25)).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 0.0, 3.0, 0.7])])
def test_cross_entropy_is_torch_s(weights):
    logits, mask = batch()
    expected = F.cross_entropy(logits, mask, weight=weights, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, mask, class_weights=weights), expected)


def test_another_ignore_index_is_obeyed():
    logits, mask = batch(ignored=0)
    expected = F.cross_entropy(logits, mask, ignore_index=3)
    torch.testing.assert_close(cross_entropy(logits, mask, ignore_index=3), expected)


# OHEM


def numpy_ohem(logits, mask, weights, threshold, min_kept):
    """Return the official rule, pixel by pixel."""
    exponents = np.exp(logits.double().numpy())
    probability = exponents / exponents.sum(axis=1, keepdims=True)
    hard = []
    for n, y, x in zip(*np.nonzero(mask.numpy() != 255), strict=True):
        true = int(mask[n, y, x])
        hard.append((probability[n, true, y, x], -weights[true] * np.log(probability[n, true, y, x])))
    hard.sort()
    limit = max(threshold, hard[min(min_kept, len(hard) - 1)][0])
    return np.mean([loss for p, loss in hard if p < limit])


@pytest.mark.parametrize("min_kept", [3, 40, 131072])
@pytest.mark.parametrize("threshold", [0.05, 0.7, 0.9])
@pytest.mark.parametrize("weights", [[1.0] * 5, [0.2, 1.0, 0.5, 3.0, 0.7]])
def test_ohem_is_the_official_rule(min_kept, threshold, weights):
    logits, mask = batch()
    found = ohem(logits, mask, class_weights=torch.tensor(weights), threshold=threshold, min_kept=min_kept)
    assert found.item() == pytest.approx(numpy_ohem(logits, mask, weights, threshold, min_kept), rel=1e-5)


def test_ohem_keeps_the_pixel_below_the_threshold():
    assert ohem(*two_pixels(0.95, 0.25), threshold=0.9, min_kept=0).item() == pytest.approx(math.log(4))


def test_ohem_min_kept_up_to_one_is_a_share_of_the_valid_pixels():
    logits, mask = batch()
    pixels = int((mask != 255).sum())
    share = ohem(logits, mask, threshold=0.0, min_kept=0.25)
    assert share == ohem(logits, mask, threshold=0.0, min_kept=int(0.25 * pixels))


def test_ohem_without_a_hard_pixel_is_zero():
    logits, mask = two_pixels(0.99, 0.99)
    assert ohem(logits.requires_grad_(), mask, threshold=0.9, min_kept=1).item() == 0


# Dice, Lovász, focal


@pytest.mark.parametrize("absent", [False, True])
def test_dice_is_smp_s(absent):
    from segmentation_models_pytorch.losses import DiceLoss

    logits, mask = batch()
    if absent:
        mask[mask == 2] = 255
    expected = DiceLoss(mode="multiclass", ignore_index=255)(logits, mask)
    torch.testing.assert_close(dice(logits, mask), expected)


def test_dice_by_hand():
    # overlap 0.5 + 0.25, probabilities of class 0 0.75 in sum, two pixels; class 1 has none and adds 0
    assert dice(*two_pixels(0.5, 0.25)).item() == pytest.approx((1 - 2 * 0.75 / 2.75) / 2)


@pytest.mark.parametrize("absent", [False, True])
def test_lovasz_is_smp_s_in_value_and_gradient(absent):
    # The function, not LovaszLoss: the class takes logits in some releases and probabilities in others.
    from segmentation_models_pytorch.losses.lovasz import _lovasz_softmax

    logits, mask = batch()
    if absent:
        mask[mask == 2] = 255
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = lovasz(ours, mask)
    expected = _lovasz_softmax(theirs.softmax(dim=1), mask, ignore=255)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_lovasz_of_hard_predictions_is_one_minus_the_mean_iou():
    pred = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    mask = torch.tensor([[[0, 1, 1, 1, 2, 0]]])
    logits = 100 * F.one_hot(pred, 3).movedim(-1, 1).float()
    # IoU by hand: 1/3, 2/3, 1/2
    assert lovasz(logits, mask).item() == pytest.approx(1 - (1 / 3 + 2 / 3 + 1 / 2) / 3)


def test_focal_by_hand():
    expected = (0.5**2 * math.log(2) + 0.75**2 * math.log(4)) / 2
    assert focal(*two_pixels(0.5, 0.25), gamma=2.0).item() == pytest.approx(expected)


def test_focal_with_gamma_zero_is_cross_entropy():
    logits, mask = batch()
    weights = torch.tensor([0.2, 1.0, 0.5, 3.0, 0.7])
    torch.testing.assert_close(
        focal(logits, mask, class_weights=weights, gamma=0.0),
        cross_entropy(logits, mask, class_weights=weights),
    )


# What holds for all of them


@pytest.mark.parametrize("terms", [*({name: 1.0} for name in NAMES), EVERY_TERM], ids=str)
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 0.0, 3.0, 0.7])], ids=["plain", "weighted"])
def test_batch_of_ignored_pixels_gives_zero_and_zero_gradients(terms, weights):
    logits, mask = batch(ignored=1.0)
    logits.requires_grad_()
    outputs = {"main": logits, "aux": logits}
    loss = WeightedSum(terms, class_weights=weights).total(outputs, mask)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_have_no_say(name):
    logits, mask = batch()
    other = logits.clone()
    other.movedim(1, -1)[mask == 255] += 5 * torch.randn(5)
    loss = WeightedSum({name: 1.0})
    torch.testing.assert_close(loss(logits, mask), loss(other, mask))


@pytest.mark.parametrize("name", NAMES)
def test_right_logits_cost_nothing_and_wrong_ones_do(name):
    _, mask = batch(ignored=0)
    right = 200 * F.one_hot(mask, 5).movedim(-1, 1).float()
    loss = WeightedSum({name: 1.0})
    assert loss(right, mask).item() == pytest.approx(0, abs=1e-6)
    assert loss(right.roll(1, dims=1), mask).item() > 0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(name, dtype):
    logits, mask = batch()
    logits = logits.to(dtype)
    loss = WeightedSum({name: 1.0})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(logits, mask)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(logits.float(), mask))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_finite(name, scale, gamma):
    logits, mask = batch()
    logits = (scale * logits).requires_grad_()
    WeightedSum({name: 1.0}, focal_gamma=gamma)(logits, mask).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_down_the_gradient_lowers_the_loss(name):
    logits, mask = batch()
    logits.requires_grad_()
    loss = WeightedSum({name: 1.0})
    before = loss(logits, mask)
    before.backward()
    assert loss(logits - 0.1 * logits.grad / logits.grad.norm(), mask) < before


@pytest.mark.parametrize("name", NAMES)
def test_masks_may_be_bytes(name):
    logits, mask = batch()
    loss = WeightedSum({name: 1.0})
    assert torch.equal(loss(logits, mask.byte()), loss(logits, mask))


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_cuda_repeats_itself_bit_for_bit_and_agrees_with_the_cpu(name):
    logits, mask = batch()
    loss = WeightedSum({name: 1.0}, class_weights=torch.rand(5)).cuda()
    results = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            leaf = logits.cuda().requires_grad_()
            value = loss(leaf, mask.cuda())
            value.backward()
            results.append((value.detach(), leaf.grad))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][0].cpu(), loss.cpu()(logits, mask))


def test_average_over_all_pixels_lets_ignored_ones_dilute_the_loss() -> None:
    """By hand: one pixel of log 2, one ignored. valid: log 2; all: log 2 / 2, whatever the class weights."""
    logits, mask = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 255]]])
    log2 = torch.tensor(2.0).log()
    assert torch.isclose(WeightedSum()(logits, mask), log2)
    assert torch.isclose(WeightedSum(average="all")(logits, mask), log2 / 2)
    weighted = WeightedSum(average="all", class_weights=torch.tensor([3.0, 1.0]))
    assert torch.isclose(weighted(logits, mask), 3 * log2 / 2)
    both = WeightedSum(average="all").total({"main": logits, "aux": logits}, mask)
    assert torch.isclose(both, 1.4 * log2 / 2)
    with pytest.raises(ConfigError, match="Unknown loss average 'some'"):
        WeightedSum(average="some")


def test_ohem_beside_an_auxiliary_output_is_reduced_as_the_official_code_does():
    """OhemCrossEntropy returns a scalar for the main output and a map for the other; the loop takes the map's mean."""
    logits, mask = batch()
    aux = torch.randn_like(logits)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5])
    loss = WeightedSum({"ohem": 1.0}, ohem_min_kept=5, aux_weight=0.4, class_weights=weights)
    pixels = F.cross_entropy(aux, mask, weight=weights, ignore_index=255, reduction="none")
    assert (mask == 255).any()
    expected = loss(logits, mask) + 0.4 * pixels.mean()
    torch.testing.assert_close(loss.total({"main": logits, "aux": aux}, mask), expected)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_ohem_over_all_pixels_is_the_sampler_of_mmsegmentation(threshold):
    """The k hardest pixels, or more below the threshold, weigh 1 and all others 0, in a mean over all pixels."""
    logits, mask = batch()
    kept = 12
    pixels = F.cross_entropy(logits, mask, ignore_index=255, reduction="none")
    probability = logits.softmax(1).gather(1, mask.clamp(max=4).unsqueeze(1))[:, 0]
    hardest = probability[mask != 255].sort().values
    limit = max(float(hardest[kept]), threshold)
    weights = (probability < limit) & (mask != 255)
    assert threshold or int(weights.sum()) == kept
    expected = (pixels * weights).sum() / mask.numel()
    torch.testing.assert_close(ohem(logits, mask, threshold=threshold, min_kept=kept, average="all"), expected)

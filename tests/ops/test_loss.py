"""The loss in blocks of rows against the loss of enlarged logits, value and gradient."""

import pytest
import torch
import torch.nn.functional as F

from hrseg.losses import WeightedSum
from hrseg.ops import enlarge as module
from hrseg.ops import loss as loss_module
from hrseg.ops.loss import upsampled_nll


@pytest.fixture(autouse=True, params=["kept", "again"])
def _small_blocks(monkeypatch, request):
    """Several blocks, kept for the backward pass or enlarged again."""
    monkeypatch.setitem(module.BUDGET, "cpu", 2**14)
    if request.param == "again":
        monkeypatch.setattr(loss_module, "MAX_KEPT", 0)


def pair(size, classes=7, ignored=0.2):
    logits = torch.randn(2, classes, -(-size[0] // 4), -(-size[1] // 4)) * 3
    mask = torch.randint(0, classes, (2, *size))
    mask[torch.rand(mask.shape) < ignored] = 255
    return logits.requires_grad_(), mask


def plain_total(loss, logits, mask, resize):
    aligned = resize == "bilinear_aligned"
    large = F.interpolate(logits, mask.shape[-2:], mode="bilinear", align_corners=aligned)
    return loss(large, mask)


WEIGHTS = torch.tensor([0.5, 1, 2, 1, 0, 3, 1])
LOSSES = [
    {},
    {"class_weights": WEIGHTS},
    {"average": "all", "class_weights": WEIGHTS},
    {"terms": {"ohem": 1.0}, "ohem_min_kept": 400, "ohem_threshold": 0.3},
    {"terms": {"ohem": 1.0}, "ohem_min_kept": 0.25, "class_weights": WEIGHTS},
    {"terms": {"cross_entropy": 0.3, "ohem": 1.0, "focal": 0.5}, "ohem_min_kept": 100},
]


@pytest.mark.parametrize("resize", ["bilinear", "bilinear_aligned", "nearest"])
@pytest.mark.parametrize("size", [(64, 48), (61, 50), (16, 17)])
@pytest.mark.parametrize("options", LOSSES)
def test_the_loss_and_its_gradient_are_those_of_enlarged_logits(options, size, resize):
    loss = WeightedSum(**options)
    logits, mask = pair(size)
    plain = plain_total(loss, logits, mask, resize)
    (expected,) = torch.autograd.grad(plain, logits)
    blocked = loss.total({"main": logits}, mask, resize)
    (found,) = torch.autograd.grad(blocked, logits)
    assert blocked.item() == pytest.approx(plain.item(), rel=1e-6)
    assert (found - expected).abs().max() <= 1e-6 * max(1e-3, expected.abs().max())


def test_auxiliary_logits_too():
    loss = WeightedSum({"ohem": 1.0}, ohem_min_kept=50, aux_weight=0.4)
    logits, mask = pair((33, 40))
    aux = torch.randn_like(logits).requires_grad_()
    # beside OHEM the auxiliary cross-entropy is a mean over all pixels, as in the official code
    expected = plain_total(loss, logits, mask, "bilinear") + 0.4 * plain_total(
        WeightedSum(average="all"), aux, mask, "bilinear"
    )
    total = loss.total({"main": logits, "aux": aux}, mask)
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, two in zip(
        torch.autograd.grad(total, [logits, aux]),
        torch.autograd.grad(expected, [logits, aux]),
        strict=True,
    ):
        assert torch.allclose(one, two, atol=1e-8)


def test_nothing_but_ignored_pixels_gives_zero_and_zero_gradients():
    logits, mask = pair((20, 20), ignored=2)
    for terms in ({"cross_entropy": 1.0}, {"ohem": 1.0}):
        total = WeightedSum(terms).total({"main": logits}, mask)
        (gradient,) = torch.autograd.grad(total, logits)
        assert total.item() == 0
        assert not gradient.any()


def test_half_precision_logits_get_their_gradient_in_half_precision():
    logits, mask = pair((32, 32))
    half = logits.detach().bfloat16().requires_grad_()
    nll = upsampled_nll(half, mask)
    nll.sum().backward()
    assert (nll.dtype, half.grad.dtype) == (torch.float32, torch.bfloat16)


def test_losses_that_read_all_classes_still_enlarge():
    logits, mask = pair((32, 32))
    loss = WeightedSum({"cross_entropy": 1.0, "dice": 1.0})
    expected = plain_total(loss, logits, mask, "bilinear")
    assert loss.total({"main": logits}, mask).item() == pytest.approx(expected.item(), rel=1e-6)


def test_wrong_trainids_are_named_as_before():
    logits, mask = pair((32, 32))
    mask[0, 0, 0] = 9
    with pytest.raises(ValueError, match="The mask holds 9"):
        WeightedSum().total({"main": logits}, mask)


def test_enlarged_logits_are_kept_up_to_a_size(monkeypatch):
    logits, mask = pair((64, 64))
    monkeypatch.setattr(loss_module, "MAX_KEPT", 2 * 7 * 64 * 64 * 4)
    assert sum(block.large.numel() for block in upsampled_nll(logits, mask).grad_fn.kept) == 2 * 7 * 64 * 64
    logits, mask = pair((65, 64))
    assert upsampled_nll(logits, mask).grad_fn.kept is None


def test_no_more_than_that_is_kept(monkeypatch):
    monkeypatch.setattr(loss_module, "MAX_KEPT", 0)
    logits, mask = pair((64, 64))
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x.numel()), x)[1], lambda x: x)
    with hooks:
        WeightedSum().total({"main": logits}, mask)
    assert max(kept) <= mask.numel() < 7 * mask.numel()

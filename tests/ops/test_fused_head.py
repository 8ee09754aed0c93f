"""The head's forms against the plain one, forward and gradient."""

import copy

import pytest
import torch

from hrseg.errors import ConfigError
from hrseg.models import create_model
from hrseg.models.heads import HeadV2
from hrseg.ops import fused_head as module
from hrseg.ops.fused_head import choose, using

POLICIES = ["bilinear", "bilinear_aligned", "bilinear_scaled"]
SIZES = [(24, 16), (25, 33), (1, 2)]


def head_of(width, policy="bilinear", classes=5):
    head = HeadV2([width * 2**i for i in range(4)], classes, policy)
    norm = head.last_layer[1]
    torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    torch.nn.init.uniform_(norm.bias, -1, 1)
    return head


def branches_of(width, size, count=2):
    sizes = [[-(-side // 2**i) for side in size] for i in range(4)]
    return [torch.randn(count, width * 2**i, *sizes[i]) for i in range(4)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [16, 18, 48])
@pytest.mark.parametrize("form", ["summed", "rows"])
def test_every_form_gives_the_plain_logits(monkeypatch, form, width, size, policy):
    monkeypatch.setattr(module, "BLOCK_BYTES", 0)
    head, branches = head_of(width, policy).eval(), branches_of(width, size)
    with torch.no_grad():
        with using("plain"):
            plain = head(branches)["main"]
        with using(form):
            assert choose(branches, head.last_layer, policy) == form
            other = head(branches)["main"]
    assert other.shape == plain.shape
    assert (other - plain).abs().max() < 1e-5 * max(1, plain.abs().max())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("width", [16, 18, 48])
@pytest.mark.parametrize("training", [True, False])
def test_the_summed_form_has_the_plain_gradients(width, policy, training):
    torch.manual_seed(1)
    head = head_of(width, policy).double().train(training)
    branches = [x.double().requires_grad_() for x in branches_of(width, (9, 7))]
    weights = torch.randn(2, 5, 9, 7, dtype=torch.float64)
    found = {}
    for form in ("plain", "summed"):
        twin = copy.deepcopy(head)
        with using(form):
            loss = (twin(branches)["main"] * weights).sum()
        found[form] = torch.autograd.grad(loss, [*branches, *twin.parameters()])
    for plain, other in zip(*found.values(), strict=True):
        assert torch.allclose(plain, other, atol=1e-9)


def test_running_statistics_move_alike():
    plain, other = (copy.deepcopy(h) for h in [head_of(16)] * 2)
    branches = branches_of(16, (9, 7))
    with using("plain"):
        plain(branches)
    with using("summed"):
        other(branches)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value, other.state_dict()[key], atol=1e-5), key


def test_bf16_stays_close_to_fp32():
    head, branches = head_of(18).eval(), branches_of(18, (24, 16))
    with torch.no_grad(), using("plain"):
        exact = head(branches)["main"]
    half = copy.deepcopy(head)
    for layer in (half.last_layer[0], half.last_layer[3]):
        layer.to(torch.bfloat16)
    for form in ("summed", "rows"):
        with torch.no_grad(), using(form):
            logits = half([x.bfloat16() for x in branches])["main"]
        assert (logits.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_the_choice_is_plain_where_another_form_might_differ_or_is_watched():
    head, branches = head_of(16).eval(), branches_of(16, (8, 8))
    assert choose(branches, head.last_layer, "nearest") == "plain"
    meta = [x.to("meta") for x in branches]
    assert choose(meta, head.last_layer, "bilinear") == "plain"
    head.last_layer[1] = torch.nn.InstanceNorm2d(240)
    assert choose(branches, head.last_layer, "bilinear") == "plain"


def test_learning_sums_and_large_maps_at_inference_go_in_rows(monkeypatch):
    head, branches = head_of(16), branches_of(16, (8, 8))
    assert choose(branches, head.last_layer, "bilinear") == "summed"
    with torch.no_grad():
        assert choose(branches, head.eval().last_layer, "bilinear") == "summed"
        monkeypatch.setattr(module, "WHOLE_BYTES", 0)
        assert choose(branches, head.last_layer, "bilinear") == "rows"
        assert choose(branches, head.train().last_layer, "bilinear") == "summed"
    with using("rows"):  # has no gradients
        assert choose(branches, head.eval().last_layer, "bilinear") == "summed"


def test_checkpoints_know_nothing_of_forms():
    network = create_model("hrnet_w18_small_v1", num_classes=3)
    assert [k for k in network.state_dict() if k.startswith("head.")][:2] == [
        "head.last_layer.0.weight",
        "head.last_layer.0.bias",
    ]


def test_unknown_forms_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'summed'"), using("sumed"):
        pass

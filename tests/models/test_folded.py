"""The network rewritten for inference against the network itself."""

import copy

import pytest
import torch

from hrseg.models import create_model, folded
from hrseg.models.folded import FusedConv, rewrite

SMALL = "hrnet_w18_small_v1"


def lively(network):
    """Norms as training leaves them."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.2)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


@pytest.mark.parametrize("fused", [True, False], ids=["one pass", "step by step"])
@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("v2", {}),
        ("v2", {"resize": "bilinear_aligned"}),
        ("v2", {"resize": "nearest"}),
        ("v2", {"exchange": "final"}),
        ("v2", {"branches_from_start": True}),
        ("v2", {"input_scale": 1.5}),
        ("v1", {}),
        ("ocr", {}),
        ("c1", {"resize": "bilinear_scaled"}),
    ],
)
def test_the_rewritten_network_gives_the_same_logits(monkeypatch, head, options, fused):
    if not fused:
        monkeypatch.setattr(folded, "fused_operators", lambda: False)
    network = lively(create_model(SMALL, head, 3, **options))
    image = torch.randn(2, 3, 97, 70)
    with torch.no_grad():
        expected = network(image)
        twin = copy.deepcopy(network)
        assert rewrite(twin)
        logits = twin(image)
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()
    assert any(isinstance(module, FusedConv) for module in twin.modules())
    left = [name for name, m in twin.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not left or all(name.startswith("head.ocr_distri_head") for name in left)


@pytest.mark.parametrize("backbone", ["hrnet_w18_small_v2", "hrnet_w18"])
def test_deeper_networks_too(backbone):
    network = lively(create_model(backbone, num_classes=3))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        assert rewrite(network)
        assert (network(image) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("options", [{"padding": "same"}, {"activation": "leaky_relu"}, {"downsample": "max_pool"}])
def test_variants_are_left_as_they_are(options):
    network = create_model(SMALL, num_classes=3, **options).eval()
    before = [type(module) for module in network.modules()]
    assert not rewrite(network)
    assert [type(module) for module in network.modules()] == before


def test_bf16_adds_the_shortcut_before_it_rounds():
    conv = torch.nn.Conv2d(4, 4, 3, padding=1)
    fused = FusedConv(conv, relu=True).to(torch.bfloat16)
    fused.pack()
    x = torch.randn(1, 4, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = torch.relu(conv.bfloat16().float()(x.float()) + x.float())
        assert (fused(x, x).float() - exact).abs().max() <= 2**-8 * exact.abs().max()

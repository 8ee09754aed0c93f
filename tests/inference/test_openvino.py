"""The written OpenVINO model computes what the torch network computes, at any size, and nothing is converted."""

import pytest
import torch

from hrseg.inference.openvino import can_write, openvino_core, write_graph
from hrseg.models import create_model

pytest.importorskip("openvino")
SMALL = "hrnet_w18_small_v1"
EVERY = [
    *({"resize": policy} for policy in ("bilinear_aligned", "bilinear_scaled", "nearest")),
    {"in_channels": 4, "input_scale": 1.5},
    {"exchange": "final"},
    {"exchange": "between_stages", "branches_from_start": True},
    {"activation": "leaky_relu"},
    {"downsample": "max_pool"},
    {"head": "v1"},
    {"head": "c1"},
]


def shaken(**options) -> torch.nn.Module:
    """A network whose norms and biases are not those of the first day."""
    network = create_model(SMALL, **{"head": "v2", "num_classes": 5} | options).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.7, 1.3)
                module.bias.uniform_(-0.2, 0.2)
    return network


def run(network: torch.nn.Module, *images: torch.Tensor) -> list[torch.Tensor]:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino_core().compile_model(write_graph(network), "CPU", options)
    return [torch.from_numpy(compiled(image.numpy())[0]) for image in images]


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_the_written_model_gives_the_networks_logits(options):
    network = shaken(**options)
    bands = options.get("in_channels", 3)
    images = [torch.randn(2, bands, 64, 96), torch.randn(1, bands, 97, 75)]
    for image, found in zip(images, run(network, *images), strict=True):
        with torch.no_grad():
            expected = network.forward_coarse(image)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-4 * expected.std()


def test_sizes_from_one_pixel_up(tiny_network):
    images = [torch.randn(1, 3, *size) for size in ((1, 1), (5, 3), (33, 130))]
    for image, found in zip(images, run(tiny_network, *images), strict=True):
        with torch.no_grad():
            expected = tiny_network.forward_coarse(image)
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_network_is_left_as_it_is_and_its_weights_are_copied(tiny_network):
    image = torch.randn(1, 3, 40, 40)
    names = [name for name, _ in tiny_network.named_modules()]
    compiled = openvino_core().compile_model(write_graph(tiny_network), "CPU")
    before = compiled(image.numpy())[0]
    with torch.no_grad():
        for value in tiny_network.parameters():
            value.zero_()
    assert (compiled(image.numpy())[0] == before).all()
    assert [name for name, _ in tiny_network.named_modules()] == names


@pytest.mark.parametrize("options", [{"head": "ocr"}, {"padding": "same"}], ids=str)
def test_other_pieces_cannot_be_written(options):
    assert not can_write(create_model(SMALL, **{"num_classes": 5} | options))


def test_changed_pieces_cannot_be_written(tiny_network):
    assert can_write(tiny_network)
    tiny_network.backbone.conv1.padding_mode = "reflect"
    assert not can_write(tiny_network)
    assert not can_write(torch.nn.Conv2d(3, 5, 1))

"""Channels and one exchange unit of the TensorFlow port, against numbers worked out by hand."""

import pytest
import torch
from torch import nn

from hrseg.errors import ConfigError
from hrseg.models import create_model
from hrseg.models.tf_port import Exchange, Residual, down

SMALL = "hrnet_w18_small_v1"


def unnormalized(module):
    """Let every norm pass values on: variance 1 with its epsilon."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.fill_(1 - norm.eps)
    return module.eval()


def channels(path):
    return [
        (conv.in_channels, conv.out_channels, conv.stride) for conv in path.modules() if isinstance(conv, nn.Conv2d)
    ]


def test_each_step_down_doubles_the_channels_and_is_activated():
    path = down(16, 3)
    assert channels(path) == [(16, 32, (2, 2)), (32, 64, (2, 2)), (64, 128, (2, 2))]
    assert [type(step[-1]) for step in path] == [nn.LeakyReLU] * 3
    assert channels(down(16, 3, pool=True)) == [(16, 128, (1, 1))]
    assert down(16, 3, pool=True)[0].kernel_size == 8


def test_a_bottleneck_ends_as_wide_as_it_began():
    # 1x1: 3·64 + 64, 3x3: 64·64·9 + 64, 1x1: 64·3 + 3, and two numbers a channel for each norm
    assert sum(p.numel() for p in Residual(3, 64).parameters()) == 256 + 36_928 + 195 + 128 + 128 + 6
    # two 3x3: 2 · (16·16·9 + 16), and two norms
    assert sum(p.numel() for p in Residual(16).parameters()) == 4640 + 64


def test_a_residual_unit_has_nothing_between_its_last_convolution_and_the_sum():
    unit = unnormalized(Residual(1))
    for conv, bias in ((unit.layers[0][0], -2.0), (unit.layers[1][0], 0.0)):
        nn.init.dirac_(conv.weight)
        nn.init.constant_(conv.bias, bias)
    x = torch.tensor([1.0, 3.0, -5.0]).view(1, 1, 1, 3)
    # leaky(x - 2) = -0.1, 1, -0.7; plus x = 0.9, 4, -5.7; leaky of it
    assert unit(x).flatten().tolist() == pytest.approx([0.9, 4.0, -0.57])


def test_one_exchange_unit_gives_the_numbers_worked_out_by_hand():
    exchange = unnormalized(Exchange([1, 2]))
    up, step = exchange.paths[0][1][0], exchange.paths[1][0][0][0]
    up.weight.data = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)
    up.bias.data = torch.tensor([0.5])
    nn.init.ones_(step.weight)
    step.bias.data = torch.tensor([-5.0, 0.0])
    fine = torch.ones(1, 1, 4, 4)
    coarse = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])[None]
    first, second = exchange([fine, coarse])
    # up: c0 - 3·c1 + 0.5 = -1.5, -0.5, 0.5, 1.5, leaky, each in 2x2 pixels, on ones
    wanted = torch.tensor([[0.85, 0.95], [1.5, 2.5]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.allclose(first[0, 0], wanted)
    # down: the window sees 9, 6, 6 and 4 ones, as TensorFlow pads behind only; nothing after the sum
    assert torch.allclose(second[0, 0], torch.tensor([[4.0 + 1, 1 + 2], [1 + 3, -0.1 + 4]]))
    assert torch.allclose(second[0, 1], torch.tensor([[10.0, 7.0], [7.0, 5.0]]))


@pytest.mark.parametrize("options", [{}, {"downsample": "max_pool"}])
def test_branches_start_at_the_input_s_own_resolution(options):
    network = create_model(SMALL, num_classes=5, style="tf_port", **options).eval()
    maps = network.forward_branches(torch.rand(1, 3, 24, 40))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (16, 24, 40),
        (32, 12, 20),
        (64, 6, 10),
        (128, 3, 5),
    ]
    assert network(torch.rand(1, 3, 21, 35)).shape == (1, 5, 21, 35)
    convolutions = [m for m in network.backbone.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(conv.bias is not None for conv in convolutions)
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}
    again = create_model(**network.spec)
    assert again.load_state_dict(network.state_dict())


def test_the_full_port_has_the_stages_of_the_source():
    with torch.device("meta"):
        backbone = create_model("hrnet_w32", style="tf_port").backbone
    assert channels(backbone.stage1) == [
        *[(3, 64, (1, 1)), (64, 64, (1, 1)), (64, 3, (1, 1))] * 4,
        (3, 32, (1, 1)),
    ]
    assert [len(backbone.get_submodule(f"stage{s}")) for s in (2, 3, 4)] == [1, 4, 3]
    assert [channels(backbone.get_submodule(f"open{s}")) for s in (2, 3, 4)] == [
        [(32, 64, (2, 2))],
        [(64, 128, (2, 2))],
        [(128, 256, (2, 2))],
    ]
    assert len(backbone.exchange4.paths) == 3


@pytest.mark.parametrize("option", [{"padding": "same"}, {"exchange": "final"}, {"activation": "leaky_relu"}])
def test_options_of_an_hrnet_are_refused(option):
    with pytest.raises(ConfigError, match="style tf_port"):
        create_model(SMALL, style="tf_port", **option)

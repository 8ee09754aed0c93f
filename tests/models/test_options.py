"""Options of the backbone: resizing, padding, and the variants of the paper and of other ports."""

import pytest
import torch
import torch.nn.functional as F

from hrseg.errors import ConfigError
from hrseg.models import create_model, summary
from hrseg.models.blocks import SameConv2d, Style
from hrseg.models.hrnet import VARIANTS, HRNet

SMALL = "hrnet_w18_small_v1"


def build(**options):
    torch.manual_seed(0)
    return create_model(SMALL, num_classes=3, **options).eval()


def w48(**options):
    with torch.device("meta"):
        return HRNet(VARIANTS["hrnet_w48"], **options)


def fusions(network):
    modules = [module for stage in (2, 3, 4) for module in network.get_submodule(f"stage{stage}")]
    return [len(module.fuse_layers) for module in modules]


@pytest.mark.parametrize(("size", "equal"), [((64, 96), True), ((72, 100), False)])
def test_scaled_equals_bilinear_where_32_divides_the_image(size, equal):
    image = torch.rand(1, 3, *size)
    scaled, plain = build(resize="bilinear_scaled"), build()
    assert torch.allclose(scaled(image), plain(image), atol=1e-5) is equal


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 64), (97, 101)])
@pytest.mark.parametrize("options", [{"padding": "same"}, {"downsample": "max_pool"}])
def test_branches_halve_and_round_up_whatever_the_option(size, options):
    for i, branch in enumerate(build(**options).forward_branches(torch.rand(1, 3, *size))):
        stride = 4 * 2**i
        assert branch.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))


def test_padding_changes_every_stride_2_convolution_and_no_name():
    same, plain = w48(style=Style(padding="same")), w48()
    assert same.state_dict().keys() == plain.state_dict().keys()
    kinds = {type(m) for m in same.modules() if isinstance(m, torch.nn.Conv2d) and m.stride == (2, 2)}
    assert kinds == {SameConv2d}
    assert not any(isinstance(m, SameConv2d) for m in plain.modules())


# One in stage 2, four in stage 3, three in stage 4: what the paper's table of fusions counts.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        ("full", [2, 3, 3, 3, 3, 4, 4, 4]),
        ("between_stages", [2, 0, 0, 0, 3, 0, 0, 4]),
        ("final", [0, 0, 0, 0, 0, 0, 0, 4]),
    ],
)
def test_exchange_is_eight_three_or_one_fusion(exchange, expected):
    network = w48(exchange=exchange)
    assert fusions(network) == expected
    assert network.state_dict().keys() <= w48().state_dict().keys()


@pytest.mark.parametrize(("exchange", "hears"), [("full", True), ("final", False)])
def test_without_exchange_the_finest_branch_hears_of_the_others_only_at_the_end(exchange, hears):
    network = build(exchange=exchange).backbone
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = network.forward_stages(image)
        for parameter in network.stage2[0].branches[1].parameters():
            parameter.mul_(3)
        after = network.forward_stages(image)
    for stage in ("stage2", "stage3"):
        assert torch.equal(before[stage][0], after[stage][0]) is not hears
    assert not torch.equal(before["stage4"][0], after["stage4"][0])


def test_all_branches_from_the_start():
    network = build(branches_from_start=True).backbone
    stages = network.forward_stages(torch.rand(1, 3, 97, 101))
    assert [len(maps) for maps in stages.values()] == [1, 1, 4, 4, 4]
    for stage in ("stage2", "stage3", "stage4"):
        assert [tuple(x.shape[1:]) for x in stages[stage]] == [
            (16, 25, 26),
            (32, 13, 13),
            (64, 7, 7),
            (128, 4, 4),
        ]
    assert fusions(w48(branches_from_start=True)) == [4] * 8


def test_leaky_relu_lets_a_fifth_of_the_negative_through():
    assert Style(activation="leaky_relu").act()(torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([-0.2, 2])
    image = torch.rand(1, 3, 64, 64)
    assert build(activation="leaky_relu").forward_branches(image)[0].min() < 0
    assert build().forward_branches(image)[0].min() == 0
    kinds = [type(m) for m in build(activation="leaky_relu").backbone.modules()]
    assert torch.nn.ReLU not in kinds


def test_max_pool_takes_the_largest_of_each_window():
    network = build(downsample="max_pool").backbone
    path = network.stage4[0].fuse_layers[2][0]  # finest branch to the third: two octaves at once
    picture = torch.zeros(1, 16, 8, 8)
    picture[..., 3, 0], picture[..., 5, 7] = 7.0, 9.0
    assert path[0](picture)[0, 0].tolist() == [[7, 0], [0, 9]]
    assert path[1][0].weight.shape == (64, 16, 1, 1)
    assert not any(m.stride == (2, 2) for m in network.stage4.modules() if isinstance(m, torch.nn.Conv2d))


def test_an_input_scale_is_an_enlarged_image_and_logits_of_its_own_size():
    network, plain = build(input_scale=1.5), build()
    image = torch.rand(1, 3, 62, 97)
    large = F.interpolate(image, scale_factor=1.5, mode="bilinear")  # 93 x 145
    maps = network.forward_branches(image)
    assert [tuple(x.shape[-2:]) for x in maps] == [(24, 37), (12, 19), (6, 10), (3, 5)]
    for mine, its in zip(maps, plain.forward_branches(large), strict=True):
        assert torch.equal(mine, its)
    coarse = plain.forward_coarse(large)
    assert torch.equal(network(image), plain.upsample(coarse, (62, 97)))


@pytest.mark.slow
def test_each_variant_costs_less_or_more_as_it_should():
    def adds(**options):
        with torch.device("meta"):
            return summary(create_model("hrnet_w18_small_v2", **options), (256, 256)).multiply_adds

    plain = adds()
    assert adds(exchange="final") < adds(exchange="between_stages") < plain
    assert adds(downsample="max_pool") < plain < adds(branches_from_start=True)
    assert adds(activation="leaky_relu") == plain
    assert adds(input_scale=1.5) == plain * 1.5**2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"padding": "valid"}, "Unknown padding 'valid'. Paddings: same, symmetric"),
        ({"exchange": "fulll"}, "Did you mean 'full'"),
        ({"activation": "gelu"}, "Activations: leaky_relu, relu"),
        ({"downsample": "pool"}, "Unknown downsample 'pool'"),
        ({"input_scale": 0.5}, "input_scale is 0.5. It must be between 1"),
        ({"input_scale": 40.0}, "input_scale is 40.0. It must be between 1"),
    ],
)
def test_unknown_options_are_explained(options, words):
    with pytest.raises(ConfigError, match=words):
        create_model(SMALL, **options)

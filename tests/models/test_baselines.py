import pytest
import torch
from torch import nn

from hrseg.errors import ConfigError
from hrseg.models import BASELINE_HEADS, HEADS, create_model
from hrseg.models.baselines import (
    DECODERS,
    PLAIN_HEADS,
    Encoder,
    GlobalNet,
    HeadCascadedPyramid,
    HeadSimple,
)

CHANNELS = [8, 16, 32, 64]
SIZES = [(25, 26), (13, 13), (7, 7), (4, 4)]  # a 97x101 image at strides 4, 8, 16 and 32


def maps(count=1):
    return [torch.rand(count, channels, *size) for channels, size in zip(CHANNELS, SIZES, strict=True)]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_tables_agree():
    assert set(BASELINE_HEADS) == {*DECODERS, *PLAIN_HEADS}
    assert all(HEADS[head] == ("smp encoder", "pixels", 4) for head in BASELINE_HEADS)


# Encoder


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0", "mit_b0", "tu-convnext_atto"])
def test_encoder_gives_maps_of_the_sizes_of_an_hrnet(name):
    encoder = Encoder(name, in_channels=4).eval()
    found = encoder(torch.rand(1, 4, 97, 101))
    assert [tuple(x.shape[-2:]) for x in found] == SIZES
    assert [x.shape[1] for x in found] == encoder.out_channels


def test_encoder_pads_at_the_far_edges_only():
    encoder = Encoder("resnet18", in_channels=3).eval()
    image = torch.rand(1, 3, 96, 97)
    wide = torch.zeros(1, 3, 96, 128)
    wide[..., :97] = image
    for small, large in zip(encoder(image), encoder(wide), strict=True):
        assert torch.equal(small, large[..., : small.shape[-1]])


@pytest.mark.parametrize(
    ("encoder", "head", "message"),
    [
        ("vgg11_bn", "deeplabv3", "do not support dilated mode"),
        ("tu-resnet999", "simple", "resnet999"),
        ("resnet81", "simple", "Did you mean 'resnet18'"),
        ("hrnet_w48", "cascaded_pyramid", "takes an smp encoder"),
    ],
)
def test_encoder_that_cannot_stand_under_a_head_is_one_sentence(encoder, head, message):
    with pytest.raises(ConfigError, match=message):
        create_model(encoder, head=head)


# SimpleBaseline


def test_simple_reads_the_coarsest_map_alone_and_ends_at_stride_4():
    head = HeadSimple(CHANNELS, 5, "bilinear").eval()
    one, other = maps(), maps()
    other[3] = one[3]
    logits = head(one)["main"]
    assert logits.shape == (1, 5, 25, 26)
    assert torch.equal(logits, head(other)["main"])


def test_simple_has_the_parameters_of_the_paper():
    # ResNet-50 and 17 joints: the paper's pose_resnet_50 has 34.0 M parameters, of which the encoder 23.508 M
    head = HeadSimple([256, 512, 1024, 2048], 17, "bilinear")
    deconvolutions = (2048 + 256 + 256) * 256 * 4 * 4 + 3 * 2 * 256
    assert parameters(head) == deconvolutions + 256 * 17 + 17
    assert round((parameters(head) + 23_508_032) / 1e6, 1) == 34.0


def test_simple_doubles_the_size_three_times():
    ups = [m for m in HeadSimple(CHANNELS, 5, "bilinear").modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.kernel_size, m.stride, m.out_channels) for m in ups] == [((4, 4), (2, 2), 256)] * 3


# Cascaded pyramid


def test_pyramid_adds_coarser_levels_to_finer_ones():
    net = GlobalNet(CHANNELS, 5, "nearest").eval()
    with torch.no_grad():
        for lateral in net.laterals:
            lateral[0].weight.zero_()  # norms at rest: a lateral gives relu(bias)
            lateral[1].bias.zero_()
        net.laterals[3][1].bias.fill_(2.0)
        for down in net.downs:
            nn.init.dirac_(down[0].weight)
            down[1].eps = 0.0
    levels, guesses = net(maps())
    assert [tuple(x.shape[-2:]) for x in levels] == SIZES
    assert [tuple(x.shape) for x in guesses] == [(1, 5, *size) for size in SIZES]
    for level in levels:  # the coarsest level's 2 arrives everywhere
        assert torch.equal(level, torch.full_like(level, 2.0))


def test_pyramid_works_longer_on_coarser_levels():
    head = HeadCascadedPyramid(CHANNELS, 5, "bilinear")
    assert [len(blocks) for blocks in head.refinenet.cascade] == [0, 1, 2, 3]


def test_auxiliary_logits_are_the_mean_of_the_guesses():
    head = HeadCascadedPyramid(CHANNELS, 5, "nearest").eval()
    with torch.no_grad():
        for number, guess in enumerate(head.globalnet.guesses):
            guess[1].weight.zero_()
            guess[1].bias.fill_(float(number))
    outputs = head(maps())
    assert outputs["main"].shape == outputs["aux"].shape == (1, 5, 25, 26)
    assert torch.equal(outputs["aux"], torch.full((1, 5, 25, 26), 1.5))  # (0 + 1 + 2 + 3) / 4


def test_refinement_leaves_the_guesses_alone():
    network = create_model("resnet18", head="cascaded_pyramid", num_classes=5)
    outputs = network.train().forward_all(torch.rand(2, 3, 64, 64))
    outputs["aux"].square().mean().backward()
    assert all(p.grad is None for p in network.head.refinenet.parameters())
    assert all(p.grad is not None for p in network.head.globalnet.parameters())


# Dilated


def test_deeplabv3_keeps_stride_8_by_dilation():
    network = create_model("resnet18", head="deeplabv3", num_classes=5).eval()
    maps_ = network.forward_branches(torch.rand(1, 3, 64, 64))
    assert [tuple(x.shape[-2:]) for x in maps_] == [(16, 16), (8, 8), (8, 8), (8, 8)]
    rates = {m.dilation[0] for m in network.network.encoder.modules() if isinstance(m, nn.Conv2d)}
    assert rates == {1, 2, 4}


@pytest.mark.parametrize("head", ["simple", "cascaded_pyramid"])
def test_resize_policy_and_bands_reach_the_network(head):
    network = create_model("resnet18", head, 3, "nearest", 4).eval()
    assert network.spec["resize"] == "nearest"
    assert network(torch.rand(1, 4, 33, 35)).shape == (1, 3, 33, 35)

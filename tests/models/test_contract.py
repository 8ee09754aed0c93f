"""The battery that every network inherits, HRNet with each head and option, and baselines."""

import pytest
import torch

from hrseg.models import BASELINE_HEADS, PIXEL_HEADS, create_model

SMALL = "hrnet_w18_small_v1"
NETWORKS = [
    *((SMALL, {"head": head}) for head in PIXEL_HEADS),
    ("hrnet_w18_small_v2", {}),
    ("hrnet_w18_small_v2", {"exchange": "between_stages"}),
    (SMALL, {"exchange": "final", "padding": "same"}),
    (SMALL, {"branches_from_start": True, "activation": "leaky_relu"}),
    (SMALL, {"downsample": "max_pool", "resize": "bilinear_scaled"}),
    (SMALL, {"input_scale": 1.5}),
    *(("resnet18", {"head": head}) for head in BASELINE_HEADS),
]
each_network = pytest.mark.parametrize(
    ("backbone", "options"),
    NETWORKS,
    ids=[" ".join([name, *map(str, options.values())]) for name, options in NETWORKS],
)


def build(backbone, options):
    torch.manual_seed(0)
    return create_model(backbone, num_classes=5, **options)


@each_network
@pytest.mark.parametrize("size", [(64, 64), (97, 101)])
def test_logits_have_input_size_in_training_and_evaluation(backbone, options, size):
    network = build(backbone, options)
    image = torch.rand(2, 3, *size)
    for mode in (True, False):
        logits = network.train(mode)(image)
        assert logits.shape == (2, 5, *size)
        assert logits.dtype == torch.float32


@pytest.mark.slow
@each_network
def test_gradients_reach_every_parameter_that_learns(backbone, options):
    network = build(backbone, options).train()
    outputs = network.forward_all(torch.rand(2, 3, 64, 64))
    sum(logits.square().mean() for logits in outputs.values()).backward()
    silent = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    # smp's encoders keep layers that only their classification use would need
    assert not [name for name in silent if "encoder" not in name]


@pytest.mark.slow
@each_network
def test_spec_and_state_dict_build_the_same_network_again(backbone, options):
    network = build(backbone, options).eval()
    assert all(network.spec[name] == value for name, value in options.items())
    twin = create_model(**network.spec).eval()
    twin.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(image), twin(image))


@each_network
def test_head_and_backbone_share_no_parameter(backbone, options):
    network = build(backbone, options)
    mine = {id(p) for p in network.head_parameters()}
    everything = {id(p) for p in network.parameters()}
    assert mine < everything


@each_network
def test_four_branches_get_coarser(backbone, options):
    branches = build(backbone, options).eval().forward_branches(torch.rand(1, 3, 64, 64))
    heights = [branch.shape[-2] for branch in branches]
    assert len(heights) == 4
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("bands", [1, 4])
def test_other_numbers_of_bands_work(bands):
    network = create_model(SMALL, num_classes=2, in_channels=bands).eval()
    assert network(torch.rand(1, bands, 33, 35)).shape == (1, 2, 33, 35)


@pytest.mark.parametrize("head", PIXEL_HEADS)
def test_hrnet_gives_its_logits_at_stride_4(head):
    outputs = build(SMALL, {"head": head}).eval().forward_all(torch.rand(1, 3, 97, 101))
    assert list(outputs) == (["main", "aux"] if head == "ocr" else ["main"])
    assert {logits.shape for logits in outputs.values()} == {(1, 5, 25, 26)}


def test_a_spec_of_before_the_options_builds_the_published_network():
    old = {"backbone": SMALL, "head": "v2", "num_classes": 5, "resize": "nearest", "in_channels": 3}
    network = build(SMALL, {"resize": "nearest"}).eval()
    twin = create_model(**old).eval()
    twin.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 40, 40)
    assert torch.equal(network(image), twin(image))

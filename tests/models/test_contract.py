"""The battery that every network inherits, HRNet and baselines alike."""

import pytest
import torch

from hrseg.models import BASELINE_HEADS, create_model

NETWORKS = [("hrnet_w18_small_v1", "v2"), ("hrnet_w18_small_v2", "v2")]
BASELINES = [("resnet18", head) for head in BASELINE_HEADS]


def build(backbone, head):
    return create_model(backbone, head=head, num_classes=5)


@pytest.mark.parametrize(("backbone", "head"), NETWORKS + BASELINES)
@pytest.mark.parametrize("size", [(64, 64), (97, 101)])
def test_logits_have_input_size_in_training_and_evaluation(backbone, head, size):
    network = build(backbone, head)
    image = torch.rand(2, 3, *size)
    for mode in (True, False):
        logits = network.train(mode)(image)
        assert logits.shape == (2, 5, *size)
        assert logits.dtype == torch.float32


@pytest.mark.parametrize(("backbone", "head"), NETWORKS + BASELINES)
def test_gradients_reach_every_parameter(backbone, head):
    network = build(backbone, head).train()
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None]
    # smp's encoders keep layers that only their classification use would need
    assert not [name for name in silent if "encoder" not in name]


@pytest.mark.parametrize(("backbone", "head"), NETWORKS + BASELINES)
def test_spec_and_state_dict_build_the_same_network_again(backbone, head):
    network = build(backbone, head).eval()
    twin = create_model(**network.spec).eval()
    twin.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(image), twin(image))


@pytest.mark.parametrize(("backbone", "head"), NETWORKS + BASELINES)
def test_head_and_backbone_share_no_parameter(backbone, head):
    network = build(backbone, head)
    mine = {id(p) for p in network.head_parameters()}
    everything = {id(p) for p in network.parameters()}
    assert mine < everything


@pytest.mark.parametrize(("backbone", "head"), NETWORKS + BASELINES)
def test_four_branches_get_coarser(backbone, head):
    branches = build(backbone, head).eval().forward_branches(torch.rand(1, 3, 64, 64))
    heights = [branch.shape[-2] for branch in branches]
    assert len(heights) == 4
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("bands", [1, 4])
def test_other_numbers_of_bands_work(bands):
    network = create_model("hrnet_w18_small_v1", num_classes=2, in_channels=bands).eval()
    assert network(torch.rand(1, bands, 33, 35)).shape == (1, 2, 33, 35)


def test_hrnet_gives_its_logits_at_stride_4():
    outputs = build("hrnet_w18_small_v1", "v2").eval().forward_all(torch.rand(1, 3, 97, 101))
    assert outputs["main"].shape == (1, 5, 25, 26)

import pytest
import torch
from torch import nn

from hrseg.models.segmenter import Segmenter


class Backbone(nn.Module):
    """Every fourth pixel of the image as its only branch."""

    def forward(self, image):
        return [image[..., ::4, ::4]]


class Head(nn.Module):
    """The branch as logits, and twice the branch as auxiliary ones, in half precision."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, branches):
        return {"main": (branches[0] * self.weight).bfloat16(), "aux": 2 * branches[0]}


def segmenter(resize):
    return Segmenter(Backbone(), Head(), {"num_classes": 3, "resize": resize})


def test_logits_come_at_input_size_by_the_policy_of_the_network():
    image = torch.zeros(1, 3, 1, 8)
    image[..., 4:] = 1  # the head sees 0, 1
    for policy in ("bilinear", "nearest"):  # logits fade even where the network repeats its pixels
        found = segmenter(policy)(image)[0, 0, 0]
        assert found.tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
        assert found.dtype == torch.float32
    assert segmenter("bilinear_aligned")(image)[0, 0, 0].tolist() == pytest.approx([i / 7 for i in range(8)])


def test_outputs_of_the_head_stay_at_its_own_resolution():
    network = segmenter("bilinear")
    image = torch.rand(2, 3, 17, 33)
    outputs = network.forward_all(image)
    assert {name: tuple(map_.shape) for name, map_ in outputs.items()} == {
        "main": (2, 3, 5, 9),
        "aux": (2, 3, 5, 9),
    }
    assert torch.equal(network.forward_coarse(image), outputs["main"])
    assert network(image).shape == (2, 3, 17, 33)
    assert list(network.head_parameters()) == [network.head.weight]

import numpy as np
import pytest
import torch
from torch import nn

from hrseg.errors import ConfigError, DataError
from hrseg.explain.ablation import Ablation, silenced, switch_off


class Toy(nn.Module):
    """Branch 0 is the image, branch 1 its half: class 1 where their weighted sum is positive."""

    num_classes = 2

    def __init__(self, weights=(1.0, 1.0)):
        super().__init__()
        self.weights = weights

    def forward_branches(self, image):
        return [image, nn.functional.avg_pool2d(image, 2)]

    def head(self, maps):
        size = maps[0].shape[-2:]
        terms = [w * nn.functional.interpolate(x, size) for w, x in zip(self.weights, maps, strict=True)]
        total = sum(terms)
        return {"main": torch.cat([-total, total], dim=1)}

    def upsample(self, logits, size):
        return nn.functional.interpolate(logits, size)


def test_a_branch_without_weight_changes_nothing_and_the_other_everything():
    image = torch.tensor([[[[-1.0, 3.0, -1.0, 3.0], [3.0, 3.0, -1.0, 3.0]]]])  # mean 1.5
    result = switch_off(Toy((1.0, 0.0)), image)
    assert result.full.tolist() == [[0, 1, 0, 1], [1, 1, 0, 1]]
    assert np.array_equal(result.without[1], result.full)
    # the mean, 1.5, is positive: all that was class 0 becomes class 1
    assert (result.without[0] == 1).all()
    assert result.changed().tolist() == [[1, 0], [0, 0]]
    assert result.changed_in_all().tolist() == [3 / 8, 0]


def test_a_silent_branch_keeps_its_mean_and_shape():
    maps = [torch.rand(1, 3, 4, 5), torch.rand(1, 6, 2, 3)]
    quiet = silenced(maps, 1)
    assert quiet[0] is maps[0]
    assert quiet[1].shape == maps[1].shape
    assert torch.allclose(quiet[1], maps[1].mean((2, 3), keepdim=True))


def test_iou_changes_by_hand():
    full = np.array([[0, 0, 1, 1]], np.uint8)
    ablation = Ablation(full, (np.array([[0, 1, 1, 1]], np.uint8),), 3)
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    # with all branches both are 1; without, 0: 1/2 and 1: 1/2; class 2 is nowhere
    assert ablation.iou_changes(truth)[0, :2].tolist() == [-0.5, -0.5]
    assert np.isnan(ablation.iou_changes(truth)[0, 2])
    with pytest.raises(DataError, match="mask of this image"):
        ablation.iou_changes(truth.T)


def test_a_class_that_is_not_decided_has_no_share():
    ablation = Ablation(np.zeros((2, 2), np.uint8), (np.ones((2, 2), np.uint8),), 2)
    assert ablation.changed()[0, 0] == 1
    assert np.isnan(ablation.changed()[0, 1])


def test_a_real_network_has_four_branches(tiny_network):
    image = torch.randn(1, 3, 64, 64)
    result = switch_off(tiny_network, image)
    assert len(result.without) == 4
    assert result.full.shape == (64, 64)
    with torch.inference_mode():
        assert np.array_equal(result.full, tiny_network(image).argmax(1)[0].numpy())


def test_a_network_without_branches_is_refused():
    with pytest.raises(ConfigError, match="does not give its branches"):
        switch_off(nn.Conv2d(3, 2, 1), torch.rand(1, 3, 8, 8))

import torch
from torch import nn

from hrseg.models import create_model, summary


def test_a_convolution_and_a_product_by_hand():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    found = summary(conv, (10, 20))
    assert found.parameters == 8 * 3 * 9 + 8
    assert found.multiply_adds == 10 * 20 * 8 * 3 * 9  # one for each weight at each pixel
    assert found.size == (10, 20)
    strided = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Flatten(2), nn.Linear(50, 7))
    assert summary(strided, (10, 20)).multiply_adds == 50 * 4 * 3 + 4 * 50 * 7


def test_the_network_stays_as_it_is():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    network[0].weight.requires_grad_(False)
    summary(network, (4, 4))
    assert network.training
    assert network[0].weight.device == torch.device("cpu")
    assert network[1].num_batches_tracked == 0
    assert summary(network, (4, 4)).parameters == 3 * 4 + 4 + 2 * 4  # frozen ones too


def test_other_numbers_of_bands_are_counted():
    plain, wide = (create_model("hrnet_w18_small_v1", in_channels=bands) for bands in (3, 5))
    more = summary(wide, (32, 64)).multiply_adds - summary(plain, (32, 64)).multiply_adds
    assert more == 16 * 32 * 64 * 2 * 9  # the first convolution: half the size, 64 filters of 3x3

import numpy as np
import pytest
import torch
from torch import nn

from hrseg.explain.field import branch_fields, places, radius, receptive_field
from tests.explain.test_ablation import Toy


def conv(size, channels=2, dilation=1):
    layer = nn.Conv2d(1, channels, size, padding=dilation * (size // 2), dilation=dilation)
    nn.init.constant_(layer.weight, 1.0)
    return layer


def middle(field, reach):
    y, x = (length // 2 for length in field.shape)
    return field[y - reach : y + reach + 1, x - reach : x + reach + 1]


def test_the_field_of_one_3x3_convolution_is_3x3():
    field = receptive_field(conv(3), torch.rand(1, 1, 15, 17))
    assert np.allclose(middle(field, 1), 1 / 9)
    assert field.sum() == pytest.approx(1)
    assert (field > 0).sum() == 9
    assert radius(field) == pytest.approx(2**0.5)
    assert radius(field, 5 / 9) == 1
    assert radius(field, 1 / 9) == 0


def test_two_3x3_convolutions_give_the_triangle():
    both = nn.Sequential(conv(3, 1), conv(3, 1))
    field = receptive_field(both, torch.rand(1, 1, 21, 21))
    triangle = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 81
    assert np.allclose(middle(field, 2), triangle)
    assert (field > 0).sum() == 25


def test_a_dilated_convolution_leaves_holes():
    field = receptive_field(conv(3, dilation=2), torch.rand(1, 1, 21, 21))
    assert np.allclose(middle(field, 2)[::2, ::2], 1 / 9)
    assert middle(field, 2)[1::2].sum() == 0


def test_the_middle_follows_the_place():
    def shifted(image):  # the pixel two columns to the right decides
        return torch.roll(image, -2, dims=-1)

    field = receptive_field(shifted, torch.rand(1, 1, 9, 11), [(4, 3), (2, 6)])
    assert field[8, 10 + 2] == 1


def test_fields_of_branches_add_up_to_the_whole():
    image = torch.rand(1, 1, 12, 12) + 0.1
    whole, parts, amounts = branch_fields(Toy((3.0, 1.0)), image, [(5, 5), (6, 8)])
    assert np.array_equal(whole, receptive_field(lambda x: _logits(Toy((3.0, 1.0)), x), image, [(5, 5), (6, 8)]))
    assert (parts[0] > 0).sum() == 1  # the pixel itself
    assert amounts.tolist() == pytest.approx([3 / 4, 1 / 4])
    mixed = amounts[0] * parts[0] + amounts[1] * parts[1]  # no gradient cancels here
    assert np.allclose(mixed, whole)


def _logits(network, image):
    maps = network.forward_branches(image)
    return network.upsample(network.head(maps)["main"], image.shape[-2:])


def test_the_border_of_the_image_does_not_shrink_the_field():
    # a box of 5x5 around two places, of which one lies so low that its box is cut
    field = receptive_field(conv(5), torch.rand(1, 1, 20, 20), [(10, 10), (18, 10)])
    assert np.allclose(middle(field, 2), 1 / 25)


def test_a_branch_that_the_head_does_not_read_has_an_empty_field():
    class Half(Toy):
        def head(self, maps):
            return {"main": torch.cat([maps[0], -maps[0]], dim=1)}

    _, parts, amounts = branch_fields(Half(), torch.rand(1, 1, 8, 8))
    assert parts[1].sum() == 0
    assert radius(parts[1]) == 0
    assert amounts.tolist() == [1, 0]


def test_coarse_branches_of_a_real_network_look_farther(tiny_network):
    _, parts, amounts = branch_fields(tiny_network, torch.randn(1, 3, 96, 96), [(48, 48)])
    radii = [radius(part) for part in parts]
    assert radii[3] > radii[0]
    assert amounts.sum() == pytest.approx(1)


def test_places_lie_in_the_middle_half():
    spots = places(100, 200)
    assert len(spots) == 9
    assert all(24 <= y <= 75 and 49 <= x <= 150 for y, x in spots)
    assert places(11, 11, 1) == [(5, 5)]
    assert places(1, 1) == [(0, 0)] * 9

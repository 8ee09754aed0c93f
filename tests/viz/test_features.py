import numpy as np
import pytest
import torch

from hrseg.errors import DataError
from hrseg.viz import feature_grid, heat, mean_map, pca_rgb, top_channels


def test_heat_runs_from_dark_to_bright():
    painted = heat(np.linspace(0, 1, 50)[None]).astype(int).sum(axis=2)[0]
    assert (np.diff(painted) >= 0).all()
    assert painted[-1] > painted[0] + 500


def test_the_mean_map_is_bright_where_features_are_strong():
    maps = torch.zeros(1, 4, 6, 8)
    maps[..., 2:4, 3:5] = 1
    picture = mean_map(maps)
    assert picture.shape == (6, 8, 3)
    assert picture[3, 4].sum() > picture[0, 0].sum()


def test_pca_tells_three_kinds_of_places_apart_and_repeats_itself():
    kinds = np.zeros((6, 9), int)
    kinds[:, 3:6], kinds[:, 6:] = 1, 2
    maps = torch.eye(3)[kinds].permute(2, 0, 1).repeat(5, 1, 1)  # (15, 6, 9)
    picture = pca_rgb(maps)
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert len(colors) == 3
    np.testing.assert_array_equal(picture, pca_rgb(maps.numpy()))


@pytest.mark.parametrize("maps", [torch.ones(1, 1, 1), torch.ones(2, 4, 4), torch.rand(200, 3, 3)])
def test_flat_and_tiny_maps_make_pictures(maps):
    assert pca_rgb(maps).shape == mean_map(maps).shape == (*maps.shape[1:], 3)


def test_top_channels_are_those_that_vary_most():
    maps = torch.zeros(5, 8, 8)
    maps[3], maps[1] = torch.rand(8, 8) * 9, torch.rand(8, 8)
    assert list(top_channels(maps, 2)) == [3, 1]


@pytest.mark.parametrize("image", [None, np.zeros((64, 96, 3), np.uint8)])
def test_feature_grid_has_a_row_for_each_branch(tiny_network, image):
    with torch.no_grad():
        branches = tiny_network.forward_branches(torch.rand(1, 3, 64, 96))
    picture = feature_grid(branches, image, channels=2, width=400)
    assert 380 <= picture.shape[1] <= 440
    assert picture.shape[0] > 4 * 40


def test_maps_of_several_images_are_refused():
    with pytest.raises(DataError, match=r"\(2, 3, 4, 4\)"):
        mean_map(torch.zeros(2, 3, 4, 4))

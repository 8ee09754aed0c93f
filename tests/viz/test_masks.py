import numpy as np
import pytest

from hrseg.errors import DataError
from hrseg.labels import Label, LabelSet, load_labels
from hrseg.viz import (
    class_shares,
    colorize,
    grid,
    overlay,
)

LABELS = load_labels("camvid")
RNG = np.random.default_rng(0)


def scene(height: int, width: int, classes: int = 11) -> tuple[np.ndarray, np.ndarray]:
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, RNG.integers(0, classes, (height, width)).astype(np.uint8)


def test_colors_are_the_palettes_and_unknown_ids_are_black():
    mask = np.array([[0, 10], [255, 11]])
    painted = colorize(mask, LABELS.palette)
    assert painted[0].tolist() == LABELS.palette[[0, 10]].tolist()
    assert (painted[1] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_overlay_mixes_image_and_color_by_hand(dtype):
    image = np.full((600, 3, 3), 100, np.uint8)
    mixed = overlay(image, np.full((600, 3), 3, dtype), LABELS, alpha=0.5, legend=False)
    assert mixed[0, 0].tolist() == [(100 + c) // 2 for c in LABELS.palette[3]]
    assert (mixed == mixed[0, 0]).all()


def test_pixels_without_a_class_keep_the_image():
    image, mask = scene(40, 50)
    mask[:] = 255
    np.testing.assert_array_equal(overlay(image, mask, LABELS, legend=False), image)


def test_a_light_line_is_drawn_between_classes_only():
    image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 1
    drawn = overlay(image, mask, LABELS, alpha=0.0, legend=False)
    assert drawn[:, 3].min() == 170
    assert np.delete(drawn, 3, axis=1).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (2, 900), (900, 2), (360, 480), (1500, 3000)])
@pytest.mark.parametrize("classes", [1, 11])
def test_the_legend_lies_below_wide_images_and_beside_tall_ones(size, classes):
    image, mask = scene(*size, classes=classes)
    picture = overlay(image, mask, LABELS)
    assert picture.dtype == np.uint8
    factor = max(1, 320 // max(size))
    high, wide = size[0] * factor, size[1] * factor
    below = wide >= 1.1 * high
    assert (picture.shape[0] > high) if below else (picture.shape[1] > wide)
    assert (picture.shape[1] >= wide) if below else (picture.shape[0] >= high)


def test_shares_are_sorted_and_what_has_no_class_comes_last():
    mask = np.array([[1, 1, 1, 0], [255, 255, 255, 255]])
    shares = class_shares(mask, LABELS)
    assert [(s.name, s.share) for s in shares] == [
        ("building", 0.375),
        ("sky", 0.125),
        ("no class", 0.5),
    ]


def test_a_hundred_and_fifty_classes_with_any_names_fit():
    rows = tuple(Label(i, i, f"Straße 道路 {i}", (i, 0, 0)) for i in range(150))
    image, mask = scene(300, 400, classes=150)
    assert overlay(image, mask, LabelSet("many", rows)).shape[1] >= 400


def test_image_and_mask_must_agree():
    with pytest.raises(DataError, match="image is 4 x 5, the mask 5 x 4"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), LABELS)


# Grids


def test_a_grid_holds_its_pictures_untouched():
    pictures = [np.full((20, 30, 3), value, np.uint8) for value in (10, 20, 30)]
    whole = grid(pictures, columns=2)
    for value in (10, 20, 30):
        assert (whole == value).all(axis=2).sum() == 600


def test_a_grid_keeps_to_its_width_and_enlarges_small_maps_by_repetition():
    pictures = [np.zeros((100, 200, 3), np.uint8), np.full((2, 4, 3), 7, np.uint8)]
    whole = grid(pictures, ["a", "a title far too long for its narrow panel " * 3], 2, width=200)
    assert 200 <= whole.shape[1] < 240
    assert (whole == 7).all(axis=2).sum() == 50 * 100


def test_a_grid_needs_a_title_for_each_picture():
    with pytest.raises(DataError, match="2 pictures and 1 titles"):
        grid([np.zeros((2, 2, 3), np.uint8)] * 2, ["one"])
    with pytest.raises(DataError, match="0 pictures"):
        grid([])

import numpy as np
import pytest
from scipy import ndimage

from hrseg.metrics.boundary import band_counts, band_scores, label_maps
from tests.metrics.test_boundary import scene


def test_bands_of_one_line_by_hand():
    truth = np.zeros((3, 10), np.uint8)
    truth[:, 5:] = 1
    found = truth.copy()
    found[:, 5] = 0  # the column right of the line is wrong
    iou, accuracy = band_scores(band_counts(*label_maps(truth, found), 2, [1, 2, 5]))
    # 1: columns 4 and 5, of which 4 is right; 2: columns 3 to 6; 5: all ten
    assert accuracy.tolist() == pytest.approx([1 / 2, 3 / 4, 9 / 10])
    assert iou[:, 0].tolist() == pytest.approx([1 / 2, 2 / 3, 5 / 6])
    assert iou[:, 1].tolist() == pytest.approx([0, 1 / 2, 4 / 5])


def test_a_band_as_wide_as_the_image_is_the_image():
    truth, found = scene(2)
    valid = truth != 255
    _, accuracy = band_scores(band_counts(*label_maps(truth, found), 4, [200]))
    assert accuracy[0] == pytest.approx((truth == found)[valid].mean())


@pytest.mark.parametrize("band", [1, 2, 4])
def test_bands_equal_the_distance_transform_of_scipy(band):
    truth, found = scene(3)
    valid = truth != 255
    touches = np.zeros(truth.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            other = np.roll(truth, step, axis)
            edge = np.arange(truth.shape[axis]) == (0 if step == 1 else truth.shape[axis] - 1)
            inside = ~np.expand_dims(edge, 1 - axis)
            touches |= (truth != other) & valid & (other != 255) & inside
    near = (ndimage.distance_transform_edt(~touches) < band) & valid
    counts = band_counts(*label_maps(truth, found), 4, [band])[0]
    assert counts[1].tolist() == np.bincount(truth[near], minlength=4).tolist()
    assert counts[0].tolist() == np.bincount(truth[near & (truth == found)], minlength=4).tolist()


def test_an_image_of_one_class_has_no_band():
    flat = np.zeros((5, 5), np.uint8)
    counts = band_counts(*label_maps(flat, flat), 2)
    assert not counts.any()
    assert np.isnan(band_scores(counts)[1]).all()

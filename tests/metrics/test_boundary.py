import numpy as np
import pytest
from scipy import ndimage

from hrseg.errors import ConfigError
from hrseg.metrics.boundary import (
    boundary_counts,
    boundary_iou,
    boundary_width,
    check_distances,
    contour,
    contour_counts,
    contour_scores,
    inner_boundary,
    label_maps,
)


def blobs(seed, size=(40, 52), classes=4):
    """Smooth random regions with a few pixels without label."""
    draw = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(draw.standard_normal((classes, *size)), (0, 4, 4))
    return field.argmax(axis=0).astype(np.uint8)


def scene(seed):
    truth, found = blobs(seed), blobs(seed)
    found = np.roll(found, (1, 2), axis=(0, 1))
    found[5:12, 30:40] = 3
    truth[20:24, 10:18] = 255
    truth[0, :3] = 255
    return truth, found


# Boundary IoU


def test_a_square_by_hand():
    # 5x5 of class 1 in the middle of 9x9: its ring of width 1 has 16 pixels, of width 2 has 24
    labels = np.ones((9, 9), np.uint8)
    labels[2:7, 2:7] = 2
    square = labels == 2
    assert (inner_boundary(labels, 1) & square).sum() == 16
    assert (inner_boundary(labels, 2) & square).sum() == 24
    assert not inner_boundary(labels, 2)[4, 4]
    # outside, width 1: the image's own border (32) and the ring around the square (24)
    assert (inner_boundary(labels, 1) & ~square).sum() == 32 + 24


def test_boundary_iou_of_a_shifted_square_by_hand():
    truth, found = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    truth[2:7, 2:7], found[2:7, 3:8] = 1, 1
    counts = boundary_counts(*label_maps(truth, found), 2, [1])
    # rings of 16 pixels each; they share top and bottom rows where they overlap, 4 + 4, and no column
    assert counts[0, :, 1].tolist() == [8, 16, 16]
    assert boundary_iou(counts)[0, 1] == pytest.approx(8 / 24)


def formulation(truth, found, classes, width):
    """Boundary IoU as its paper writes it: each mask minus its erosion, class by class."""
    valid = truth != 255
    scores = []
    for k in range(classes):
        rims = []
        for labels in (truth, found):
            mask = (labels == k) & valid
            worn = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=width)
            rims.append(mask & ~worn[1:-1, 1:-1])
        union = (rims[0] | rims[1]).sum()
        scores.append((rims[0] & rims[1]).sum() / union if union else np.nan)
    return scores


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [1, 3, 6])
def test_boundary_iou_equals_the_formulation_by_erosion(seed, width):
    truth, found = scene(seed)
    counts = boundary_counts(*label_maps(truth, found), 5, [width])
    expected = formulation(truth, found, 5, width)
    np.testing.assert_allclose(boundary_iou(counts)[0], expected)


def test_two_hundred_and_fifty_five_classes_fit():
    truth = np.full((4, 4), 254, np.uint8)
    truth[0] = 255
    counts = boundary_counts(*label_maps(truth, truth), 255, [1])
    assert counts[0, :, 254].tolist() == [10, 10, 10]
    assert counts[0, :, :254].sum() == 0


def test_what_stands_at_unlabelled_pixels_does_not_matter():
    truth, found = scene(1)
    other = np.where(truth == 255, 2, found)
    for count, argument in ((boundary_counts, [2]), (contour_counts, [1, 3])):
        one, two = (count(*label_maps(truth, pred), 4, argument) for pred in (found, other))
        assert np.array_equal(one, two)


def test_the_width_follows_the_diagonal():
    assert boundary_width(1024, 2048) == 46
    assert boundary_width(3, 4) == 1


# F at k pixels


def test_contours_by_hand():
    labels = np.array([[1, 1, 2], [1, 1, 2], [0, 1, 1]], np.uint8)
    assert contour(labels).astype(int).tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 1]]


def test_a_line_moved_by_two_pixels_is_met_at_two():
    truth, found = np.zeros((6, 12), np.uint8), np.zeros((6, 12), np.uint8)
    truth[:, 5:], found[:, 7:] = 1, 1
    counts = contour_counts(*label_maps(truth, found), 2, [1, 2, 3])
    assert counts[:, :, 1].tolist() == [[6, 0, 6, 6], [6, 0, 6, 6]]
    assert contour_scores(counts)[2][:, 0].tolist() == [0, 1, 1]


def test_precision_and_recall_differ_where_one_map_has_more_contours():
    truth, found = np.zeros((6, 30), np.uint8), np.zeros((6, 30), np.uint8)
    truth[:, 5:], found[:, 5:] = 1, 1
    found[:, 20:] = 0  # a contour that is not there
    precision, recall, f = contour_scores(contour_counts(*label_maps(truth, found), 2, [2]))
    assert (recall[0, 1], precision[0, 1]) == (1, 0.5)
    assert f[0, 1] == pytest.approx(2 / 3)


def test_f_is_zero_where_one_side_lacks_the_class_and_absent_where_both_do():
    truth, found = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    truth[:, 4:] = 1
    _, _, f = contour_scores(contour_counts(*label_maps(truth, found), 3, [1]))
    assert f[0, :2].tolist() == [0, 0]
    assert np.isnan(f[0, 2])


def by_dilation(truth, found, classes, far):
    """The same with discs: a contour pixel is met where the other contour, grown by a disc, covers it."""
    grid = np.hypot(*np.mgrid[-far : far + 1, -far : far + 1])
    lines = [contour(labels) for labels in (truth, found)]
    shares = []
    for k in range(1, classes + 1):
        mine, theirs = (line & (labels == k) for line, labels in zip(lines, (truth, found), strict=True))
        for one, other in ((mine, theirs), (theirs, mine)):
            shares.append((one & ndimage.binary_dilation(other, grid <= far)).sum())
    return np.array(shares).reshape(classes, 2).T


@pytest.mark.parametrize("seed", range(4))
def test_met_contours_equal_the_formulation_by_discs(seed):
    maps = label_maps(*scene(seed))
    counts = contour_counts(*maps, 4, [1, 2, 5])
    for row, far in enumerate((1, 2, 5), start=1):
        assert np.array_equal(counts[:, row], by_dilation(*maps, 4, far))


@pytest.mark.parametrize("values", [(), (0, 1), (3, 2), (2, 2)])
def test_distances_that_cannot_be_measured_are_refused(values):
    with pytest.raises(ConfigError, match="rising order"):
        check_distances("Distances", values)

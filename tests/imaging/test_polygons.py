import numpy as np
import pytest
from pycocotools import mask as oracle

from hrseg.imaging.polygons import area, box, ellipse, fill, place, simplify, trace, union


def painted(patch, size):
    out = np.zeros(size, dtype=bool)
    height, width = patch.pixels.shape
    out[patch.top : patch.top + height, patch.left : patch.left + width] = patch.pixels
    return out


def drawn(rings, size):
    return painted(fill([np.array(ring, float) for ring in rings], size), size).astype(int).tolist()


def test_a_pixel_belongs_to_the_polygon_that_holds_its_center():
    assert drawn([[(1, 0), (3, 0), (3, 2), (1, 2)]], (3, 4)) == [
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
    ]
    # centers at 0.5: the left and upper edge includes them, the right and lower one does not
    assert drawn([[(0.5, 0.5), (2.5, 0.5), (2.5, 1.5), (0.5, 1.5)]], (2, 4)) == [
        [1, 1, 0, 0],
        [0, 0, 0, 0],
    ]
    triangle = [(0, 0), (4, 0), (0, 4)]
    assert drawn([triangle], (4, 4)) == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_the_direction_of_a_ring_does_not_matter():
    ring = [(0.3, 0.2), (3.7, 1.1), (2.2, 3.9), (1, 2)]
    assert drawn([ring], (4, 4)) == drawn([ring[::-1]], (4, 4))


def test_a_ring_inside_a_ring_is_a_hole():
    outer, inner = [(0, 0), (4, 0), (4, 3), (0, 3)], [(1, 1), (3, 1), (3, 2), (1, 2)]
    assert drawn([outer, inner], (3, 4)) == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]


def test_what_lies_outside_the_image_is_cut_off():
    big = [(-5, -7), (2, -7), (2, 1), (-5, 1)]
    assert drawn([big], (2, 3)) == [[1, 1, 0], [0, 0, 0]]
    assert drawn([[(-9, -9), (99, -9), (99, 99), (-9, 99)]], (2, 3)) == [[1, 1, 1]] * 2
    assert not fill([np.array([(10.0, 0), (12, 0), (12, 2)])], (2, 3)).pixels.any()
    assert not fill([], (2, 3)).pixels.any()


def test_neighbors_with_a_common_edge_leave_no_gap_and_do_not_overlap():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b, c, d = rng.random((4, 2)) * 20
        size = (20, 20)
        left = painted(fill([np.array([a, b, c])], size), size).astype(int)
        right = painted(fill([np.array([a, c, d])], size), size).astype(int)
        both = painted(fill([np.array([a, b, c]), np.array([a, c, d])], size), size).astype(int)
        assert ((left + right) % 2 == both).all()


def test_polygons_of_whole_pixels_equal_coco_and_others_differ_at_the_border_only():
    rng = np.random.default_rng(1)
    size, different, total = (60, 80), 0, 0
    for _ in range(60):
        x0, y0, x1, y1 = rng.integers(0, 60, 4)
        ring = box(min(x0, x1), min(y0, y1), max(x0, x1) + 1, max(y0, y1) + 1)
        theirs = oracle.decode(oracle.frPyObjects([ring.ravel().tolist()], *size))[..., 0]
        assert (painted(fill([ring], size), size) == theirs).all()
        ring = rng.random((7, 2)) * (80, 60)
        theirs = oracle.decode(oracle.frPyObjects([ring.ravel().tolist()], *size))[..., 0]
        different += (painted(fill([ring], size), size) != theirs).sum()
        total += theirs.sum()
    assert different / total < 0.03


def test_several_polygons_are_joined():
    first, second = box(0, 0, 2, 1), box(1, 0, 3, 1)
    assert painted(union([first, second], (1, 4)), (1, 4)).astype(int).tolist() == [[1, 1, 1, 0]]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_traced_outlines_give_the_mask_back(share):
    rng = np.random.default_rng(2)
    for _ in range(40):
        size = tuple(rng.integers(1, 25, 2))
        mask = rng.random(size) < share
        rings = trace(mask)
        assert (painted(fill(rings, size), size) == mask).all()
        assert sum(map(area, rings)) == mask.sum()


def test_outlines_split_where_pixels_touch_at_a_corner_only():
    rings = trace(np.array([[1, 0], [0, 1]], bool))
    assert [ring.tolist() for ring in rings] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]
    assert trace(np.zeros((3, 3), bool)) == []


def test_a_turned_box_and_an_ellipse_have_the_right_area():
    size = (200, 300)
    turned = fill([box(100, 50, 200, 150, 45)], size)
    assert abs(turned.pixels.sum() - 100 * 100) < 100
    assert fill([box(10, 10, 30, 20, 90)], size).pixels.shape == (20, 10)
    assert abs(fill([ellipse(150, 100, 90, 60)], size).pixels.sum() - np.pi * 90 * 60) < 60
    assert fill([ellipse(150, 100, 60, 20, 90)], size).pixels.shape == (120, 40)


def test_pixels_are_laid_anywhere_and_cut():
    patch = place(np.ones((3, 3)), -1, 2, (4, 4))
    assert painted(patch, (4, 4)).sum() == 2 * 2
    assert not place(np.ones((2, 2)), 9, 9, (4, 4)).pixels.size


def test_simplified_outlines_stay_within_the_tolerance():
    y, x = np.mgrid[:80, :80]
    mask = (x - 40) ** 2 + (y - 40) ** 2 < 900
    ring = max(trace(mask), key=area)
    short = simplify(ring, 1.0)
    assert len(short) < len(ring) / 3
    changed = painted(fill([short], mask.shape), mask.shape) != mask
    distance = np.abs(np.hypot(x + 0.5 - 40, y + 0.5 - 40) - 30)
    assert distance[changed].max() < 2.5
    assert simplify(ring, 0) is ring

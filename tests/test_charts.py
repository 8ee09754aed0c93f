import math

import numpy as np
import pytest

from hrseg.viz.canvas import BLUE, ORANGE, Canvas
from hrseg.viz.charts import _apart, _range, confusion, curves


def near(picture, color, tolerance=6):
    return (np.abs(picture.astype(int) - color).max(axis=2) <= tolerance).sum()


def test_a_sheet_has_two_pixels_for_each_of_the_pages():
    sheet = Canvas(30, 20)
    sheet.box(10, 5, 20, 15, BLUE)
    picture = sheet.picture()
    assert picture.shape == (40, 60, 3)
    assert near(picture, BLUE) == 20 * 20
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_words_upward_are_as_long_as_words_along():
    rows = []
    for upward in (False, True):
        sheet = Canvas(140, 140)
        sheet.text((40, 120), "pedestrian", 13, upward=upward)
        dark = sheet.picture().min(axis=2) < 128
        axis = 1 if upward else 0
        lit = np.flatnonzero(dark.any(axis=axis))
        rows.append(int(lit[-1] - lit[0]))
    assert abs(rows[0] - rows[1]) <= 2


def test_dashes_leave_gaps():
    solid, dashed = Canvas(100, 10), Canvas(100, 10)
    solid.line([(0, 5), (100, 5)], BLUE, 2)
    dashed.line([(0, 5), (100, 5)], BLUE, 2, dash=5)
    assert near(dashed.picture(), BLUE) == pytest.approx(near(solid.picture(), BLUE) / 2, rel=0.1)


def test_a_curve_that_lies_higher_is_drawn_higher():
    picture = curves({"low": [0.2, 0.3], "high": [0.7, 0.9]}, ["a", "b"], "t", "x")
    # dots and lines of the first series are blue, of the second orange
    rows = [
        np.flatnonzero((np.abs(picture.astype(int) - color).max(axis=2) < 6).any(axis=1)).mean()
        for color in (BLUE, ORANGE)
    ]
    assert rows[0] > rows[1]


def test_curves_with_gaps_and_without_any_value_are_drawn():
    for values in ([math.nan, 0.5, math.nan], [math.nan] * 3):
        assert curves({"a": values}, ["1", "2", "3"], "t", "x").ndim == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.33, 0.91], (0.3, 1.0)), ([0.5, 0.5], (0.4, 0.6)), ([1.0], (0.9, 1.0)), ([], (0.0, 1.0))],
)
def test_the_scale_holds_all_values_in_tens(values, expected):
    assert _range(np.array(values)) == pytest.approx(expected)


def test_names_that_would_meet_move_apart():
    assert _apart([10, 12, 100], 17) == [10, 27, 100]


@pytest.mark.parametrize("classes", [1, 11, 19, 150])
def test_confusions_of_any_number_of_classes_are_drawn(classes):
    matrix = np.diag(np.full(classes, 10))
    picture = confusion(matrix, [f"class {k}" for k in range(classes)])
    assert max(picture.shape) < 2400
    # the diagonal is dark blue, nothing is orange
    assert near(picture, (16, 45, 100)) > 50 * classes
    assert near(picture, (240, 140, 70), 20) == 0


def test_an_error_is_orange_and_an_absent_class_gray():
    picture = confusion(np.array([[5, 5, 0], [0, 9, 0], [0, 0, 0]]), ["a", "b", "c"])
    reds = picture[..., 0].astype(int) - picture[..., 2]
    assert (reds > 60).sum() > 1000
    assert near(picture, (244, 245, 247), 0) > 3000

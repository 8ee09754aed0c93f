import logging
import math
import re

import numpy as np
import pytest

from hrseg.imaging import read_image
from hrseg.viz.charts import Confusion, Curves, Reliability, save_chart
from hrseg.viz.pages import _environment

BLUE, ORANGE = (38, 98, 184), (208, 98, 26)
CURVES = Curves("t <b>", "note", "x", ["a", "b"], {"low": [0.2, 0.3], "high": [0.7, 0.9]})
BINS = Reliability(np.array([[4.0, 0.8, 1.0], [0, 0, 0], [12, 10.8, 12]]))


def near(picture, color, tolerance=6):
    return np.abs(picture.astype(int) - color).max(axis=2) <= tolerance


def drawn(chart, tmp_path):
    save_chart(chart, tmp_path / "c.png")
    return read_image(tmp_path / "c.png")


def svg(name, chart):
    return str(getattr(_environment().get_template("charts.html").module, name)(chart))


def test_a_curve_of_higher_values_is_drawn_higher(tmp_path):
    picture = drawn(CURVES, tmp_path)
    rows = [np.flatnonzero(near(picture, color).any(axis=1)).mean() for color in (BLUE, ORANGE)]
    assert rows[0] > rows[1]
    lines = re.findall(r'polyline points="([\d., ]+)"', svg("curves", CURVES))
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert min(heights[0]) > max(heights[1])  # SVG counts rows downwards


def test_curves_with_gaps_and_without_any_value_are_drawn(tmp_path):
    for values in ([math.nan, 0.5, math.nan], [math.nan] * 3):
        chart = Curves("t", "n", "x", ["1", "2", "3"], {"a": values})
        assert drawn(chart, tmp_path).ndim == 3
        assert "nan" not in svg("curves", chart)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.33, 0.91], (0.3, 1.0)), ([0.5, 0.5], (0.4, 0.6)), ([1.0], (0.9, 1.0)), ([], (0.0, 1.0))],
)
def test_the_scale_holds_all_values_in_tens(values, expected):
    chart = Curves("t", "n", "x", [], {"a": values})
    assert chart.limits == pytest.approx(expected)
    assert chart.grid[0][1] == 0
    assert chart.grid[-1] == (f"{100 * expected[1]:.0f}", 1)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 11, 150])
def test_confusions_of_any_number_of_classes_are_drawn(classes, tmp_path):
    names = [f"class {k}" for k in range(classes)]
    chart = Confusion(np.diag(np.full(classes, 10)), names)
    picture = drawn(chart, tmp_path)
    assert max(picture.shape) < 2400
    assert near(picture, (8, 48, 107), 3).sum() > 50 * classes  # the diagonal is dark blue
    assert (picture[..., 0].astype(int) - picture[..., 2]).max() < 60  # nothing is orange
    page = svg("confusion", chart)
    assert page.count('class="hit"') == classes
    assert 'class="miss"' not in page


def test_an_error_is_orange_and_an_absent_class_gray(tmp_path):
    chart = Confusion(np.array([[5, 5, 0], [0, 9, 0], [0, 0, 0]]), ["a", "b", "c"])
    picture = drawn(chart, tmp_path)
    assert (picture[..., 0].astype(int) - picture[..., 2] > 60).sum() > 1000
    assert near(picture, (244, 244, 244), 1).sum() > 3000
    page = svg("confusion", chart)
    assert [page.count(f'class="{name}"') for name in ("hit", "miss", "absent")] == [2, 1, 1]
    assert "a as b: 50.0 %" in page


def test_reliability_has_a_bar_for_each_bin_with_pixels(tmp_path):
    assert BINS.bars == [(0, 0.25, pytest.approx(0.2), 0.25), (2 / 3, 1, pytest.approx(0.9), 0.75)]
    assert near(drawn(BINS, tmp_path), BLUE).sum() > 1000
    assert svg("reliability", BINS).count('class="share"') == 2


def test_hostile_names_are_drawn_as_they_are(tmp_path, caplog, recwarn):
    names = ["$\\frac{$", "<script>", "道路", "a\nb", "x" * 300]
    with caplog.at_level(logging.WARNING):
        drawn(Confusion(np.ones((5, 5), int), names), tmp_path)
    assert not caplog.records
    page = svg("confusion", Confusion(np.ones((5, 5), int), names))
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_charts_open_no_window_and_keep_the_settings_of_others(tmp_path):
    drawn(CURVES, tmp_path)
    import matplotlib.pyplot

    assert matplotlib.pyplot.get_fignums() == []
    assert matplotlib.rcParams["text.parse_math"]

from itertools import pairwise

import pytest

from hrseg.inference.window_grid import WINDOW_PIXELS, default_window, plan_windows


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_windows_on_the_grid_cover_every_pixel_and_share_as_much_as_was_asked(overlap):
    for length in range(20, 400, 13):
        grid = plan_windows((length, 96), (96, 96), overlap)
        spans, step = grid.rows, 96 - grid.shared[0]
        assert spans[0][0] == 0
        assert sum(spans[-1]) == length
        assert all(start % 32 == 0 for start, _ in spans)
        assert all(
            b - a <= step <= max(32, 96 * (1 - overlap)) for (a, _), (b, _) in pairwise(spans)
        )
        assert all(n == 96 for _, n in spans[:-1])
        assert spans[-1][1] <= 96
        assert len(spans) == 1 or spans[-1][1] > 96 - 32
        assert grid.size == (length, 96)


def test_windows_that_count_equally_lie_as_published_protocols_have_them():
    # start = stride * i, and the last is shifted so that it ends with the image
    grid = plan_windows((600, 520), (520, 520), stride=(346, 346), blend="equal")
    assert (grid.rows, grid.columns) == (((0, 520), (80, 520)), ((0, 520),))
    for length in range(520, 1400, 7):
        spans = plan_windows((length, 520), (520, 520), stride=(346, 346), blend="equal").rows
        count = -(-(length - 520) // 346) + 1
        assert [start for start, _ in spans] == [min(346 * i, length - 520) for i in range(count)]
        assert {n for _, n in spans} == {520}


def test_the_default_window_has_no_more_pixels_than_asked_whatever_the_scale():
    for scale in (1.0, 1.25, 1.5, 2.0, 4.0):
        side = default_window(WINDOW_PIXELS / scale**2)[0]
        assert side % 32 == 0
        assert (side * scale) ** 2 <= WINDOW_PIXELS < ((side + 32) * scale) ** 2

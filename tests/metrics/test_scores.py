import numpy as np
import pytest

from hrseg.metrics.scores import image_scores, results
from tests.metrics.test_statistics import NAMES, statistics


def test_an_image_is_judged_by_the_classes_of_its_mask():
    # class 0: 6 of 8 hits and nothing else → 6/8; class 2 is only predicted, and only takes from 0
    matrix = np.array([[6, 0, 2], [0, 2, 0], [0, 0, 0]])
    assert image_scores(matrix[None]).tolist() == [(6 / 8 + 1) / 2]


def test_what_is_most_often_confused_is_named():
    stored = statistics()
    true, chosen, share = results(stored).confusions(1)[0]
    matrix = stored.records.matrices.sum(axis=0)
    shares = matrix / matrix.sum(axis=1, keepdims=True)
    np.fill_diagonal(shares, 0)
    assert share == pytest.approx(shares.max())
    assert shares[NAMES.index(true), NAMES.index(chosen)] == pytest.approx(share)

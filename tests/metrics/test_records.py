import numpy as np
import pytest

from hrseg.errors import DataError
from hrseg.metrics.records import ImageRecords, merge_ranks, read_records

ROWS = np.array([[[3, 1], [0, 4]], [[2, 0], [0, 0]]])
LEDGER = ImageRecords(("a", "b"), ("road", "sky"), ROWS, "m")


def test_scores_are_those_of_the_sum():
    # road: 5 hits, 6 true, 5 found → 5/6; sky: 4 hits, 4 true, 5 found → 4/5
    assert LEDGER.scores()["iou"].tolist() == pytest.approx([5 / 6, 4 / 5])


def test_a_ledger_comes_back_from_its_file(tmp_path):
    LEDGER.save(tmp_path / "l.npz")
    back = read_records(tmp_path / "l.npz")
    assert (back.names, back.classes, back.model) == (LEDGER.names, LEDGER.classes, "m")
    assert np.array_equal(back.matrices, ROWS)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "l.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a ledger"):
        read_records(path)


def test_a_pickle_in_disguise_is_not_opened(tmp_path):
    path = tmp_path / "l.npz"
    np.savez(path, about=np.array([object()], dtype=object), names=[], matrices=[])
    with pytest.raises(DataError, match="not a ledger"):
        read_records(path)


def test_fillers_of_unequal_shards_count_nowhere():
    empty = np.zeros((2, 2), dtype=np.int64)
    assert [name for name, _ in merge_ranks([[("b", ROWS[1]), ("a", empty)], [("a", ROWS[0])]])] == [
        "a",
        "b",
    ]
    (row,) = merge_ranks([[("a", empty)], [("a", ROWS[0])]])
    assert np.array_equal(row[1], ROWS[0])


def test_matrices_must_fit_names_and_classes():
    with pytest.raises(DataError, match=r"\(1, 2, 2\)"):
        ImageRecords(("a",), ("road", "sky"), ROWS)


def test_a_ledger_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"l\.npz cannot be opened: No such file or directory\. Write"):
        read_records(tmp_path / "l.npz")

import numpy as np
import pytest

from hrseg.errors import DataError
from hrseg.inference.large.journal import Journal

FACTS = {"model": "m", "window": (64, 96)}


def strip(number, rows=4):
    return {
        "mask": np.full((rows, 5), number, np.uint8),
        "confidence": np.full((rows, 5), number / 7, np.float32),
    }


def written(folder, count=3):
    journal = Journal(folder, FACTS)
    journal.begin()
    for number in range(count):
        journal.put(4 * (number + 1), strip(number), counts=[number])
    journal.close()
    return folder


def test_strips_come_back_with_their_rows_types_and_numbers(tmp_path):
    journal = Journal(written(tmp_path / "j"), FACTS)
    assert journal.rows == 12
    assert [one["counts"] for one in journal.strips] == [[0], [1], [2]]
    for name in ("mask", "confidence"):
        for number, (top, values) in enumerate(journal.read(name)):
            assert top == 4 * number
            assert values.dtype == strip(number)[name].dtype
            assert (values == strip(number)[name]).all()
    journal.remove()
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("name", ["journal.jsonl", "mask.z", "confidence.z"])
def test_what_was_not_written_to_its_end_is_taken_back(tmp_path, name):
    folder = written(tmp_path / "j")
    file = folder / name
    file.write_bytes(file.read_bytes()[:-3])
    journal = Journal(folder, FACTS)
    assert journal.rows == 8
    journal.put(12, strip(9), counts=[9])
    assert [int(values[0, 0]) for _, values in journal.read("mask")] == [0, 1, 9]
    journal.close()


def test_strips_of_other_settings_are_discarded_and_the_setting_is_named(tmp_path, caplog):
    journal = Journal(written(tmp_path / "j"), FACTS | {"window": (64, 64)})
    assert (journal.rows, journal.header) == (0, {})
    assert "finished 12 rows, but with another window" in caplog.text
    journal.close()


def test_a_second_run_and_damaged_strips_are_refused(tmp_path):
    folder = written(tmp_path / "j")
    journal = Journal(folder, FACTS)
    with pytest.raises(DataError, match="a run that is still writing"):
        Journal(folder, FACTS)
    content = bytearray((folder / "mask.z").read_bytes())
    content[2] ^= 255
    (folder / "mask.z").write_bytes(content)
    with pytest.raises(DataError, match="are damaged"):
        list(journal.read("mask"))
    journal.close()

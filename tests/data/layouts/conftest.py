"""Drawn trees of any layout."""

import pytest

from hrseg.data.synthetic import write_scenes

SIZE = (16, 24)


@pytest.fixture
def tree(tmp_path):
    def write(layout, **splits):
        write_scenes(tmp_path, layout, splits or {"train": 3, "val": 2}, SIZE)
        return tmp_path

    return write

from pathlib import Path

import pytest

from hrseg.errors import ConfigError
from hrseg.migrate.python_files import merge, read_python_config


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_plain_assignments_are_read(tmp_path):
    path = write(
        tmp_path,
        "a.py",
        '"""Doc."""\nsize = (512, 1024)\nwide = sum([18, 36, 72, 144])\nx = dict(a=-1, b=[2 * 3], **{})\n'.replace(
            ", **{}", ""
        )
        + "x['c'] = size[0]\nrates = [dict(f=r) for r in [0.5, 1.0]]\ngone = 1\ndel gone\n",
    )
    assert read_python_config(path) == {
        "size": (512, 1024),
        "wide": 270,
        "x": {"a": -1, "b": [6], "c": 512},
        "rates": [{"f": 0.5}, {"f": 1.0}],
    }


def test_bases_merge_in_order_and_deletion_replaces(tmp_path):
    write(tmp_path, "base/one.py", "m = dict(a=1, inner=dict(b=2, c=3))\ncrop = (4, 5)\n")
    write(tmp_path, "base/two.py", "n = [1, 2]\nopt = dict(type='SGD', lr=1)\n")
    path = write(
        tmp_path,
        "leaf.py",
        "_base_ = ['base/one.py', './base/two.py']\n"
        "m = dict(inner=dict(b=7), crop={{_base_.crop}})\n"
        "opt = dict(_delete_=True, type='AdamW')\n",
    )
    assert read_python_config(path) == {
        "m": {"a": 1, "inner": {"b": 7, "c": 3}, "crop": (4, 5)},
        "crop": (4, 5),
        "n": [1, 2],
        "opt": {"type": "AdamW"},
    }


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "from os import path",
        "x = __import__('os').system('touch HERE')",
        "x = open('HERE', 'w')",
        "def f(): pass",
        "x = (lambda: 1)()",
        "x = [1].__class__",
        "x = 10 ** 10",
        "for i in [1]: x = i",
        "with read_base():\n    from .b import *",
        "x = {**{'a': 1}}",
        "x = dict(**{'a': 1})",
        "x = [0] * 10000000000",
        "x = f'{1}'",
        "x = unknown",
        "x = [i for i in [1] if i]",
    ],
)
def test_more_than_plain_data_is_refused_and_not_run(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"read, never\s+run"):
        read_python_config(write(tmp_path, "evil.py", f"y = 1\n{line}\n"))
    assert not (tmp_path / "HERE").exists()


def test_the_message_names_the_line(tmp_path):
    with pytest.raises(ConfigError, match="line 3"):
        read_python_config(write(tmp_path, "a.py", "x = 1\n\nimport os\n"))


def test_a_missing_base_is_named_with_the_file_that_asked(tmp_path):
    path = write(tmp_path, "leaf.py", "_base_ = 'gone.py'\n")
    with pytest.raises(ConfigError, match=r"gone\.py, which leaf\.py builds on"):
        read_python_config(path)


def test_a_circle_of_bases_is_refused(tmp_path):
    write(tmp_path, "a.py", "_base_ = 'b.py'\n")
    path = write(tmp_path, "b.py", "_base_ = 'a.py'\n")
    with pytest.raises(ConfigError, match="builds on itself"):
        read_python_config(path)


@pytest.mark.parametrize("content", ["x = (", "x = 1 / 0", "x = [1][5]", "x = {'a': 1}['b']"])
def test_broken_values_are_one_paragraph(tmp_path, content):
    with pytest.raises(ConfigError, match=r"not valid Python|cannot be worked out"):
        read_python_config(write(tmp_path, "a.py", content))


def test_digits_change_items_of_a_list():
    assert merge([{"a": 1}, {"a": 2}], {"1": {"a": 3}}) == [{"a": 1}, {"a": 3}]

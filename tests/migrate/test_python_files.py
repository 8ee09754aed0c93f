import os
import time
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


def laughs(twice: str) -> str:
    return "\n".join(["a0 = [1]", *(f"a{i + 1} = {twice.format(f'a{i}')}" for i in range(60))])


HOSTILE = {
    "lists joined one by one": "a = [0] * 10000\nb = sum([a] * 10000, [])",
    "pairs joined one by one": "a = (0,) * 10000\nb = sum([a] * 10000, ())",
    "nested comprehensions": f"x = {list(range(1000))}\ny = [[[0 for a in x] for b in x] for c in x]",
    "comprehensions on one level": f"x = {list(range(1000))}\ny = [[0] * 9999 for a in x]",
    "tables that hold each other": laughs("dict(x={0}, y={0})"),
    "lists that hold each other": laughs("[{0}, {0}]"),
    "copies that hold each other": laughs("dict(dict(x={0}), y={0})"),
    "a key that hashes for ever": laughs("({0}, {0})") + "\nb = {a60: 1}",
    "a place that hashes for ever": laughs("({0}, {0})") + "\nb = {}\nb[a60] = 1",
    "lists that compare for ever": laughs("[{0}, {0}]")
    + laughs("\n[{0}, {0}]").replace("a", "b")
    + "\nc = max(a60, b60)",
    "keys of one hash": f"b = {{{', '.join(f'{i * (2**61 - 1)}: 0' for i in range(1, 9000))}}}",
    "a long text": "a = 'x' * 10000 * 10000",
    "a long list": "a = [0] * 10000 * 10000",
    "a longer list": "a = [0] * 10000000000",
    "a table in itself": "a = {}\na['b'] = a",
    "a list in itself": "a = [0]\na[0] = a",
    "a chain of signs": f"a = {'-' * 3000}1",
    "a chain of sums": f"a = {'+'.join(['1'] * 3000)}",
    "brackets": f"a = {'[' * 150}{']' * 150}",
    "a base that is a number": "_base_ = [1]",
    "a base that is nothing": "_base_ = None",
    "a list as a place": "a = [1]\na[[1]] = 2",
    "a place that is not there": "a = [1]\na[5] = 2",
    "a number of 5,000 digits": f"a = {'9' * 5000}",
    "a device": "_base_ = '/dev/zero'",
    "a folder": "_base_ = '.'",
    "a large file": f"# {'x' * 300_000}",
    "no text": "\udcff",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_config_is_one_paragraph_in_little_time(tmp_path, kind):
    path = tmp_path / "a.py"
    path.write_bytes(HOSTILE[kind].encode(errors="surrogateescape"))
    before = time.process_time()
    with pytest.raises(ConfigError) as error:
        read_python_config(path)
    assert time.process_time() - before < 5
    assert "\n" not in str(error.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(ConfigError, match="is no file"):
        read_python_config(write(tmp_path, "a.py", "_base_ = 'pipe.py'"))


def test_a_fan_of_bases_reads_each_file_once(tmp_path):
    for level in range(8):
        names = [f"f{level + 1}.py"] * 30
        write(tmp_path, f"f{level}.py", f"_base_ = {names}\nx{level} = dict(a={level})\n")
    write(tmp_path, "f8.py", "y = [1]\n")
    values = read_python_config(tmp_path / "f0.py")
    assert values == {"y": [1], **{f"x{level}": {"a": level} for level in range(8)}}


def test_a_change_of_a_base_stays_in_its_file(tmp_path):
    write(tmp_path, "base.py", "m = dict(a=1)\n")
    write(tmp_path, "one.py", "_base_ = 'base.py'\nn = m\nn['a'] = 2\n")
    path = write(tmp_path, "leaf.py", "_base_ = ['one.py', 'base.py']\n")
    assert read_python_config(path) == {"m": {"a": 1}, "n": {"a": 2}}

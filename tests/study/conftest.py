"""A folder to work in, the smallest recipe, and a stand-in for training."""

from pathlib import Path

import pytest
import yaml

import hrseg
from hrseg.data.split import divide, write_lists
from hrseg.data.synthetic import write_scenes
from hrseg.study import train
from tests.small import WORDS

TINY = tuple(word for word in WORDS if not word.startswith("run."))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(hrseg.__file__).parents[1]))  # for the runs
    return tmp_path


@pytest.fixture
def recipe(tmp_path):
    """A recipe file of the smallest run."""
    path = tmp_path / "tiny.yaml"
    tree: dict = {}
    for word in TINY:
        key, value = word.split("=")
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = yaml.safe_load(value)
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def folds(tmp_path):
    """Write a small dataset with lists of folds, and return the overrides that name it."""

    def write(count):
        write_scenes(tmp_path / "mine", "folder", {"train": 6, "val": 2}, (32, 64))
        write_lists(divide(tmp_path / "mine", folds=count, pool="all"))
        return ["data.layout=folder", f"data.root={tmp_path / 'mine'}"]

    return write


@pytest.fixture
def trained(monkeypatch):
    """Stand-in for training: notes what would run and gives a score that depends on the seed."""
    ran = []

    def pretend(run, label, lock):
        ran.append((run.variant, run.seed))
        if run.variant == "broken":
            return "The disk is full."
        folder = run.parent / run.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "last.ckpt").touch()
        return None

    monkeypatch.setattr(train, "_fit", pretend)
    monkeypatch.setattr(train, "_score", lambda run, folder: 0.5 + 0.1 * int(folder.name[-1]))
    return ran


PAIR = {"plain": (), "final": ("model.exchange=final",)}

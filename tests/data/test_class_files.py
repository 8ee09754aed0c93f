"""Every verb that reads classes says the same about every form of class file."""

import contextlib
import io
import json

import numpy as np
import pytest

from hrseg.cli.main import main
from hrseg.config import load_config
from hrseg.data.check import check, write_recipe
from hrseg.data.datamodule import SegmentationData
from hrseg.data.split import divide
from hrseg.data.stats import stats
from hrseg.errors import DataError
from hrseg.imaging import read_mask, write_image, write_mask
from hrseg.training.build import build_data
from tests.data.class_files import BROKEN, FORMS, NAMES

SEEN = ("background", "road")  # the third is in no mask


def tree(root):
    """Write six images with masks of ids 0 and 1, divided."""
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            rng = np.random.default_rng(10 * count + number)
            write_image(root / f"images/{split}/{number}.png", rng.integers(0, 255, (32, 32, 3), np.uint8))
            mask = np.zeros((32, 32), np.uint8)
            mask[: 8 + number] = 1
            write_mask(root / f"masks/{split}/{number}.png", mask)
    return root


def put(root, forms, case):
    name, text, *_ = forms[case]
    (root / name).write_text(text, encoding="utf-8", newline="")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_all_verbs_agree(tmp_path, form, monkeypatch):
    root = put(tree(tmp_path / "set"), FORMS, form)
    found = check(root, workers=1)
    assert [row.name for row in found.classes] == list(SEEN)
    assert not found.errors
    write_recipe(found.recipe, tmp_path / "mine.yaml")
    assert build_data(load_config(str(tmp_path / "mine.yaml"))).labels.names == NAMES
    counted = stats(root, workers=1)
    assert counted.labels.names == NAMES
    assert set(counted.splits["train"].pixels) == set(SEEN)
    assert divide(root, val=0.4, pool="all").names == dict(enumerate(NAMES))
    assert SegmentationData(layout="folder", root=root, crop=(16, 16)).labels.names == NAMES
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        words = ["--from", "colors", "--classes", str(root / FORMS[form][0]), "--json"]
        assert main(["data", "convert", str(root), "-o", "out", *words]) == 0
        assert main(["data", "browse", "set", "--images", "1", "--variants", "1"]) == 0
    assert json.loads(out.getvalue().split("\nOpen")[0])["tool"] == "colors"
    assert SegmentationData(layout="folder", root="out", crop=(16, 16)).labels.names == NAMES
    assert (read_mask("out/masks/train/1.png") == read_mask("set/masks/train/1.png")).all()
    assert json.dumps(NAMES) in (tmp_path / "samples.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", ["YAML with a slip", "a name twice", "a control sign", "a quote", "300 classes"])
def test_no_verb_passes_over_a_file_that_cannot_be_read(tmp_path, case, capsys):
    root = put(tree(tmp_path / "set"), BROKEN, case)
    name = BROKEN[case][0]
    for refusing in (
        lambda: stats(root, workers=1),
        lambda: divide(root, val=0.4, pool="all"),
        lambda: SegmentationData(layout="folder", root=root, crop=(16, 16)),
    ):
        with pytest.raises(DataError, match=name):
            refusing()
    assert main(["data", "convert", str(root), "-o", str(tmp_path / "out")]) == 2
    assert main(["data", "browse", str(root), "-o", str(tmp_path / "out.html")]) == 2
    assert capsys.readouterr().err.count(name) == 2
    assert not list(tmp_path.glob("out*"))
    assert main(["data", "check", str(root), "--workers", "1"]) == 2  # a finding in the report
    report = capsys.readouterr().out
    assert name in report
    assert "2 classes" in report or "road" in report or "foreground" in report


def test_split_names_what_is_missing_and_leaves_ignored_ids_alone(tmp_path):
    root = tree(tmp_path)
    mask = read_mask(root / "masks/train/3.png")
    mask[-1] = 2
    mask[-2] = 7
    write_mask(root / "masks/train/3.png", mask)
    (root / "labels.yaml").write_text("classes: [background, road, car]\nignore: [7]\n")
    division = divide(root, val=0.4, pool="all")
    assert {name for values in division.missing().values() for name in values} == {2}
    assert "holds car: too few" in division.text([root / "train.txt", root / "val.txt"])

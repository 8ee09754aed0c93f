"""Audits of drawn scenes: a network that sees the true classes, and masks with known errors."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.data.layouts import Pair
from hrseg.data.synthetic import write_scenes
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import read_mask, write_image, write_mask
from hrseg.inference.predictor import Predictor
from hrseg.labels import Label, LabelSet
from hrseg.study.audit import PRIOR_PIXELS, Audit, disagreements, fold_checkpoints, train_folds
from hrseg.study.corrections import CORRECTIONS, PAGE, apply_corrections, write_audit
from hrseg.training.fit import fit
from tests.small import small

LABELS = LabelSet("t", (Label(5, 0, "road", (1, 0, 0)), Label(7, 1, "car", (0, 2, 0)), Label(9, 2, "sky", (0, 0, 3))))
SIZE = (60, 80)


class Sees(torch.nn.Module):
    """Red is the class, and green how sure it is."""

    num_classes = 3

    def forward(self, image):
        classes = torch.arange(3.0)[:, None, None]
        return -((image[:, :1] * 255 - classes).abs().round() > 0).float() * image[:, 1:2] * 20


@pytest.fixture
def predictor():
    return Predictor(
        Sees(), LABELS, device="cpu", precision="fp32", engine="torch", mean=(0, 0, 0), std=(1, 1, 1), keep=("margin",)
    )


def scene(root, name, boxes, colors=False, sure=255):
    """A street whose mask calls the boxes (rows, columns) "sky", which the image shows as "road" or "car"."""
    true = np.zeros(SIZE, np.uint8)
    true[30:] = 1
    image = np.dstack([true, np.full(SIZE, sure, np.uint8), np.zeros(SIZE, np.uint8)])
    write_image(root / "images" / f"{name}.png", image)
    mask = true.copy()
    for rows, cols in boxes:
        mask[slice(*rows), slice(*cols)] = 2
    for folder, content in (("masks", mask), ("true", true)):
        path = root.parent / "true" / f"{name}.png" if folder == "true" else root / folder / f"{name}.png"
        ids = LABELS.decode(content)
        if colors:
            write_image(path, LABELS.palette[content])
        else:
            write_mask(path, ids, LABELS.id_palette())
    return Pair(root / "images" / f"{name}.png", root / "masks" / f"{name}.png", name)


def test_a_region_is_what_is_connected_and_scored_by_its_inner_pixels():
    mask, predicted = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    margin = np.ones(SIZE, np.float32)
    predicted[10:30, 10:30] = 1  # 20 x 20: 16 x 16 lie deeper than the border
    predicted[10:30, 30:50] = 2  # another way to disagree
    margin[10:30, 30:50] = 0.5
    predicted[40:43, :] = 1  # a border of three rows
    predicted[50:59, 60:70] = 2  # ignored in the mask
    mask[50:59, 60:70] = 255
    regions = sorted(disagreements(mask, predicted, margin, 100), key=lambda region: -region.score)
    assert [(r.given, r.suggested, r.top, r.left, int(r.pixels.sum())) for r in regions] == [
        (0, 1, 10, 10, 400),
        (0, 2, 10, 30, 400),
    ]
    assert [r.score for r in regions] == pytest.approx([256 / (256 + PRIOR_PIXELS), 128 / (256 + PRIOR_PIXELS)])
    assert list(disagreements(mask, predicted, margin, 401)) == []


def test_the_worst_are_kept_whatever_the_number_of_images(tmp_path, predictor):
    audit = Audit(tmp_path / "data", count=2)
    sides = (16, 24, 12, 20)
    for number, side in enumerate(sides):
        audit.add(predictor, scene(tmp_path / "data", f"s{number}", [((2, 2 + side), (4, 4 + side))]), LABELS)
    assert (audit.images, audit.regions) == (4, 4)
    assert [(one.image, one.pixels, one.given, one.suggested) for one in audit.findings] == [
        ("images/s1.png", 24**2, "sky", "road"),
        ("images/s3.png", 20**2, "sky", "road"),
    ]
    assert "most suspicious are kept" in audit.text()
    assert "masks/s1.png" in audit.text()
    audit.add(predictor, scene(tmp_path / "data", "unsure", [((2, 28), (4, 70))], sure=2), LABELS)
    assert [one.image for one in audit.findings] == ["images/s1.png", "images/s3.png"]


@pytest.mark.parametrize("colors", [False, True])
@pytest.mark.parametrize("link", [False, True])
def test_corrections_of_a_copy(tmp_path, predictor, colors, link):
    root = tmp_path / "data"
    pairs = [
        scene(root, "a", [((2, 22), (4, 30)), ((35, 55), (40, 70))], colors),
        scene(root, "b", [((5, 25), (8, 48))], colors),
        scene(root, "right", [], colors),
    ]
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    audit = Audit(root)
    for pair in pairs:
        audit.add(predictor, pair, LABELS)
    write_audit(audit, LABELS, tmp_path / "audit")
    lines = (tmp_path / "audit" / CORRECTIONS).read_text().splitlines()
    assert [(row["given"], row["suggested"]) for row in map(json.loads, lines)].count(("sky", "car")) == 1
    page = (tmp_path / "audit" / PAGE).read_text()
    assert page.count('type="checkbox"') == 3
    assert page.count("<figure>") == 9
    assert f"hrseg data audit {root} --apply" in page
    assert apply_corrections(root, tmp_path / "audit" / CORRECTIONS, tmp_path / "new", link) == (3, 2)
    for pair in pairs:
        corrected = tmp_path / "new" / "masks" / f"{pair.name}.png"
        assert (read_mask(corrected) == read_mask(tmp_path / "true" / f"{pair.name}.png")).all()
        if not colors:  # the palette stays
            assert Image.open(corrected).getpalette() == Image.open(pair.mask).getpalette()
    assert {path: path.read_bytes() for path in root.rglob("*.png")} == before
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(line for line in lines if "b.png" in line) + "\n\n")
    assert apply_corrections(root, few, tmp_path / "other") == (1, 1)
    assert (tmp_path / "other" / "masks" / "a.png").read_bytes() == (root / "masks" / "a.png").read_bytes()


def test_corrections_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, predictor):
    root = tmp_path / "data"
    pair = scene(root, "a", [((2, 22), (4, 30))])
    audit = Audit(root)
    audit.add(predictor, pair, LABELS)
    row = audit.findings[0].to_dict()
    outside = tmp_path / "secret.png"
    shutil.copy(pair.mask, outside)
    (root / "masks" / "a.bmp").write_bytes(b"x")
    for change, text in [
        ({"mask": "../secret.png"}, "is not in"),
        ({"mask": "masks/b.png"}, "is not in"),
        ({"mask": "masks/a.bmp"}, "is no PNG"),
        ({"counts": "ZZ"}, "cannot be applied"),
        ({"size": [1, 2]}, "its mask has 60x80 pixels"),
        ({"values": [5]}, "has changed since the audit"),
        ({"value": [1, 2, 3]}, "no id or color"),
        ({"value": 300}, "cannot be applied"),
    ]:
        (tmp_path / "list.jsonl").write_text(json.dumps(row | change))
        with pytest.raises(DataError, match=text):
            apply_corrections(root, tmp_path / "list.jsonl", tmp_path / "new")
        assert not (tmp_path / "new").exists()
    for content, text in [("", "holds no correction"), ("{}", "lacks 'mask'"), ("[1", "is no correction")]:
        (tmp_path / "list.jsonl").write_text(content)
        with pytest.raises(DataError, match=text):
            apply_corrections(root, tmp_path / "list.jsonl", tmp_path / "new")
    with pytest.raises(DataError, match="is inside"):
        apply_corrections(root, tmp_path / "list.jsonl", root / "new")
    with pytest.raises(DataError, match="cannot be read"):
        apply_corrections(root, tmp_path / "gone.jsonl", tmp_path / "new")


def test_the_models_of_the_folds_are_found(tmp_path):
    for name in ("plain/seed_0_fold_1", "plain/seed_0_fold_2", "plain/seed_1_fold_1", "other/seed_0_fold_1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "last.ckpt").touch()
    plain = [tmp_path / f"plain/seed_0_fold_{fold}/last.ckpt" for fold in (1, 2)]
    assert fold_checkpoints([tmp_path / "plain"]) == plain
    assert fold_checkpoints([plain[0].parent, plain[1].parent]) == plain
    with pytest.raises(ConfigError, match="has the variants other, plain"):
        fold_checkpoints([tmp_path])
    with pytest.raises(ConfigError, match=r"holds no last\.ckpt of a fold"):
        fold_checkpoints([tmp_path / "gone"])


def test_a_mistake_is_one_paragraph(tmp_path, finished, capsys):
    write_scenes(tmp_path / "data", "folder", {"train": 2}, size=(32, 64))
    for words, text in [
        (["gone"], "Folder gone does not exist"),
        (["data", "--models", "gone"], "holds no last.ckpt"),
        (["data", "--models", str(finished.run_dir)], "it has seen the masks"),
        (["data", "--models", "x", "optim.lr=1"], "--models are trained"),
        (["data", "--folds", "1"], "--folds 1 leaves nothing"),
        (["data", "--apply", "x.jsonl"], "Name its folder: --out"),
    ]:
        assert main(["data", "audit", *words]) == EXIT_USAGE
        assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "audit").exists()


def test_folds_are_trained_as_a_study_on_lists_that_stay(here, recipe, monkeypatch):
    plans = []

    def pretend(plan):
        plans.append(plan)
        return SimpleNamespace(failures=[])

    monkeypatch.setattr("hrseg.study.audit.train_study", pretend)
    write_scenes(here / "data", "folder", {"train": 6}, size=(64, 128))
    words = [f"run.dir={here / 'runs'}", "data.labels=data/labels.yaml", "data.crop=[64,64]"]
    folder = train_folds(Path("data"), str(recipe), 2, overrides=words)
    assert folder == here / "runs/data_audit/audit"
    data = [run.config.data for run in plans[0].runs]
    splits = [(f"fold_{fold}_train", f"fold_{fold}_val", "folder", "data") for fold in (1, 2)]
    assert [(one.train_split, one.val_split, one.layout, str(one.root)) for one in data] == splits
    lists = {path: path.stat().st_mtime_ns for path in (here / "data").glob("fold_*.txt")}
    assert len(lists) == 4
    train_folds(Path("data"), str(recipe), 2, overrides=words)
    assert {path: path.stat().st_mtime_ns for path in lists} == lists
    with pytest.raises(ConfigError, match=r"divided into 2 folds, and the study has 3.*data split data --folds 3"):
        train_folds(Path("data"), str(recipe), 3, overrides=words)


@pytest.mark.slow
def test_fold_models_judge_the_masks_that_they_have_not_seen(here, capsys):
    write_scenes(here / "data", "folder", {"train": 6}, size=(32, 64))
    assert main(["data", "split", "data", "--folds", "2"]) == EXIT_OK
    words = ["data.layout=folder", "data.root=data", "data.labels=data/labels.yaml", "trainer.max_epochs=1"]
    for fold in (1, 2):
        splits = (f"data.train_split=fold_{fold}_train", f"data.val_split=fold_{fold}_val")
        fit(small(here / "runs/plain", *words, *splits, f"run.name=seed_0_fold_{fold}"))
    capsys.readouterr()
    command = ["data", "audit", "data", "--models", "runs", "--smallest", "9", "--device", "cpu"]
    assert main([*command, "--json"]) == EXIT_OK
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 6
    lines = (here / "audit" / CORRECTIONS).read_text()
    assert [json.loads(line) for line in lines.splitlines()] == result["findings"]
    assert len(lines.splitlines()) == len(result["findings"]) > 0
    assert main(command) == EXIT_USAGE  # the list may be edited
    assert main(["data", "audit", "data", "--apply", "audit/corrections.jsonl", "--out", "new"]) == EXIT_OK
    assert sorted(p.name for p in (here / "new").rglob("*")) == sorted(p.name for p in (here / "data").rglob("*"))

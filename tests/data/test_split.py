import json
import os
import sys

import numpy as np
import pytest

from hrseg.data.layouts import find_pairs
from hrseg.data.split import divide, write_lists
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import write_image, write_mask


def add(root, names, mask=None, split="train/"):
    mask = np.ones((4, 4), np.uint8) if mask is None else mask
    for name in names:
        write_image(root / f"images/{split}{name}.png", np.zeros((4, 4, 3), np.uint8))
        write_mask(root / f"masks/{split}{name}.png", mask)


def where(division):
    return {pair.name: split for split, pairs in division.splits.items() for pair in pairs}


def names(count, start=0):
    return [f"clip{i // 5}_{i:04d}" for i in range(start, start + count)]


def test_images_that_come_later_move_nobody(tmp_path):
    add(tmp_path, names(100))
    before = where(divide(tmp_path, val=0.2, test=0.1, by=r"(clip\d+)_"))
    add(tmp_path, names(60, 100))
    after = where(divide(tmp_path, val=0.2, test=0.1, by=r"(clip\d+)_"))
    assert {name: after[name] for name in before} == before
    assert len(after) == 160


def test_groups_stay_together_and_seeds_differ(tmp_path):
    add(tmp_path, names(200))
    first = divide(tmp_path, val=0.3, by=r"(clip\d+)_")
    groups = {split: {name.split("_")[0] for name in ns} for split, ns in _by_split(first).items()}
    assert not groups["train"] & groups["val"]
    assert where(first) == where(divide(tmp_path, val=0.3, by=r"(clip\d+)_"))
    assert where(first) != where(divide(tmp_path, val=0.3, by=r"(clip\d+)_", seed=1))
    share = len(first.splits["val"]) / 200
    assert 0.1 < share < 0.5


def _by_split(division):
    return {split: [pair.name for pair in pairs] for split, pairs in division.splits.items()}


def test_folders_are_groups(tmp_path):
    for folder in "abcdef":
        add(tmp_path, [f"{folder}/{i}" for i in range(3)])
    division = divide(tmp_path, val=0.4, by="folder")
    assert sum(len(groups) for groups in division.groups.values()) == 6
    for pairs in division.splits.values():
        assert len(pairs) % 3 == 0


def test_a_rare_class_is_in_every_split_if_it_can_be(tmp_path):
    add(tmp_path, names(60))
    rare = np.array([[1, 1, 7, 255]] * 4, np.uint8)
    for seed in range(5):
        add(tmp_path, ["clip3_0017", "clip9_0048"], rare)
        division = divide(tmp_path, val=0.2, seed=seed)
        assert division.classes["train"][7] == division.classes["val"][7] == 1
        assert len(division.moved) <= 1
        assert not division.missing()
    only = divide(tmp_path, val=0.2, test=0.2)
    assert only.classes["train"][7] == 1
    assert sum(7 in values for values in only.missing().values()) == 1


def test_a_class_of_one_group_is_learned(tmp_path):
    add(tmp_path, names(40))
    add(tmp_path, ["clip0_0000"], np.full((4, 4), 9, np.uint8))
    for seed in range(8):
        division = divide(tmp_path, val=0.4, seed=seed)
        assert division.classes["train"][9] == 1
        assert division.missing() == {"val": [9]}


def test_lists_are_what_layout_folder_reads(tmp_path):
    add(tmp_path, [f"with space {i}" for i in range(12)], split="")
    division = divide(tmp_path, val=0.3)
    paths = write_lists(division)
    assert [path.name for path in paths] == ["train.txt", "val.txt"]
    found = {split: find_pairs("folder", tmp_path, split) for split in ("train", "val")}
    assert {s: {p.image for p in ps} for s, ps in found.items()} == {
        s: {p.image for p in ps} for s, ps in division.splits.items()
    }
    assert all(pair.mask.is_file() for pairs in found.values() for pair in pairs)
    with pytest.raises(DataError, match="--replace"):
        write_lists(division)
    again = divide(tmp_path, val=0.3, seed=4)  # lists are pooled and divided anew
    write_lists(again, replace=True)
    assert json.loads(json.dumps(again.to_dict()))["splits"]["val"]["images"] == len(
        find_pairs("folder", tmp_path, "val")
    )
    assert "12" not in again.text(paths)


def test_what_is_divided_already_is_divided_anew_only_on_request(tmp_path):
    add(tmp_path, names(20))
    add(tmp_path, ["x", "y"], split="val/")
    add(tmp_path, ["t"], split="test/")
    with pytest.raises(DataError, match="--from train"):
        divide(tmp_path, val=0.2)
    division = divide(tmp_path, val=0.2, pool="train")
    assert len(where(division)) == 20
    assert division.kept == {"test": 1, "val": 2}
    assert "Left as it was: test, 1 images." in division.text([tmp_path, tmp_path])
    assert len(where(divide(tmp_path, val=0.2, pool="all"))) == 23


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"val": 0}, "parts of 1"),
        ({"val": 0.7, "test": 0.3}, "parts of 1"),
        ({"val": 0.2, "by": "("}, "regular expression"),
        ({"val": 0.2, "by": "xyz"}, "matches 0 of 6"),
        ({"val": 0.2, "by": "folder"}, "makes 1 group of 6 images"),
        ({"val": 0.2, "pool": "gone"}, "no split 'gone'"),
    ],
)
def test_what_cannot_work_is_said(options, words, tmp_path):
    add(tmp_path, names(6))
    with pytest.raises((ConfigError, DataError), match=words):
        divide(tmp_path, **options)


def test_folders_of_patients_are_pointed_out_unless_somebody_chose(tmp_path):
    for patient in "abcd":
        add(tmp_path, [f"patient_{patient}/{i}" for i in range(3)], split="")
    division = divide(tmp_path, val=0.4)
    assert "4 folders such as images/patient_a" in division.text(["train.txt", "val.txt"])
    assert "--by folder" in division.text(["train.txt", "val.txt"])
    for by in ("folder", r"patient_(.)"):
        chosen = divide(tmp_path, val=0.4, by=by)
        assert "--by folder" not in chosen.text(["train.txt", "val.txt"])
        assert not chosen.to_dict()["folders"]
    clips = tmp_path / "clips"
    add(clips, names(12))  # one folder says nothing
    assert not divide(clips, val=0.4).folders


def test_a_test_is_divided_on_request_only(tmp_path):
    add(tmp_path, names(10), split="test/")
    with pytest.raises(DataError, match="no image with a mask"):
        divide(tmp_path, val=0.3)
    assert len(where(divide(tmp_path, val=0.3, pool="test"))) == 10


def test_a_pattern_says_where_masks_lie(tmp_path):
    for number in range(8):
        write_image(tmp_path / f"a/{number}.png", np.zeros((4, 4, 3), np.uint8))
        write_mask(tmp_path / f"b/q/{number}x.png", np.ones((4, 4), np.uint8))
    division = divide(tmp_path, val=0.3, masks="b/q/{stem}x.png")
    pairs = [pair for split in division.splits.values() for pair in split]
    assert {pair.image.stem + "x" for pair in pairs} == {pair.mask.stem for pair in pairs}
    assert len(pairs) == 8


ODD = os.fsdecode(b"caf\xe9")  # as Latin-1 wrote it; no UTF-8


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_names_that_are_no_utf8_are_listed_and_found_again(tmp_path):
    add(tmp_path, [*names(12), ODD, f"{ODD}2"], split="")
    division = divide(tmp_path, val=0.3)
    write_lists(division)
    for split, pairs in division.splits.items():
        read = find_pairs("folder", tmp_path, split)
        assert {pair[:2] for pair in read} == {pair[:2] for pair in pairs}
    again = divide(tmp_path, val=0.3)  # the lists are read
    assert sum(map(len, again.splits.values())) == 14


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\rb"])
@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_names_that_no_list_can_hold_are_refused_and_named(tmp_path, name):
    add(tmp_path, [*names(6), name], split="")
    with pytest.raises(DataError, match=r"images/a.*b\.png.*cannot stand in a list"):
        write_lists(divide(tmp_path, val=0.3))
    assert not list(tmp_path.glob("*.txt"))


def test_each_image_validates_in_one_fold_and_trains_in_the_others(tmp_path):
    add(tmp_path, names(60))
    division = divide(tmp_path, folds=3, by=r"(clip\d+)_")
    paths = write_lists(division)
    assert [path.name for path in paths] == [f"fold_{n}_{s}.txt" for n in (1, 2, 3) for s in ("train", "val")]
    found = {
        path.stem: {pair.name.rpartition("/")[2] for pair in find_pairs("folder", tmp_path, path.stem)}
        for path in paths
    }
    everything = {pair.name.rpartition("/")[2] for pairs in division.splits.values() for pair in pairs}
    assert len(everything) == 60
    for fold in division.splits:
        assert found[f"{fold}_train"] == everything - found[f"{fold}_val"]
        assert {n.split("_")[0] for n in found[f"{fold}_train"]}.isdisjoint(
            n.split("_")[0] for n in found[f"{fold}_val"]
        )
        assert len(found[f"{fold}_val"]) == 20  # 12 clips of 5 images
    assert sum(len(found[f"{fold}_val"]) for fold in division.splits) == 60


def test_fewer_folds_leave_no_list_of_more(tmp_path):
    add(tmp_path, names(20))
    write_lists(divide(tmp_path, folds=4))
    with pytest.raises(DataError, match="--replace"):
        write_lists(divide(tmp_path, folds=2))
    write_lists(divide(tmp_path, folds=2), replace=True)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == [
        f"fold_{n}_{s}.txt" for n in (1, 2) for s in ("train", "val")
    ]


def test_each_group_is_a_fold_where_no_number_is_given(tmp_path):
    for folder, count in {"c": 4, "a": 9, "b": 1}.items():
        add(tmp_path, [f"{folder}/{i}" for i in range(count)])
    division = divide(tmp_path, folds=0, by="folder")
    assert [(groups, len(division.splits[fold])) for fold, groups in division.groups.items()] == [
        (["images/train/a"], 9),
        (["images/train/b"], 1),
        (["images/train/c"], 4),
    ]
    assert "of images/train/b" in division.text(write_lists(division))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "nothing to learn from"),
        ({"folds": 2, "val": 0.2}, "no shares"),
        ({"folds": 0}, "30 groups, too many"),
        ({"folds": 31}, "too few"),
    ],
)
def test_impossible_folds_are_refused(tmp_path, options, message):
    add(tmp_path, names(30))
    with pytest.raises((ConfigError, DataError), match=message):
        divide(tmp_path, **options)


def test_several_splits_are_divided_together(tmp_path):
    for split in ("train/", "val/", "test/"):
        add(tmp_path, [f"{split[:2]}{i}" for i in range(6)], split=split)
    division = divide(tmp_path, folds=2, pool="train, val")
    assert sorted({name[:2] for name in where(division)}) == ["tr", "va"]
    assert division.kept == {"test": 6}
    assert divide(tmp_path, folds=2, pool="val, test").kept == {"train": 6}
    with pytest.raises(ConfigError, match="no split 'vall'"):
        divide(tmp_path, folds=2, pool="train,vall")

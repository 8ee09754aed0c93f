"""Files of any tree meet their masks, and a known dataset is known by its names."""

import pytest

from hrseg.data.check.pairing import pair_any
from tests.data.check.trees import picture, put, squares, tree

MASK = squares([0, 1])


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.png", "masks/{}.png"),
        ("img/{}.jpg", "label/{}.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("{}.jpg", "{}_mask.png"),
        ("{}.png", "masks/{}.png"),
        ("{}.jpg", "{}.png"),
        ("photos/{} é.jpg", "Ground Truth/{} é.png"),
        ("raw/img_{}.png", "annotations/mask_{}.png"),
        ("data/{}_sat.jpg", "data/{}_mask.png"),
        ("scene a/images/{}.png", "scene a/labels/{}_gt.png"),
        ("images/{}.png", "images/{}_label.png"),
        ("one/{}.png", "two/{}.png"),
    ],
)
def test_usual_names_meet(tmp_path, image, mask):
    tree(tmp_path, [MASK] * 4, image, mask)
    found = pair_any(tmp_path)
    assert list(found.splits) == ["all"]
    got = [(pair.image, pair.mask) for pair in found.splits["all"]]
    want = [(tmp_path / image.format(f"p{n:02d}"), tmp_path / mask.format(f"p{n:02d}")) for n in range(4)]
    assert got == want
    assert not found.images_alone
    assert not found.masks_alone


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{split}/images/{n}.png", "{split}/masks/{n}.png"),
        ("images/{split}/{n}.png", "labels/{split}/{n}.png"),
        ("{split}_images/{n}.png", "{split}_masks/{n}.png"),
        ("{split}/{n}.png", "{split}annot/{n}.png"),
        ("imgs_{split}/{n}.png", "gt/{n}.png"),
        ("{split}/{n}.jpg", "{split}/{n}.png"),
    ],
)
@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_splits_are_read_from_folders(tmp_path, image, mask, val):
    for number, split in enumerate(("train", "train", val)):
        put(tmp_path / image.format(split=split, n=number), picture(number))
        put(tmp_path / mask.format(split=split, n=number), MASK)
    found = pair_any(tmp_path)
    assert {split: len(pairs) for split, pairs in found.splits.items()} == {"train": 2, "val": 1}


def test_splits_are_read_from_lists(tmp_path):
    tree(tmp_path, [MASK] * 4, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p00\np01\np02\n")
    (lists / "val.txt").write_text("p03\n")
    found = pair_any(tmp_path)
    assert [pair.name for pair in found.splits["val"]] == ["p03"]
    assert len(found.splits["train"]) == 3


def test_the_same_name_in_two_folders_stays_two_images(tmp_path):
    for number, place in enumerate(("monday", "tuesday")):
        put(tmp_path / place / "images" / "1.png", picture(number))
        put(tmp_path / place / "masks" / "1.png", MASK)
    pairs = pair_any(tmp_path).splits["all"]
    assert [pair.mask.parts[-3] for pair in pairs] == ["monday", "tuesday"]
    assert len({pair.name for pair in pairs}) == 2


def test_a_bad_partner_is_never_guessed(tmp_path):
    tree(tmp_path, [MASK] * 3)
    (tmp_path / "masks" / "p01.png").rename(tmp_path / "masks" / "p77.png")
    found = pair_any(tmp_path)
    assert [path.name for path in found.images_alone] == ["p01.png"]
    assert [path.name for path in found.masks_alone] == ["p77.png"]
    assert len(found.splits["all"]) == 2


def test_instances_are_left_aside_and_ids_win_over_colors(tmp_path):
    tree(tmp_path, [MASK] * 2, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    tree(tmp_path, [squares([0, 9])] * 2, "JPEGImages/{}.jpg", "SegmentationObject/{}.png")
    tree(tmp_path, [squares([(0, 0, 0), (9, 0, 0)])] * 2, "JPEGImages/{}.jpg", "color_masks/{}.png")
    found = pair_any(tmp_path)
    assert {pair.mask.parent.name for pair in found.splits["all"]} == {"SegmentationClass"}
    assert any("SegmentationObject" in note for note in found.notes)
    assert any("colormasks" in note for note in found.notes)


def test_hidden_files_and_archives_litter_are_no_data(tmp_path):
    tree(tmp_path, [MASK] * 2)
    put(tmp_path / "__MACOSX" / "images" / "p00.png", picture(0))
    put(tmp_path / ".thumbs" / "p00.png", picture(0))
    put(tmp_path / "images" / "._p00.png", picture(0))
    assert len(pair_any(tmp_path).splits["all"]) == 2

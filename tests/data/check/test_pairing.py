"""Files of any tree meet their masks, and a known dataset is known by its names."""

import shutil

import pytest

from hrseg.data.check.layout import recognize
from hrseg.data.check.pairing import pair_any
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError
from tests.data.check.trees import look_at, picture, put, squares, tree

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
    want = [
        (tmp_path / image.format(f"p{n:02d}"), tmp_path / mask.format(f"p{n:02d}"))
        for n in range(4)
    ]
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


LAYOUTS = (
    *("cityscapes", "ade20k", "pascal_context", "lip", "coco_stuff", "voc2012", "camvid"),
    *("loveda", "potsdam", "vaihingen", "isaid"),
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognized(tmp_path, layout):
    root = tmp_path / layout
    write_scenes(root, layout, {"train": 3, "val": 2}, size=(48, 64))
    found = recognize(root)
    assert found.layout == layout
    assert {split: len(pairs) for split, pairs in found.splits.items()} == {"train": 3, "val": 2}


def test_our_own_folder_needs_no_lists(tmp_path):
    write_scenes(tmp_path, "folder", {"train": 3, "val": 2}, size=(48, 64))
    result = look_at(tmp_path)
    assert result.layout == "folder"
    assert not result.recipe.lists
    assert f"labels: {tmp_path / 'labels.yaml'}" in result.recipe.text("mine")


def test_a_missing_mask_of_a_known_dataset_is_listed_and_the_rest_is_looked_at(tmp_path):
    root = tmp_path / "cityscapes"
    write_scenes(root, "cityscapes", {"train": 3, "val": 2}, size=(48, 64))
    next((root / "gtFine/train").rglob("*.png")).unlink()
    found = recognize(root)
    assert len(found.splits["train"]) == 2
    assert len(found.pairing.images_alone) == 1


def test_somebody_elses_files_in_the_folders_of_ade20k_get_no_class_called_wall(tmp_path):
    for split in ("training", "validation"):
        tree(
            tmp_path / "x", [MASK] * 3, f"images/{split}/{{}}.png", f"annotations/{split}/{{}}.png"
        )
    result = look_at(tmp_path / "x")
    assert result.layout == "folder"
    assert [row.name for row in result.classes] == ["background", "foreground"]
    assert any("--layout ade20k" in finding.text for finding in result.findings)


def test_a_tree_named_camvid_with_other_ids_is_nobodys_camvid(tmp_path):
    root = tree(tmp_path / "camvid", [squares([0, 255])] * 3, "train/{}.png", "trainannot/{}.png")
    tree(root, [squares([0, 255])] * 2, "val/{}.png", "valannot/{}.png")
    result = look_at(root)
    assert (result.layout, [row.name for row in result.classes]) == (
        "folder",
        ["background", "foreground"],
    )


def test_trees_without_pairs_are_explained(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        recognize(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no image"):
        recognize(tmp_path)
    put(tmp_path / "images" / "a.png", picture(0))
    with pytest.raises(DataError, match=r"1 image and no mask.*convert"):
        recognize(tmp_path)
    shutil.move(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(DataError, match="1 mask and no image"):
        recognize(tmp_path)
    with pytest.raises(DataError, match="Did you mean 'camvid'"):
        recognize(tmp_path, "camvit")

import shutil

import pytest

from hrseg.data.check.layout import recognize
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError
from tests.data.check.trees import TWO, look_at, picture, put, squares, tree

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
        tree(tmp_path / "x", [TWO] * 3, f"images/{split}/{{}}.png", f"annotations/{split}/{{}}.png")
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

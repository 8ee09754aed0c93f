from pathlib import Path

import pytest

from hrseg.data.layouts import find_pairs
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError

SIZE = (16, 24)


@pytest.fixture
def tree(tmp_path):
    def write(layout, **splits):
        write_scenes(tmp_path, layout, splits or {"train": 3, "val": 2}, SIZE)
        return tmp_path

    return write


@pytest.mark.parametrize("layout", ["camvid", "cityscapes", "ade20k", "folder"])
def test_images_meet_their_masks_in_name_order(tree, layout):
    root = tree(layout)
    for split, count in (("train", 3), ("val", 2)):
        pairs = find_pairs(layout, root, split)
        assert len(pairs) == count
        assert [p.name for p in pairs] == sorted(p.name for p in pairs)
        assert all(p.image.is_file() and p.mask.is_file() for p in pairs)


def test_cityscapes_knows_trainval_test_train_ids_and_coarse(tree):
    root = tree("cityscapes", train=2, val=1, test=1)
    assert len(find_pairs("cityscapes", root, "trainval")) == 3
    assert find_pairs("cityscapes", root, "test")[0].mask is None
    for path in list(root.glob("gtFine/val/*/*_labelIds.png")):
        path.rename(str(path).replace("labelIds", "labelTrainIds"))
    assert find_pairs("cityscapes", root, "val")[0].table == "cityscapes_trainids"
    (root / "leftImg8bit/train").rename(root / "leftImg8bit/train_extra")
    fine = next((root / "gtFine/train").glob("*/*_000000_*"))
    for path in list((root / "gtFine/train").glob("*/*.png")):
        new = Path(str(path).replace("gtFine", "gtCoarse").replace("/train/", "/train_extra/"))
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
    assert len(find_pairs("cityscapes", root, "train_extra")) == 2
    assert not fine.exists()


def test_folder_takes_both_orders_subfolders_and_list_files(tree, tmp_path):
    root = tree("folder")
    (root / "train").mkdir()
    (root / "images/train").rename(root / "train/images")
    (root / "masks/train").rename(root / "train/masks")
    (root / "train/images/deep").mkdir()
    (root / "train/masks/deep").mkdir()
    (root / "train/images/scene_00000.png").rename(root / "train/images/deep/x.png")
    (root / "train/masks/scene_00000.png").rename(root / "train/masks/deep/x.png")
    assert find_pairs("folder", root, "train")[0].name == "deep/x"
    (root / "some.txt").write_text(
        "images/val/scene_00001.png masks/val/scene_00001.png\n# comment\n"
    )
    assert len(find_pairs("folder", root, "some")) == 1


def test_an_image_without_mask_and_a_mask_without_image_are_named(tree):
    root = tree("camvid")
    (root / "trainannot/scene_00001.png").unlink()
    with pytest.raises(DataError, match=r"1 images .* no mask, such as .*scene_00001\.png"):
        find_pairs("camvid", root, "train")
    (root / "train/scene_00001.png").unlink()
    (root / "train/scene_00002.png").unlink()
    with pytest.raises(DataError, match=r"1 masks .* have no image, such as scene_00002"):
        find_pairs("camvid", root, "train")


def test_missing_and_empty_places_say_what_is_there(tree, tmp_path):
    root = tree("cityscapes")
    with pytest.raises(DataError, match=r"does not exist .*nearest existing parent"):
        find_pairs("cityscapes", root / "no", "train")
    with pytest.raises(
        DataError, match=r"No images in .*leftImg8bit/test, which does not exist; .* gtFine/"
    ):
        find_pairs("cityscapes", root, "test")
    with pytest.raises(DataError, match="has no split 'vall'"):
        find_pairs("cityscapes", root, "vall")
    with pytest.raises(DataError, match=r"data\.root is not set"):
        find_pairs("camvid", None, "train")
    with pytest.raises(DataError, match="Did you mean 'camvid'"):
        find_pairs("camvd", root, "train")
    with pytest.raises(DataError, match="neither images/train/"):
        find_pairs("folder", root, "train")


def test_bad_list_files_name_the_line(tmp_path):
    (tmp_path / "train.txt").write_text("a.png b.png\n")
    with pytest.raises(DataError, match=r"line 1: no such file .*a\.png"):
        find_pairs("folder", tmp_path, "train")
    (tmp_path / "train.txt").write_text("a b c\n")
    with pytest.raises(DataError, match="line 1 has 3 words"):
        find_pairs("folder", tmp_path, "train")
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(DataError, match="lists no image"):
        find_pairs("folder", tmp_path, "train")

from pathlib import Path

import pytest

from hrseg.data.layouts import find_pairs
from hrseg.errors import DataError


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


def test_cityscapes_masks_without_an_image_are_named(tree):
    root = tree("cityscapes")
    next(root.glob("leftImg8bit/val/*/*000001*")).unlink()
    with pytest.raises(DataError, match=r"1 mask in .*gtFine has no image, such as synthville/"):
        find_pairs("cityscapes", root, "val")


def test_coarse_is_train_and_train_extra_and_never_val(tree):
    root = tree("cityscapes", train=2, train_extra=3, val=1)
    for mask in sorted(root.glob("gtFine/*/*/*.png")):
        coarse = Path(str(mask).replace("gtFine", "gtCoarse"))
        coarse.parent.mkdir(parents=True, exist_ok=True)
        mask.rename(coarse)
    pairs = find_pairs("cityscapes", root, "coarse")
    assert len(pairs) == 5
    assert all("gtCoarse" in str(p.mask) and "/val/" not in str(p.image) for p in pairs)
    assert len(find_pairs("cityscapes", root, "coarse_val")) == 1


def test_trainval_of_camvid_is_both_and_leaves_test_out(tree):
    root = tree("camvid", train=2, val=1)
    both = find_pairs("camvid", root, "trainval")
    assert sorted(both) == sorted(find_pairs("camvid", root, "train") + find_pairs("camvid", root, "val"))
    assert len(both) == 3

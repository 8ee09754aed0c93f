import pytest

from hrseg.data.layouts import find_pairs
from hrseg.errors import DataError


@pytest.mark.parametrize("layout", ["camvid", "cityscapes", "ade20k", "folder"])
def test_images_meet_their_masks_in_name_order(tree, layout):
    root = tree(layout)
    for split, count in (("train", 3), ("val", 2)):
        pairs = find_pairs(layout, root, split)
        assert len(pairs) == count
        assert [p.name for p in pairs] == sorted(p.name for p in pairs)
        assert all(p.image.is_file() and p.mask.is_file() for p in pairs)


def test_missing_and_empty_places_say_what_is_there(tree, tmp_path):
    root = tree("cityscapes")
    with pytest.raises(DataError, match=r"does not exist .*nearest existing parent"):
        find_pairs("cityscapes", root / "no", "train")
    with pytest.raises(DataError, match=r"No images in .*leftImg8bit/test, which does not exist; .* gtFine/"):
        find_pairs("cityscapes", root, "test")
    with pytest.raises(DataError, match="has no split 'vall'"):
        find_pairs("cityscapes", root, "vall")
    with pytest.raises(DataError, match=r"data\.root is not set"):
        find_pairs("camvid", None, "train")
    with pytest.raises(DataError, match="Did you mean 'camvid'"):
        find_pairs("camvd", root, "train")
    with pytest.raises(DataError, match=r"neither images/train/.* set data\.train_split\."):
        find_pairs("folder", root, "train")
    with pytest.raises(DataError, match=r"set data\.train_split or data\.val_split\."):
        find_pairs("folder", root, "mine")
    with pytest.raises(DataError, match=r"The list .*gone\.txt does not exist.* --write"):
        find_pairs("folder", root, str(root / "gone"))


NEW = ["pascal_context", "lip", "coco_stuff", "voc2012", "loveda", "potsdam", "vaihingen", "isaid"]


@pytest.mark.parametrize("layout", NEW)
def test_an_image_without_its_mask_is_named_in_every_layout(tree, layout):
    root = tree(layout)
    assert [len(find_pairs(layout, root, split)) for split in ("train", "val")] == [3, 2]
    pair = find_pairs(layout, root, "train")[1]
    pair.mask.unlink()
    with pytest.raises(DataError, match=rf"1 image in .*has no mask, such as {pair.image.stem}"):
        find_pairs(layout, root, "train")

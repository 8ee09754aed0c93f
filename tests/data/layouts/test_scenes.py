import pytest

from hrseg.data.layouts import find_pairs


@pytest.mark.parametrize("place", ["images/testing", "release_test/testing"])
def test_ade20k_test_images_have_no_masks(tree, place):
    root = tree("ade20k")
    (root / place).parent.mkdir(exist_ok=True)
    (root / "images/validation").rename(root / place)
    pairs = find_pairs("ade20k", root, "test")
    assert [pair.mask for pair in pairs] == [None, None]


def test_lip_lies_side_by_side_or_in_its_own_folders(tree):
    root = tree("lip")
    for folder, inner in (("train_images", "TrainVal_images"),):
        (root / inner).mkdir()
        (root / folder).rename(root / inner / folder)
    (root / "TrainVal_parsing_annotations").mkdir()
    (root / "train_segmentations").rename(root / "TrainVal_parsing_annotations/train_segmentations")
    assert len(find_pairs("lip", root, "train")) == 3

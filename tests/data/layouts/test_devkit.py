import pytest

from hrseg.data.layouts import find_pairs
from hrseg.errors import DataError


def test_voc_augmentation_joins_both_folders_of_masks(tree):
    root = tree("voc2012", train=2, val=1)
    lists = root / "ImageSets/Segmentation"
    with pytest.raises(DataError, match=r"needs .*aug\.txt or trainaug\.txt; there is train\.txt, val"):
        find_pairs("voc2012", root, "trainaug")
    (root / "SegmentationClassAug").mkdir()
    train = find_pairs("voc2012", root, "train")
    more = root / "JPEGImages/2010_000001.jpg"
    more.write_bytes(train[0].image.read_bytes())
    extra = root / "SegmentationClassAug/2010_000001.png"
    extra.write_bytes(train[0].mask.read_bytes())
    (lists / "aug.txt").write_text("2010_000001\n")
    pairs = find_pairs("voc2012", root.parent / root.name, "trainaug")
    assert [pair.mask for pair in pairs] == [train[0].mask, train[1].mask, extra]
    (lists / "test.txt").write_text("2010_000001\n")
    assert find_pairs("voc2012", root, "test")[0].mask is None


def test_a_devkit_may_be_given_from_outside(tree, tmp_path):
    root = tree("pascal_context")
    inner = root.with_name("VOCdevkit") / "VOC2010"
    inner.parent.mkdir()
    root.rename(inner)
    assert len(find_pairs("pascal_context", inner.parent, "trainval")) == 5
    (inner / "ImageSets/SegmentationContext").rename(inner / "ImageSets/Main")
    assert len(find_pairs("pascal_context", inner, "val")) == 2
    (inner / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(DataError, match=r"The list .*val\.txt cannot be read.*mmsegmentation's"):
        find_pairs("pascal_context", inner, "val")

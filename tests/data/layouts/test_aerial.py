import pytest

from hrseg.data.layouts import find_pairs
from hrseg.errors import DataError


@pytest.fixture
def files(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


def test_isaid_names_its_masks_after_their_image(files):
    root = files(
        *("img_dir/val/P1_0_896.png", "ann_dir/val/P1_0_896_instance_color_RGB.png"),
        "ann_dir/val/P1_0_896.png",
    )
    (pair,) = find_pairs("isaid", root, "val")
    assert pair.mask == root / "ann_dir/val/P1_0_896_instance_color_RGB.png"
    files("img_dir/val/P2.png", "ann_dir/val/P2.png")
    with pytest.raises(DataError, match=r"no mask, such as P2\.png.*NAME_instance_color_RGB\.png"):
        find_pairs("isaid", root, "val")


@pytest.mark.parametrize("layout", ["isaid", "loveda", "potsdam", "vaihingen"])
def test_a_test_needs_no_masks_and_a_training_does(files, layout):
    root = files("img_dir/test/b.png", "img_dir/test/a.png", "img_dir/train/a.png")
    assert [(p.name, p.mask) for p in find_pairs(layout, root, "test")] == [
        ("a", None),
        ("b", None),
    ]
    with pytest.raises(DataError):
        find_pairs(layout, root, "train")


def test_a_test_with_masks_is_paired_where_they_were_published(files):
    root = files("img_dir/test/a.png", "ann_dir/test/a.png")
    (pair,) = find_pairs("potsdam", root, "test")
    assert pair.mask == root / "ann_dir/test/a.png"
    with pytest.raises(DataError, match="mmsegmentation's converter"):
        find_pairs("potsdam", root, "val")

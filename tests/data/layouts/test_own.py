from hrseg.data.layouts import find_pairs


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
    (root / "some.txt").write_text("images/val/scene_00001.png masks/val/scene_00001.png\n# comment\n")
    assert len(find_pairs("folder", root, "some")) == 1


def test_folder_test_split_needs_no_masks(tree):
    root = tree("folder")
    (root / "images/val").rename(root / "images/test")
    assert find_pairs("folder", root, "test")[0].mask is None

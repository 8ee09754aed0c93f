import pytest

from hrseg.data.layouts import find_pairs
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError
from tests.data.layouts.conftest import SIZE


def test_an_image_without_mask_and_a_mask_without_image_are_named(tree):
    root = tree("camvid")
    (root / "trainannot/scene_00001.png").unlink()
    with pytest.raises(DataError, match=r"1 image in .* has no mask, such as scene_00001\.png"):
        find_pairs("camvid", root, "train")
    write_scenes(root, "camvid", {"train": 3}, SIZE)
    (root / "train/scene_00001.png").unlink()
    (root / "train/scene_00002.png").unlink()
    with pytest.raises(DataError, match=r"2 masks in .* have no image, such as scene_00001, scene_00002"):
        find_pairs("camvid", root, "train")


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


def test_hidden_files_and_folders_are_no_data(tree):
    root = tree("folder")
    for place in ("images/train", "masks/train"):
        hidden = root / place / ".ipynb_checkpoints"
        hidden.mkdir()
        (root / place / "scene_00000.png").rename(hidden / "scene_00000-checkpoint.png")
    (root / "images/train/notes.txt").write_text("not an image")
    assert [p.name for p in find_pairs("folder", root, "train")] == ["scene_00001", "scene_00002"]


def test_two_files_that_would_share_a_name_are_refused(tree):
    root = tree("folder")
    (root / "masks/train/scene_00000.bmp").write_bytes(b"")
    with pytest.raises(DataError, match="Two masks for one image"):
        find_pairs("folder", root, "train")
    (root / "masks/train/scene_00000.bmp").unlink()
    (root / "images/train/scene_00000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="scene_00000"):
        find_pairs("folder", root, "train")


def test_list_files_take_spaces_after_tabs_and_names_stay_below_the_output(tree):
    root = tree("folder")
    odd = root / "été 1.png"
    (root / "images/val/scene_00000.png").rename(odd)
    mask, other = root / "masks/val/scene_00000.png", root / "images/val/scene_00001.png"
    (root / "sub").mkdir()
    (root / "sub/train.txt").write_text(f"../{odd.name}\t{mask}\n{other}\n", encoding="utf-8-sig")
    first, second = sorted(find_pairs("folder", root / "sub", "train"), key=lambda p: not p.mask)
    assert (first.name, first.mask) == ("été 1", mask)
    assert second.mask is None
    assert not second.name.startswith("/")


def test_list_files_that_repeat_or_are_no_text_are_refused(tree):
    root = tree("folder")
    (root / "twice.txt").write_text("images/val/scene_00001.png\n" * 2)
    with pytest.raises(DataError, match="line 2: 'images/val/scene_00001' was listed before"):
        find_pairs("folder", root, "twice")
    (root / "latin.txt").write_bytes("été.png\n".encode("latin-1"))
    with pytest.raises(DataError, match="Save it as UTF-8"):
        find_pairs("folder", root, "latin")

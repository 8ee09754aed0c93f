from hrseg.data.check.grouping import component_roots
from tests.data.check.trees import TWO, kinds, look_at, picture, put, split_tree, tree


def test_the_same_picture_in_two_splits_is_a_leak_whatever_its_name_and_format(tmp_path):
    root = split_tree(tmp_path)
    put(root / "images/val/other.bmp", picture(2))
    put(root / "masks/val/other.png", TWO)
    result = look_at(root)
    assert "images/train/2.png = images/val/other.bmp" in kinds(result)["leak"]
    assert result.errors == 1


def test_a_copy_saved_as_jpeg_is_a_near_leak(tmp_path):
    root = split_tree(tmp_path)
    put(root / "images/val/copy.jpg", picture(3), quality=80)
    put(root / "masks/val/copy.png", TWO)
    result = look_at(root)
    assert "images/train/3.png = images/val/copy.jpg" in kinds(result)["near_leak"]
    assert "leak" not in kinds(result)


def test_different_pictures_are_no_copies(tmp_path):
    assert not {"leak", "near_leak", "near_duplicate"} & set(kinds(look_at(split_tree(tmp_path, 40, 20))))


def test_copies_stay_in_one_split_when_divided(tmp_path):
    root = tree(tmp_path, [TWO] * 20)
    for number in range(20):
        put(root / "images" / f"q{number:02d}.png", picture(number))
        put(root / "masks" / f"q{number:02d}.png", TWO)
    lists = look_at(root).recipe.lists
    val = {line.split()[0].split("/")[1][1:3] for line in lists["val"].splitlines()}
    train = {line.split()[0].split("/")[1][1:3] for line in lists["train"].splitlines()}
    assert not val & train
    assert len(lists["val"].splitlines()) == 8


def test_chains_hang_together():
    assert component_roots(5, [(3, 4), (0, 1), (1, 4)]) == [0, 0, 2, 0, 0]


def test_two_folders_or_one_say_nothing(tmp_path):
    for number in range(8):
        put(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", picture(number))
        put(tmp_path / "masks" / "ab"[number % 2] / f"{number}.png", TWO)
    assert "folders" not in kinds(look_at(tmp_path))

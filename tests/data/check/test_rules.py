import numpy as np
import pytest
from PIL import Image

from hrseg.data.synthetic import write_scenes
from tests.data.check.trees import (
    SIZE,
    TWO,
    kinds,
    look_at,
    picture,
    put,
    split_tree,
    squares,
    tree,
)


def test_unmatched_files_are_named_and_left_out(tmp_path):
    root = tree(tmp_path, [TWO] * 4)
    (root / "masks" / "p01.png").unlink()
    (root / "images" / "p02.png").unlink()
    result = look_at(root)
    assert "images/p01.png" in kinds(result)["image_without_mask"]
    assert "masks/p02.png" in kinds(result)["mask_without_image"]
    assert "p01" not in "".join(result.recipe.lists.values())


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_truncated_files_are_named_and_left_out(tmp_path, kind):
    root = tree(tmp_path, [TWO] * 4)
    path = root / f"{kind}s" / "p01.png"
    path.write_bytes(path.read_bytes()[:60])
    result = look_at(root)
    assert f"{kind}s/p01.png" in kinds(result)[f"unreadable_{kind}"]
    assert "p01" not in "".join(result.recipe.lists.values())
    assert result.errors == 1


def test_sizes_that_differ_are_named_with_both_sizes(tmp_path):
    root = tree(tmp_path, [TWO] * 4)
    put(root / "masks" / "p02.png", squares([0, 1], (20, 24)))
    result = look_at(root)
    assert "has 40x48 pixels (height x width), its mask 20x24" in kinds(result)["size_mismatch"]
    assert "p02" not in "".join(result.recipe.lists.values())


def test_an_image_turned_by_exif_explains_the_sizes(tmp_path):
    root = tree(tmp_path, [TWO] * 4, image="images/{}.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    put(root / "images" / "p00.jpg", picture(0), exif=exif)
    assert "turned by EXIF and their masks are not" in kinds(look_at(root))["size_mismatch"]
    put(root / "masks" / "p00.png", np.ascontiguousarray(np.rot90(TWO)))
    assert "They are read upright" in kinds(look_at(root))["exif"]


def test_ids_outside_the_table_are_named_with_their_first_file(tmp_path):
    root = tmp_path / "camvid"
    write_scenes(root, "camvid", {"train": 3, "val": 2}, size=SIZE)
    path = sorted((root / "trainannot").iterdir())[1]
    ids = np.array(Image.open(path))
    ids[0, :3] = 40
    put(path, ids)
    result = look_at(root)
    assert f"40 (trainannot/{path.name}, 3 pixels)" in kinds(result)["unknown_id"]
    assert result.layout == "camvid"
    assert [row.role for row in result.classes if row.value == "40"] == ["unknown"]


def test_masks_that_count_from_1_under_a_table_that_counts_from_0(tmp_path):
    root = tree(tmp_path / "set", [squares([0, 1, 2, 3])] * 3)
    table = tmp_path / "t.yaml"
    table.write_text("classes: [road, car, tree]\n")
    assert "reduce zero" in kinds(look_at(root, labels=table))["reduce_zero"]


def test_absent_and_rare_classes(tmp_path):
    root = split_tree(tmp_path / "set")
    rare = np.zeros((400, 400), np.uint8)
    rare[0, :20] = 2
    put(root / "images/train/9.png", picture(9, (400, 400)))
    put(root / "masks/train/9.png", rare)
    table = tmp_path / "t.yaml"
    table.write_text("classes: [road, car, tree, moon]\n")
    told = kinds(look_at(root, labels=table))
    assert "moon" in told["absent_class"]
    assert "tree (0.0" in told["rare_class"]
    assert "No pixel in val of tree" in told["absent_in_split"]


def test_masks_of_two_kinds_are_an_error(tmp_path):
    root = tree(tmp_path, [TWO] * 4)
    put(root / "masks" / "p03.png", squares([(0, 0, 0), (255, 0, 0)]))
    assert "masks/p03.png" in kinds(look_at(root))["mixed_masks"]


def test_a_photo_is_no_mask(tmp_path):
    root = tree(tmp_path, [TWO] * 4)
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    put(root / "masks" / "p03.png", noise)
    assert "masks/p03.png" in kinds(look_at(root))["mask_is_photo"]

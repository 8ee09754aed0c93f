"""Classes are guessed from values, and every guess is told."""

import numpy as np
import pytest
from PIL import Image

from tests.data.check.trees import SIZE, kinds, look_at, picture, put, squares, table_of, tree


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0, 1], ["background", "foreground"]),
        ([0, 255], ["background", "foreground"]),
        ([0, 1, 2, 255], ["background", "class 1", "class 2"]),
        ([1, 2, 3], ["class 1", "class 2", "class 3"]),
        ([0, 85, 170, 255], ["background", "class 85", "class 170", "class 255"]),
        ([0, 300], ["background", "foreground"]),
    ],
)
def test_values_become_classes(tmp_path, values, names):
    result = look_at(tree(tmp_path / "set", [squares(values)] * 3))
    table = table_of(result, tmp_path)
    assert table.names == names
    encoded = table.encode(squares(values))
    assert sorted(np.unique(encoded).tolist()) == [
        *range(len(names)),
        *([255] if 255 in values[3:] and len(names) == 3 else []),
    ]


def test_unlabelled_255_is_told(tmp_path):
    result = look_at(tree(tmp_path, [squares([0, 1, 2, 255])] * 3))
    assert "25.0 % of the pixels" in kinds(result)["unlabelled"]
    assert [row.role for row in result.classes] == ["class", "class", "class", "ignored"]
    assert [row.share for row in result.classes] == [0.25] * 4


def test_a_slip_does_not_make_no_label_of_the_foreground_silently(tmp_path):
    masks = [squares([0, 255]) for _ in range(4)]
    masks[2][0] = 7
    said = kinds(look_at(tree(tmp_path, masks)))
    assert "covers more than all classes but 0 together" in said["unlabelled"]
    assert "hold 7, first masks/p02.png" in said["unlabelled"]


def test_one_bit_masks_are_0_and_1(tmp_path):
    for number in range(3):
        put(tmp_path / "images" / f"{number}.png", picture(number))
        place = tmp_path / "masks" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(squares([0, 255])).convert("1").save(place)
    result = look_at(tmp_path)
    assert result.masks["forms"] == {"PNG 1": 3}
    assert [row.value for row in result.classes] == ["0", "1"]


def test_palette_masks_keep_ids_and_lend_their_colors(tmp_path):
    for number in range(3):
        put(tmp_path / "images" / f"{number}.png", picture(number))
        mask = Image.fromarray(squares([0, 1, 2]), "P") if False else Image.fromarray(squares([0, 1, 2]))
        mask.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10] + [0] * 759)
        place = tmp_path / "masks" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        mask.save(place)
    result = look_at(tmp_path)
    assert result.masks["forms"] == {"PNG P": 3}
    assert [row.color for row in result.classes] == [(0, 0, 0), (200, 10, 10), (10, 200, 10)]


def test_colors_become_classes_and_a_labelmap_names_them(tmp_path):
    root = tree(tmp_path / "set", [squares([(0, 0, 0), (250, 50, 83), (51, 221, 255)])] * 3)
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:250,50,83::\ncar:51,221,255::\n"
    )
    result = look_at(root)
    table = table_of(result, tmp_path)
    assert table.names == ["background", "road", "car"]
    assert table.encode(squares([(51, 221, 255), (0, 0, 0)]))[0].tolist() == [2] * 24 + [0] * 24


def test_known_colors_are_named_by_their_table(tmp_path):
    colors = [(128, 64, 128), (244, 35, 232), (70, 70, 70), (107, 142, 35)]
    result = look_at(tree(tmp_path, [squares(colors)] * 3))
    assert {row.name for row in result.classes} == {"road", "sidewalk", "building", "vegetation"}
    assert "cityscapes" in kinds(result)["names_by_color"]


def test_first_colors_of_voc_name_nothing(tmp_path):
    """labelme and others paint any classes with them: a cat is no aeroplane."""
    colors = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    result = look_at(tree(tmp_path, [squares(colors)] * 3))
    assert "aeroplane" not in {row.name for row in result.classes}


def test_a_few_pixels_of_another_color_are_ignored_and_told(tmp_path):
    masks = [squares([(0, 0, 0), (200, 0, 0)], (400, 480)) for _ in range(6)]
    masks[2][3, 4] = (0, 90, 130)
    result = look_at(tree(tmp_path / "set", masks))
    assert "first in masks/p02.png" in kinds(result)["odd_value"]
    assert table_of(result, tmp_path).encode(masks[2])[3, 4] == 255


def test_a_stray_id_is_ignored_and_told(tmp_path):
    masks = [squares([0, 1, 2], (400, 480)) for _ in range(6)]
    masks[4][7, 7] = 77
    result = look_at(tree(tmp_path / "set", masks))
    assert "Id 77 has only 1 pixels in 1 of 6 masks, first in masks/p04.png" in kinds(result)["odd_value"]
    assert table_of(result, tmp_path).encode(masks[4])[7, 7] == 255


def test_black_and_white_saved_as_jpeg_is_cut_at_128(tmp_path):
    for number in range(3):
        put(tmp_path / "s" / "images" / f"{number}.png", picture(number))
        mask = squares([0, 255], SIZE)
        mask[10:20, 10:30] = 255
        put(tmp_path / "s" / "masks" / f"{number}.jpg", mask, quality=60)
    result = look_at(tmp_path / "s")
    assert "smoothed" in kinds(result)
    assert "mask_jpeg" in kinds(result)
    table = table_of(result, tmp_path)
    assert table.names == ["background", "foreground"]
    assert table.encode(np.array([[3, 127, 128, 250]], np.uint8)).tolist() == [[0, 0, 1, 1]]


def test_ids_saved_as_gray_rgb_are_read_by_their_gray(tmp_path):
    result = look_at(tree(tmp_path / "set", [squares([(0,) * 3, (1,) * 3, (2,) * 3])] * 3))
    assert "gray_rgb" in kinds(result)
    assert table_of(result, tmp_path).encode(squares([(2,) * 3])).max() == 2


@pytest.mark.parametrize(
    ("values", "zero", "names", "told"),
    [
        ([0, 1, 2], 0.02, ["road", "car"], "ignored"),  # 0 means nothing: "reduce zero"
        ([0, 1, 2], 0.80, ["background", "road", "car"], "the class 'background'"),
        ([0, 1], 0.50, ["road", "car"], None),
        ([1, 2], 0.0, ["road", "car"], None),
    ],
)
def test_the_background_question(tmp_path, values, zero, names, told):
    """Do K names count from 0 or from 1, and is 0 a class? By the largest id and the share of 0."""
    mask = np.full((100, 100), values[-1], np.uint8)
    mask[:40] = values[-2] if values[-2] else 0
    if zero:
        mask.ravel()[: int(zero * mask.size)] = 0
        mask[-1] = values[-1]
        mask[-2] = 1
    root = tree(tmp_path / "set", [mask] * 3)
    (root / "classes.txt").write_text("road\ncar\n")
    result = look_at(root)
    assert table_of(result, tmp_path).names == names
    if told:
        assert told in kinds(result)["reduce_zero"]
    else:
        assert "reduce_zero" not in kinds(result)


def test_thousands_of_values_are_no_classes(tmp_path):
    mask = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)
    result = look_at(tree(tmp_path, [mask] * 3))
    assert "no_table" in kinds(result)
    assert result.recipe is None

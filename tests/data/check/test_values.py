"""Marks of missing data, names by color, and masks of one class: told as findings, never a traceback."""

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from hrseg.data.check.report import report
from hrseg.errors import DataError
from hrseg.imaging import NAN_ID, read_mask
from hrseg.labels import Label, LabelSet, load_labels
from tests.data.check.trees import SIZE, kinds, look_at, picture, put, squares, tree


def tiffs(root, mask, nodata=None, count=3):
    """Write pictures and this mask for each, as TIFF of the mask's type."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if nodata is not None:
        tags[42113] = nodata
    (root / "masks").mkdir(parents=True)
    for number in range(count):
        put(root / "images" / f"{number}.png", picture(number, mask.shape))
        Image.fromarray(mask).save(root / "masks" / f"{number}.tif", tiffinfo=tags)
    return root


def marked(mark, dtype, classes=(0, 1, 2)):
    """A mask of stripes, a corner of it marked."""
    mask = squares(list(classes)).astype(dtype)
    mask[:10, :30] = mark
    return mask


MARKS = [
    (-1, np.int32),
    (-9999, np.int32),
    (-(2**31), np.int32),
    (2**31 - 1, np.int32),
    (-9999, np.float32),
    (float(np.finfo(np.float32).min), np.float32),
    (float("inf"), np.float32),
    (float("nan"), np.float32),
    (65535, np.uint16),
]


@pytest.mark.parametrize(("mark", "dtype"), MARKS)
@pytest.mark.parametrize("names", [None, "classes.txt", "labels.yaml"])
def test_marks_of_missing_data_are_ignored_and_told(tmp_path, mark, dtype, names):
    root = tiffs(tmp_path / "set", marked(mark, dtype))
    if names == "classes.txt":
        (root / names).write_text("ground\nroad\ncar\n")
    elif names:
        (root / names).write_text("classes: [ground, road, car]\nignore: [-2]\n")
    result = look_at(root)
    assert not result.errors
    if mark != mark and names == "labels.yaml":
        assert "NaN" in [row.name for row in result.classes]  # needs no row of the table
    else:
        assert "first in masks/0.tif" in kinds(result)["no_data"]
        assert ("NaN" in kinds(result)["no_data"]) == (mark != mark)
    assert sum(row.role == "class" for row in result.classes) == 3
    if names:
        assert [row.name for row in result.classes if row.role == "class"] == [
            "ground",
            "road",
            "car",
        ]
    if result.recipe.labels:
        (tmp_path / "table.yaml").write_text(result.recipe.labels)
        encoded = load_labels(tmp_path / "table.yaml").encode(read_mask(root / "masks" / "0.tif"))
        assert (encoded[:10, :30] == 255).all()
        assert sorted(np.unique(encoded)) == [0, 1, 2, 255]


@pytest.mark.parametrize(("nodata", "roles"), [("2", 2), ("0", 3), ("7", 3)])
def test_a_files_own_nodata_is_ignored_unless_it_is_common(tmp_path, nodata, roles):
    mask = squares([0, 1, 3, 5])
    mask[:2, 30:40] = 2
    result = look_at(tiffs(tmp_path, mask[:, 12:] if nodata == "2" else mask[:, :36], nodata))
    classes = [row.value for row in result.classes if row.role == "class"]
    assert (nodata in classes) == (nodata == "0")
    assert ("no_data" in kinds(result)) == (nodata != "7")


def test_a_named_nodata_is_a_class(tmp_path):
    mask = squares([0, 1, 3])
    mask[:2, 30:40] = 2
    root = tiffs(tmp_path, mask, "2")
    (root / "class_names.txt").write_text("0: a\n1: b\n2: c\n3: d\n")
    assert [row.name for row in look_at(root).classes] == ["a", "b", "c", "d"]


def test_two_levels_of_16_bits_are_two_classes(tmp_path):
    result = look_at(tree(tmp_path, [squares([0, 65535])] * 3))
    assert [row.name for row in result.classes] == ["background", "foreground"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "mask",
    [
        np.full(SIZE, -5, np.int32),
        np.full(SIZE, np.nan, np.float32),
        squares([0, 300]).astype(np.int32) * 1000,
        np.arange(SIZE[0] * SIZE[1], dtype=np.int32).reshape(SIZE) * -7,
        np.arange(SIZE[0] * SIZE[1], dtype=np.int32).reshape(SIZE) * 90000,
        np.full(SIZE, 70000, np.int32),
    ],
)
def test_any_values_make_a_report(tmp_path, mask):
    result = look_at(tiffs(tmp_path, mask))
    assert result.errors
    assert result.recipe is None
    assert "✗" in report(result)


@pytest.mark.parametrize(("value", "said"), [(1.5, "fractions, such as 1.5"), (1e10, "beyond 31")])
def test_fractions_and_numbers_out_of_range_are_named(tmp_path, value, said):
    root = tiffs(tmp_path, marked(value, np.float32))
    with pytest.raises(DataError, match=said):
        read_mask(root / "masks" / "0.tif")
    assert said in kinds(look_at(root))["unreadable_mask"]


def test_nan_never_needs_a_row_and_other_values_do():
    labels = LabelSet("two", (Label(0, 0, "a", (0, 0, 0)), Label(1, 1, "b", (9, 9, 9))))
    assert labels.encode(np.array([[0, NAN_ID, 1]], np.int32)).tolist() == [[0, 255, 1]]
    with pytest.raises(DataError, match="holds id -3"):
        labels.encode(np.array([[0, -3]], np.int32))


VOC = [row.color for row in load_labels("voc2012").classes]


def test_names_come_from_the_table_with_the_fewest_unused_rows(tmp_path):
    """Black, cat, dog, person in VOC's colors, all of which COCO-Stuff has too, under other names."""
    colors = [VOC[0], VOC[8], VOC[12], VOC[15]]
    result = look_at(tree(tmp_path, [squares(colors)] * 3))
    assert {row.name for row in result.classes} == {"background", "cat", "dog", "person"}
    assert {row.role for row in result.classes} == {"class"}


@pytest.mark.parametrize("table", ["voc2012", "camvid", "cityscapes", "loveda", "potsdam", "isaid"])
def test_no_common_color_is_ignored_by_a_guess(tmp_path, table):
    labels = load_labels(table)
    colors = list(dict.fromkeys(row.color for row in labels.labels))[:8]
    result = look_at(tree(tmp_path, [squares(colors)] * 3))
    ignored = [row.value for row in result.classes if row.role != "class"]
    assert ignored in ([], ["(224, 224, 192)"])


def test_colors_that_several_tables_name_otherwise_stay_unnamed(tmp_path, monkeypatch):
    colors = [(10, 200, 30), (200, 30, 10), (30, 10, 200)]
    tables = {
        one: LabelSet(one, tuple(Label(i, i, f"{one} {i}", c) for i, c in enumerate(colors)))
        for one in ("first", "second")
    }
    monkeypatch.setattr("hrseg.data.check.guess_classes.table_names", lambda: list(tables))
    monkeypatch.setattr(
        "hrseg.data.check.guess_classes.load_labels",
        lambda name: tables.get(name) or load_labels(name),
    )
    result = look_at(tree(tmp_path, [squares(colors)] * 3))
    assert all(row.name.startswith("color") for row in result.classes)


@pytest.mark.parametrize("table", [None, "labels.yaml", "classes.txt", "given"])
@pytest.mark.parametrize("value", [0, 1])
def test_one_class_alone_is_an_error_whatever_the_table(tmp_path, table, value):
    root = tree(tmp_path / "set", [np.full(SIZE, value, np.uint8)] * 3)
    options = {}
    if table == "given":
        options["labels"] = tmp_path / "own.yaml"
        options["labels"].write_text("classes: [ground, road]\n")
    elif table:
        text = "classes: [ground, road]\n" if table == "labels.yaml" else "ground\nroad\n"
        (root / table).write_text(text)
    result = look_at(root, **options)
    assert "one_class" in kinds(result)
    assert result.recipe is None
    assert "values 0 and 255" not in report(result)


def test_masks_without_a_class_are_an_error(tmp_path):
    root = tree(tmp_path, [np.full(SIZE, 255, np.uint8)] * 3)
    (root / "labels.yaml").write_text("classes: [ground, road]\n")
    result = look_at(root)
    assert "No pixel is of any class" in kinds(result)["one_class"]


@pytest.mark.parametrize("color", [0, 255, 90])
def test_masks_drawn_in_transparency_are_said_to_be(tmp_path, color):
    for number in range(3):
        put(tmp_path / "images" / f"{number}.png", picture(number))
        pixels = np.full((*SIZE, 4), color, np.uint8)
        pixels[..., 3] = squares([0, 255])
        put(tmp_path / "masks" / f"{number}.png", pixels)
    result = look_at(tmp_path)
    assert result.errors
    assert "drawn in transparency only" in kinds(result)["mask_alpha"]


def test_odd_ids_are_one_finding(tmp_path):
    masks = [squares([0, 1, 2], (400, 480)) for _ in range(6)]
    for number, value in enumerate((70, 71, 72, 73)):
        masks[2][7 + 9 * number, 7] = value
    result = look_at(tree(tmp_path, masks))
    assert [finding.kind for finding in result.findings].count("odd_value") == 1
    assert "70, 71, 72, 73" in kinds(result)["odd_value"]

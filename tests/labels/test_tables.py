"""Class tables in all forms, built in and of users and other tools."""

import numpy as np
import pytest

from hrseg.errors import DataError
from hrseg.labels import (
    IGNORE_INDEX,
    Label,
    LabelSet,
    distinct_colors,
    find_classes,
    load_labels,
    read_classes,
    table_names,
)
from tests.data.class_files import COLORS, FORMS, NAMES


def test_a_short_yaml_counts_ids_and_skips_ignored_ones(tmp_path):
    (tmp_path / "my.yaml").write_text("classes: [road, car]\nignore: [0]\n")
    labels = load_labels(tmp_path / "my.yaml")
    assert labels.encode(np.array([[0, 1, 2]], np.uint8)).tolist() == [[255, 0, 1]]
    assert labels.names == ["road", "car"]


def test_a_csv_with_names_alone_is_enough(tmp_path):
    (tmp_path / "my.csv").write_text("name\nroad\ncar\n")
    labels = load_labels(tmp_path / "my.csv")
    assert [(row.id, row.train_id) for row in labels.labels] == [(0, 0), (1, 1)]


def test_rows_may_merge_ids_into_one_class(tmp_path):
    (tmp_path / "my.csv").write_text("id,train_id,name\n3,0,car\n9,0,bus\n5,1,road\n")
    labels = load_labels(tmp_path / "my.csv")
    assert labels.encode(np.array([[3, 9, 5]], np.uint8)).tolist() == [[0, 0, 1]]
    assert labels.decode(np.array([[0, 1]], np.uint8)).tolist() == [[3, 5]]


def test_unknown_tables_are_suggested():
    with pytest.raises(DataError, match="Did you mean 'cityscapes'"):
        load_labels("cityscape")
    with pytest.raises(DataError, match="does not exist"):
        load_labels("nowhere/classes.csv")


def test_drawn_colors_differ():
    assert len(set(distinct_colors(40))) == 40


def test_all_tables_have_the_official_sizes():
    sizes = {name: load_labels(name).num_classes for name in table_names()}
    assert sizes == {
        "ade20k": 150,
        "camvid": 11,
        "cityscapes": 19,
        "cityscapes_trainids": 19,
        "coco_stuff": 171,
        "coco_stuff_171": 171,
        "coco_stuff_171_from_0": 171,
        "coco_stuff_from_0": 171,
        "isaid": 16,
        "lip": 20,
        "loveda": 7,
        "pascal_context_59": 59,
        "pascal_context_59_of_459": 59,
        "pascal_context_60": 60,
        "pascal_context_60_of_459": 60,
        "potsdam": 6,
        "synthetic": 9,
        "voc2012": 21,
    }


def test_cityscapes_is_the_table_of_its_authors():
    official = pytest.importorskip("cityscapesscripts.helpers.labels")
    ours = {row.id: row for row in load_labels("cityscapes").labels}
    assert len(ours) == len(official.labels) == 35
    for row in official.labels:
        train_id = row.trainId if row.trainId >= 0 else IGNORE_INDEX
        assert ours[row.id] == Label(row.id, train_id, row.name, row.color)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "id,nam\n0,a\n", "Did you mean 'name'"),
        ("a.csv", "id,name\n0,a,b\n", "more cells"),
        ("a.csv", "name,r\na,1\n", "without all of r, g, b"),
        ("a.csv", "name,r,g,b\na,1,2,300\n", "from 0 to 255"),
        ("a.csv", "id,name\n70000,a\n", "id 70000"),
        ("a.csv", "id,name\n-1,a\n", "only ignored ids may be negative"),
        ("a.yaml", "classes: [{name: a, colour: [1, 2, 3]}]\n", "Did you mean 'color'"),
        ("a.yaml", "classes: [a]\nignored: [0]\n", "Did you mean 'ignore'"),
        ("a.yaml", "classes: [{name: a, color: [1, 2]}]\n", "cannot be read"),
        ("a.yaml", "classes: [\n", "cannot be read"),
        ("a.yaml", "a: b\n", "no list under 'classes'"),
        ("a.yaml", "classes: []\n", "no class in it"),
    ],
)
def test_slips_in_a_users_table_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        load_labels(tmp_path / name)


def test_tables_of_one_dataset_give_the_same_classes_whatever_the_numbers():
    for tables in (
        ("coco_stuff", "coco_stuff_from_0", "coco_stuff_171", "coco_stuff_171_from_0"),
        ("pascal_context_59", "pascal_context_59_of_459"),
        ("pascal_context_60", "pascal_context_60_of_459"),
    ):
        first, *others = (load_labels(table) for table in tables)
        for other in others:
            assert other.names == first.names
            assert (other.palette == first.palette).all()


def test_coco_stuff_numbers_in_both_conventions():
    first, from_0 = load_labels("coco_stuff"), load_labels("coco_stuff_from_0")
    ids = np.array([[0, 1, 11, 13, 90, 92, 182]])
    names = ["person", "fire hydrant", "stop sign", "toothbrush", "banner", "wood"]
    assert first.encode(ids)[0, 0] == 255
    assert [first.names[i] for i in first.encode(ids)[0, 1:]] == names
    assert (from_0.encode(ids[:, 1:] - 1) == first.encode(ids[:, 1:])).all()
    for unused in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91):
        with pytest.raises(DataError, match=f"holds id {unused}"):
            first.encode(np.array([[unused]]))


def test_pascal_context_folds_459_ids_into_60():
    full = load_labels("pascal_context_60_of_459")
    ids = np.array([[0, 1, 2, 9, 284, 360, 458, 459]])  # accordion and wool are among the 400 others
    found = [full.names[i] for i in full.encode(ids)[0]]
    others = ["background", "background"]
    assert found == [*others, "aeroplane", "bag", "person", "sky", "wood", "background"]
    assert load_labels("pascal_context_59_of_459").encode(ids)[0, :2].tolist() == [255, 255]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_class_file_says_the_same(tmp_path, form):
    name, text = FORMS[form]
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    labels = load_labels(tmp_path / name)
    assert labels.num_classes == 3
    assert {row.id: row.name for row in labels.labels} == dict(enumerate(NAMES))
    table = read_classes(tmp_path / name)
    told = [row.color for row in table.rows if row.color]
    assert set(told) <= set(COLORS)
    assert len(told) == 3 or "64" not in text.replace(",", " ").split()
    assert find_classes(tmp_path) == table


def test_names_of_no_class_are_ignored_except_where_the_table_says_otherwise(tmp_path):
    for file, text, names in (
        ("classes.txt", "Void\nroad\n", ["road"]),
        ("class_dict.csv", "name,r,g,b\nroad,1,1,1\nUnlabelled,0,0,0\n", ["road"]),
        ("labels.yaml", "classes: [void, road]\n", ["void", "road"]),
        ("labels.csv", "train_id,name\n0,void\n1,road\n", ["void", "road"]),
    ):
        (tmp_path / file).write_text(text)
        assert load_labels(tmp_path / file).names == names


def test_the_nearest_file_of_classes_is_found(tmp_path):
    (tmp_path / "train" / "deep").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("train: images\n")  # names no class
    assert find_classes(tmp_path) is None
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, a\n1, b\n")
    assert find_classes(tmp_path).labels.names == ["a", "b"]
    (tmp_path / "CLASSES.TXT").write_text("c\nd\n")
    assert find_classes(tmp_path).labels.names == ["c", "d"]


def test_a_table_is_written_as_it_is_read(tmp_path):
    rows = (
        Label(0, 255, "void", (0, 0, 0)),
        Label(1, 0, "left: hand, 'x'", (1, 2, 3), 2),
        Label(2, 1, "été #1", (4, 5, 6), 1),
        Label(3, 2, "None", (7, 8, 9)),
        Label(9, 2, "None", (7, 8, 9)),
    )
    (tmp_path / "t.yaml").write_text(LabelSet("t", rows).to_yaml("mine\nall"), encoding="utf-8")
    assert load_labels(tmp_path / "t.yaml").labels == rows

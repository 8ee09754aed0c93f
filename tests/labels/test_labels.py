import random

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
from tests.data.class_files import BINARY, BROKEN, COLORS, ENCODINGS, FORMS, NAMES

# Official Cityscapes ids of the 19 trained classes, in trainId order.
CITYSCAPES = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def test_cityscapes_maps_34_ids_to_19_classes_and_back():
    labels = load_labels("cityscapes")
    encoded = labels.encode(np.arange(34, dtype=np.uint8)[None])[0]
    assert [int(i) for i in np.flatnonzero(encoded < 255)] == CITYSCAPES
    assert encoded[CITYSCAPES].tolist() == list(range(19))
    assert labels.decode(encoded)[CITYSCAPES].tolist() == CITYSCAPES
    assert labels.names[13] == "car"
    assert tuple(labels.palette[0]) == (128, 64, 128)


def test_cityscapes_licence_plate_is_ignored_as_minus_one_and_as_255():
    labels = load_labels("cityscapes")
    assert labels.encode(np.array([[-1, 7]], np.int32)).tolist() == [[255, 0]]
    assert labels.encode(np.array([[255, 7]], np.uint8)).tolist() == [[255, 0]]


def test_ade20k_shifts_by_one_exactly_once():
    labels = load_labels("ade20k")
    ids = np.arange(151, dtype=np.uint8)[None]
    encoded = labels.encode(ids)
    assert encoded[0, 0] == IGNORE_INDEX
    assert encoded[0, 1:].tolist() == list(range(150))
    assert (labels.decode(encoded) == ids).all()


def test_camvid_ignores_eleven():
    labels = load_labels("camvid")
    assert labels.encode(np.arange(12, dtype=np.uint8)[None]).tolist() == [[*range(11), 255]]
    assert labels.decode(np.array([[255]], np.uint8)).tolist() == [[11]]


def test_an_unknown_id_names_file_ids_and_table():
    with pytest.raises(
        DataError, match=r"a\.png holds ids 40, 41; table 'cityscapes' knows -1 to 33"
    ):
        load_labels("cityscapes").encode(np.array([[40, 41, 7]], np.uint8), "a.png")
    with pytest.raises(DataError, match=r"holds id 1000"):
        load_labels("camvid").encode(np.array([[1000, 3]], np.int32))


def test_color_masks_are_matched_exactly():
    labels = load_labels("camvid")
    colors = np.array([[row.color for row in labels.labels]], np.uint8)
    assert labels.encode(colors).tolist() == [[*range(11), 255]]
    with pytest.raises(DataError, match=r"color \(1, 2, 3\)"):
        labels.encode(np.array([[[1, 2, 3]]], np.uint8), "c.png")


def test_plain_types_round_trip():
    labels = load_labels("cityscapes")
    assert LabelSet.from_dict(labels.to_dict()) == labels
    with pytest.raises(DataError, match="cannot be read"):
        LabelSet.from_dict({"name": "x"})


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


def test_a_binary_set_with_0_and_255_can_name_255_a_class(tmp_path):
    (tmp_path / "b.yaml").write_text(
        "classes:\n- {id: 0, name: no}\n- {id: 255, name: yes it is}\n"
    )
    labels = load_labels(tmp_path / "b.yaml")
    assert labels.encode(np.array([[0, 255]], np.uint8)).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,train_id,name\n0,0,a\n0,1,b\n", "id 0 twice"),
        ("id,train_id,name\n0,0,a\n1,2,b\n", "without a gap"),
        ("id\n0\n", "needs a column 'name'"),
        ("id,name\nx,a\n", "cannot be read"),
    ],
)
def test_contradictory_tables_are_refused(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        load_labels(tmp_path / "t.csv")


def test_unknown_tables_are_suggested():
    with pytest.raises(DataError, match="Did you mean 'cityscapes'"):
        load_labels("cityscape")
    with pytest.raises(DataError, match="does not exist"):
        load_labels("nowhere/classes.csv")


def test_drawn_colors_differ():
    assert len(set(distinct_colors(40))) == 40


def test_labels_decode_to_the_first_of_several_ids():
    rows = (Label(5, 0, "a", (1, 1, 1)), Label(700, 1, "b", (2, 2, 2)))
    wide = LabelSet("wide", rows).decode(np.array([[0, 1]], np.uint8))
    assert wide.tolist() == [[5, 700]]
    assert wide.dtype == np.uint16


def test_a_color_of_a_class_and_of_an_ignored_row_means_the_class():
    car = np.array([[[0, 0, 142]]], np.uint8)  # the licence plate has it too
    assert load_labels("cityscapes").encode(car).tolist() == [[13]]


def test_two_classes_of_one_color_are_refused_only_for_color_masks():
    labels = load_labels("ade20k")  # road and skyscraper are both (140, 140, 140)
    with pytest.raises(DataError, match="'road' and 'skyscraper'"):
        labels.encode(np.zeros((1, 1, 3), np.uint8))


def test_an_id_past_255_does_not_swallow_255():
    labels = LabelSet("wide", (Label(5, 0, "a", (1, 1, 1)), Label(700, 1, "b", (2, 2, 2))))
    assert labels.encode(np.array([[255, 5]], np.uint8)).tolist() == [[255, 0]]
    assert labels.encode(np.array([[255, 700]], np.int32)).tolist() == [[255, 1]]


def test_every_unknown_id_of_a_wide_mask_is_named():
    with pytest.raises(DataError, match=r"holds ids -7, 50, 70000; table 'camvid'"):
        load_labels("camvid").encode(np.array([[70000, -7, 50, 3]], np.int32))


def test_likely_mistakes_get_their_own_advice():
    labels = load_labels("camvid")
    with pytest.raises(DataError, match="JPEG changes ids"):
        labels.encode(np.array([[200]], np.uint8), "m.jpg")
    with pytest.raises(DataError, match="one channel"):
        labels.encode(np.full((1, 1, 3), 7, np.uint8), "m.png")


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


def test_train_ids_of_cityscapes_stay_as_they_are():
    ids = np.array([[*range(19), 255]], np.uint8)
    assert (load_labels("cityscapes_trainids").encode(ids) == ids).all()


def test_id_palette_colors_a_mask_file():
    palette = load_labels("cityscapes").id_palette()
    assert palette.shape == (256, 3)
    assert palette[26].tolist() == [0, 0, 142]
    assert palette[200].tolist() == [0, 0, 0]


def test_empty_masks_encode():
    assert load_labels("camvid").encode(np.zeros((0, 4), np.uint8)).shape == (0, 4)


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


def test_left_and_right_change_places_in_a_mirror(tmp_path):
    lip = load_labels("lip")
    names = [(lip.names[a], lip.names[b]) for a, b in lip.flip_pairs]
    assert names == [(f"left {x}", f"right {x}") for x in ("arm", "leg", "shoe")]
    assert lip.flip_order == [*range(14), 15, 14, 17, 16, 19, 18]
    again = LabelSet.from_dict(lip.to_dict())
    assert (again, again.flip_pairs) == (lip, lip.flip_pairs)
    assert load_labels("cityscapes").flip_pairs == ()
    own = tmp_path / "hands.csv"
    own.write_text("id,name,mirror\n5,left hand,7\n6,face,\n7,right hand,5\n")
    assert load_labels(own).flip_pairs == ((0, 2),)
    own.with_suffix(".yaml").write_text(
        "classes: [{name: left, mirror: 1}, {name: right, mirror: 0}]"
    )
    assert load_labels(own.with_suffix(".yaml")).flip_order == [1, 0]


@pytest.mark.parametrize(("other", "said"), [("9", "no such id"), ("6", "other way round")])
def test_a_mirror_without_its_twin_is_refused(tmp_path, other, said):
    own = tmp_path / "hands.csv"
    own.write_text(f"id,name,mirror\n5,left hand,{other}\n6,face,\n7,right hand,5\n")
    with pytest.raises(DataError, match=said):
        load_labels(own)


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
    ids = np.array(
        [[0, 1, 2, 9, 284, 360, 458, 459]]
    )  # accordion and wool are among the 400 others
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


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_in_every_encoding(tmp_path, encoding):
    codec, text = ENCODINGS[encoding]
    (tmp_path / "classes.txt").write_bytes(text.encode(codec))
    assert load_labels(tmp_path / "classes.txt").names == text.split("\n")[:-1]


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_understood_is_refused_with_its_place(tmp_path, case):
    name, text, said = BROKEN[case]
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    for read in (load_labels, find_classes):
        with pytest.raises(DataError, match=said) as refused:
            read(tmp_path / name if read is load_labels else tmp_path)
        assert name in str(refused.value)
        assert len(str(refused.value)) < 1000
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("case", BINARY)
def test_what_is_no_text_is_refused(tmp_path, case):
    name, content = BINARY[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        find_classes(tmp_path)


@pytest.mark.parametrize(
    "name", ["no", "yes", "off", "null", "~", "1", "1.5", "2024-01-01", "0x10"]
)
def test_yaml_words_and_numbers_stay_names(tmp_path, name):
    for file, text in (
        ("a.yaml", f"classes: [{name}, other]\n"),
        ("b.yaml", f"classes: [{{name: {name}}}, other]\n"),
        ("data.yaml", f"names: [{name}, other]\n"),
        ("dataset.yaml", f"names:\n  0: {name}\n  1: other\n"),
    ):
        (tmp_path / file).write_text(text)
        labels = load_labels(tmp_path / file)
        assert labels.names == [name, "other"]
        (tmp_path / "again.yaml").write_text(labels.to_yaml("x"), encoding="utf-8")
        assert load_labels(tmp_path / "again.yaml").labels == labels.labels


def test_rows_may_stand_in_any_order(tmp_path):
    (tmp_path / "classes.txt").write_text("2 car\n0 sky\n1 road\n")
    labels = load_labels(tmp_path / "classes.txt")
    assert labels.names == ["car", "sky", "road"]  # train ids follow the file
    assert labels.encode(np.array([[0, 1, 2]], np.uint8)).tolist() == [[1, 2, 0]]


def test_names_that_end_in_numbers_are_names(tmp_path):
    for lines in (["lane 1", "lane 2"], ["background", "lane 1"], ["0", "1", "7"]):
        (tmp_path / "classes.txt").write_text("\n".join(lines))
        assert load_labels(tmp_path / "classes.txt").names == lines


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


def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path):
    rng = random.Random(0)
    forms = [form[:2] for form in [*FORMS.values(), *BROKEN.values()] if len(form[1]) < 1000]
    bits = [
        "\n",
        "\t",
        ",",
        ";",
        ":",
        "0",
        "-1",
        '"',
        "'",
        "[",
        "]",
        "{",
        "}",
        "#",
        "&a",
        "*a",
        "? ",
        "=",
        "1.5",
    ]
    seen = set()
    for _ in range(600):
        name, text = rng.choice(forms)
        for _ in range(rng.randint(1, 4)):
            place = rng.randint(0, len(text))
            text = (
                text[:place]
                + rng.choice([*bits, "\x1b", "\u202e", "name"])
                + text[place + rng.randint(0, 2) :]
            )
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        try:
            load_labels(tmp_path / name)
            seen.add("read")
        except DataError as error:
            seen.add("refused" if name in str(error) and str(error).isprintable() else str(error))
    assert seen == {"read", "refused"}


def test_snap_takes_unknown_values_as_the_nearest_row(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text(
        "snap: 3\nclasses:\n"
        "  - {id: 10, name: a, color: [10, 10, 10]}\n  - {id: 20, name: b, color: [20, 40, 60]}\n"
        "ignore: [-9999]\n"
    )
    labels = load_labels(path)
    ids = np.array([[7, 10, 13, 17, 23, 253, -9998]])
    for read in (labels, LabelSet.from_dict(labels.to_dict())):
        assert read.encode(ids.astype(np.int32)).tolist() == [[0, 0, 0, 1, 1, 255, 255]]
        assert read.encode(ids[:, :5].astype(np.uint8)).tolist() == [[0, 0, 0, 1, 1]]
        colors = np.array([[(13, 7, 10), (20, 43, 58)]], np.uint8)
        assert read.encode(colors).tolist() == [[0, 1]]
        for wrong in (np.array([[14]], np.uint8), np.array([[[24, 40, 60]]], np.uint8)):
            with pytest.raises(DataError, match=r"14|24"):
                read.encode(wrong)

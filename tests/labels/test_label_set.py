"""Mapping between ids, colors and trainIds."""

import numpy as np
import pytest

from hrseg.errors import DataError
from hrseg.labels import (
    IGNORE_INDEX,
    Label,
    LabelSet,
    load_labels,
)

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
    with pytest.raises(DataError, match=r"a\.png holds ids 40, 41; table 'cityscapes' has -1 to 33"):
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


def test_a_binary_set_with_0_and_255_can_name_255_a_class(tmp_path):
    (tmp_path / "b.yaml").write_text("classes:\n- {id: 0, name: no}\n- {id: 255, name: yes it is}\n")
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
    own.with_suffix(".yaml").write_text("classes: [{name: left, mirror: 1}, {name: right, mirror: 0}]")
    assert load_labels(own.with_suffix(".yaml")).flip_order == [1, 0]


@pytest.mark.parametrize(("other", "said"), [("9", "no such id"), ("6", "other way round")])
def test_a_mirror_without_its_twin_is_refused(tmp_path, other, said):
    own = tmp_path / "hands.csv"
    own.write_text(f"id,name,mirror\n5,left hand,{other}\n6,face,\n7,right hand,5\n")
    with pytest.raises(DataError, match=said):
        load_labels(own)


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

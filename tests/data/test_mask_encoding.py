"""Which numbers a dataset's masks use is found out, never guessed."""

import logging

import numpy as np
import pytest
from scipy.io import savemat

from hrseg.data.datamodule import SegmentationData
from hrseg.data.dataset import read_ids
from hrseg.data.layouts import Pair, find_pairs
from hrseg.data.mask_encoding import NUMBERINGS, choose_tables
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError
from hrseg.imaging import read_mask, write_image, write_mask
from hrseg.labels import load_labels

COCO = ("coco_stuff", *NUMBERINGS["coco_stuff"])


def pairs_of(tmp_path, *masks):
    found = []
    for number, ids in enumerate(masks):
        path = tmp_path / f"{number}.png"
        write_mask(path, np.array(ids, dtype=np.uint8)[None])
        found.append(Pair(path, path, str(number)))
    return found


@pytest.mark.parametrize("table", COCO)
def test_a_full_set_of_ids_names_its_table(tmp_path, table, caplog):
    ids = [label.id for label in load_labels(table).labels]
    pairs = pairs_of(tmp_path, ids[:90], ids[90:])
    with caplog.at_level(logging.INFO):
        settled = choose_tables(pairs, load_labels("coco_stuff"), read_ids)
    assert {pair.table or "coco_stuff" for pair in settled} == {table}
    assert f"numbered as in table '{table}'" in caplog.text


@pytest.mark.parametrize(
    ("masks", "table"),
    [
        (([0, 1, 182], [3]), "coco_stuff"),  # only the published numbers reach 182
        (([0, 255], [181]), "coco_stuff_from_0"),  # 255 is void, and 181 is beyond 171 classes
        (([0, 171], [12, 11]), "coco_stuff_171"),  # 12 is used, and there is no 255
        (([0, 255], [11, 170]), "coco_stuff_171_from_0"),  # 11 would be unused with gaps from 0
    ],
)
def test_a_few_telling_ids_are_enough(tmp_path, masks, table):
    settled = choose_tables(pairs_of(tmp_path, *masks), load_labels("coco_stuff"), read_ids)
    assert {pair.table or "coco_stuff" for pair in settled} == {table}


def test_doubt_is_an_error_unless_somebody_chose(tmp_path):
    labels, pairs = load_labels("coco_stuff"), pairs_of(tmp_path, [1, 3, 149])
    with pytest.raises(DataError, match=r"fits more than one numbering .*0 person, 1 bicycle"):
        choose_tables(pairs, labels, read_ids)
    assert choose_tables(pairs, labels, read_ids, trusted=True) == pairs


def test_a_mixture_fits_nothing(tmp_path):
    pairs = pairs_of(tmp_path, [0, 182], [255, 12])
    with pytest.raises(DataError, match="fits no numbering of these classes"):
        choose_tables(pairs, load_labels("coco_stuff"), read_ids)


def test_a_person_is_a_person_in_either_convention(tmp_path):
    """The same scenes, once as 0 = unlabelled and once as 255 = unlabelled, give the same trainIds."""
    first, other = tmp_path / "a", tmp_path / "b"
    for root in (first, other):
        write_scenes(root, "coco_stuff", {"train": 4, "val": 3}, (96, 128))
    for path in sorted(other.glob("*/label/*.png")):
        ids = read_mask(path)
        ids[0, :9] = 0  # some unlabelled pixels, as real masks have
        write_mask(first / path.relative_to(other), ids)
        write_mask(path, ids - np.uint8(1))  # 0 wraps to 255
    sets = [SegmentationData(layout="coco_stuff", root=root) for root in (first, other)]
    for split in ("train_pairs", "val_pairs"):
        for one, two in zip(*(getattr(data, split) for data in sets), strict=True):
            assert (one.table, two.table) == (None, "coco_stuff_from_0")
            mask = sets[0].train_set.read_trainids(one)[1]
            assert (mask == sets[1].train_set.read_trainids(two)[1]).all()
            assert (mask[0, :9] == 255).all()
            assert "road" in {sets[0].labels.names[i] for i in np.unique(mask) if i != 255}


@pytest.mark.parametrize("classes", [59, 60])
def test_pascal_context_is_read_from_60_and_from_459_ids(tmp_path, classes):
    write_scenes(tmp_path, "pascal_context", {"train": 2, "val": 1}, (64, 96))
    words = {"layout": "pascal_context", "root": tmp_path, "labels": f"pascal_context_{classes}"}
    before = SegmentationData(**words)
    masks = [before.train_set.read_trainids(pair)[1] for pair in before.train_pairs]
    full = load_labels("pascal_context_60_of_459")
    numbers = np.array([label.id for label in full.classes])  # class of 60 → id of 459
    for path in tmp_path.glob("SegmentationClassContext/*.png"):
        (tmp_path / "trainval").mkdir(exist_ok=True)
        label_map = numbers[read_mask(path)].astype(np.uint16)
        savemat(tmp_path / "trainval" / f"{path.stem}.mat", {"LabelMap": label_map})
        path.unlink()
    after = SegmentationData(**words)
    assert {pair.table for pair in after.train_pairs} == {f"pascal_context_{classes}_of_459"}
    for pair, mask in zip(after.train_pairs, masks, strict=True):
        assert (after.train_set.read_trainids(pair)[1] == mask).all()


def test_the_released_coco_stuff_10k_is_read_from_matlab_files(tmp_path):
    for place in ("imageLists", "images", "annotations"):
        (tmp_path / place).mkdir()
    (tmp_path / "imageLists/train.txt").write_text("COCO_train2014_1\nCOCO_train2014_2\n")
    ids = np.array([[0, 1, 13, 182]], np.uint8)
    for number in (1, 2):
        write_image(tmp_path / f"images/COCO_train2014_{number}.jpg", np.zeros((1, 4, 3), np.uint8))
        savemat(tmp_path / f"annotations/COCO_train2014_{number}.mat", {"S": ids, "captions": "x"})
    data = SegmentationData(layout="coco_stuff", root=tmp_path)
    mask = data.train_set.read_trainids(data.train_pairs[0])[1]
    assert mask.tolist() == [[255, 0, 11, 170]]
    savemat(tmp_path / "annotations/COCO_train2014_1.mat", {"T": ids})
    with pytest.raises(DataError, match="holds T; a mask should be a map of whole numbers called S"):
        read_ids(data.train_pairs[0])
    (tmp_path / "annotations/COCO_train2014_1.mat").write_bytes(b"no matlab")
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        read_ids(data.train_pairs[0])


def test_mmsegmentation_and_released_names_of_coco_stuff(tmp_path):
    image = np.zeros((1, 3, 3), np.uint8)
    for year, ids in (("train2014", [0, 171, 12]), ("test2014", [0, 171, 91])):
        for name in ("a", "b"):
            write_image(tmp_path / f"images/{year}/{name}.jpg", image)
            path = tmp_path / f"annotations/{year}/{name}_labelTrainIds.png"
            write_mask(path, np.array([ids], np.uint8))
    assert len(find_pairs("coco_stuff", tmp_path, "val")) == 2
    data = SegmentationData(layout="coco_stuff", root=tmp_path)
    assert {pair.table for pair in data.train_pairs + data.val_pairs} == {"coco_stuff_171"}
    plain = tmp_path / "annotations/train2014/a.png"
    write_mask(plain, np.array([[0, 182, 13]], np.uint8))
    assert find_pairs("coco_stuff", tmp_path, "train")[0].mask == plain

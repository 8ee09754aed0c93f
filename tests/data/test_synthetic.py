import numpy as np
import pytest

from hrseg.data.layouts import LAYOUTS, find_pairs
from hrseg.data.street import (
    NAMES,
    PERSON,
    _Street,
    scene,
)
from hrseg.data.synthetic import PARTS, PATHS, SYNONYMS, figure, write_scenes
from hrseg.imaging import read_image, read_mask
from hrseg.labels import load_labels


@pytest.mark.parametrize("layout", sorted(set(PATHS) - {"lip"}))
def test_written_masks_hold_the_layouts_ids_of_the_same_things(tmp_path, layout):
    write_scenes(tmp_path, layout, {"train": 2}, (64, 96))
    pair = find_pairs(layout, tmp_path, "train")[0]
    labels = load_labels(LAYOUTS[layout].table or tmp_path / "labels.yaml")
    encoded = labels.encode(read_mask(pair.mask), str(pair.mask))
    mask = scene(0, (64, 96))[1]
    for i, name in enumerate(NAMES):
        theirs = SYNONYMS.get(layout, {}).get(name, name)
        assert (encoded[mask == i] == labels.names.index(theirs)).all()
    if pair.image.suffix == ".png":
        assert (read_image(pair.image) == scene(0, (64, 96))[0]).all()


@pytest.mark.parametrize("corners", [((3.4, 2.6), (50.5, 9.1), (20.7, 38.2)), ((12.6, 9.6), (32, 25))])
def test_a_shape_covers_the_same_pixels_of_image_and_mask(corners):
    street = _Street(np.random.RandomState(0), (40, 60))
    street.paint(PERSON, (1, 2, 3), *corners)
    painted = (np.array(street.image) == (1, 2, 3)).all(axis=2)
    assert painted.any()
    assert (painted == (np.array(street.mask) == PERSON)).all()


def test_a_written_dataset_is_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        write_scenes(tmp_path / name, "camvid", {"train": 2, "val": 1}, (32, 48), seed=5)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 6
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_splits_share_no_scene(tmp_path):
    write_scenes(tmp_path, "camvid", {"train": 2, "val": 2}, (32, 48))
    contents = {p.read_bytes() for p in tmp_path.glob("*/*.png") if "annot" not in p.parent.name}
    assert len(contents) == 4


def test_every_layout_can_be_written():
    assert set(PATHS) == set(LAYOUTS)


def test_somebody_who_faces_us_has_the_left_arm_on_our_right(tmp_path):
    ways = set()
    for index in range(8):
        mask = figure(index)[1]
        columns = {name: np.nonzero(mask == PARTS.index(name))[1].mean() for name in PARTS[14:]}
        faces_us = (mask == PARTS.index("face")).any()
        for part in ("arm", "leg", "shoe"):
            assert (columns[f"left {part}"] > columns[f"right {part}"]) == faces_us
        ways.add(bool(faces_us))
    assert ways == {True, False}
    write_scenes(tmp_path, "lip", {"val": 1}, (64, 48))
    pair = find_pairs("lip", tmp_path, "val")[0]
    assert (read_mask(pair.mask) == figure(0, (64, 48))[1]).all()

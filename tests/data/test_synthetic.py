import numpy as np
import pytest

from hrseg.data.labels import load_labels
from hrseg.data.layouts import find_pairs
from hrseg.data.synthetic import NAMES, SYNONYMS, scene, write_scenes
from hrseg.errors import ConfigError
from hrseg.imaging import read_image, read_mask


def test_a_scene_is_a_function_of_its_number():
    first, again, other = scene(4), scene(4), scene(5)
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert (first[0] != other[0]).any()
    assert (scene(4, seed=1)[1] != first[1]).any()


def test_twenty_scenes_hold_every_class():
    found = np.unique(np.concatenate([scene(i)[1].ravel() for i in range(20)]))
    assert found.tolist() == list(range(len(NAMES)))
    assert load_labels("synthetic").names == list(NAMES)


@pytest.mark.parametrize("layout", sorted(SYNONYMS))
def test_written_masks_hold_the_layouts_ids_of_the_same_things(tmp_path, layout):
    write_scenes(tmp_path, layout, {"train": 2}, (64, 96))
    pair = find_pairs(layout, tmp_path, "train")[0]
    labels = load_labels(tmp_path / "labels.yaml" if layout == "folder" else layout)
    encoded = labels.encode(read_mask(pair.mask), str(pair.mask))
    mask = scene(0, (64, 96))[1]
    for i, name in enumerate(NAMES):
        theirs = SYNONYMS[layout].get(name, name)
        assert (encoded[mask == i] == labels.names.index(theirs)).all()
    if pair.image.suffix == ".png":
        assert (read_image(pair.image) == scene(0, (64, 96))[0]).all()


def test_odd_sizes_work_and_tiny_ones_are_refused():
    assert scene(0, (17, 33))[0].shape == (17, 33, 3)
    with pytest.raises(ConfigError, match="at least 16 x 16"):
        scene(0, (8, 8))
    with pytest.raises(ConfigError, match="Unknown layout 'voc'"):
        write_scenes("unused", "voc")

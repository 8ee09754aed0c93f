import numpy as np
import pytest

from hrseg.data.street import (
    BUILDING,
    CAR,
    NAMES,
    PAVEMENT,
    ROAD,
    SKY,
    TREE,
    scene,
)
from hrseg.data.synthetic import write_scenes
from hrseg.errors import ConfigError
from hrseg.labels import load_labels


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


def test_odd_sizes_work_and_tiny_ones_are_refused():
    assert scene(0, (17, 33))[0].shape == (17, 33, 3)
    with pytest.raises(ConfigError, match="at least 16 x 16"):
        scene(0, (8, 8))
    with pytest.raises(ConfigError, match="Unknown layout 'vok'"):
        write_scenes("unused", "vok")


def test_things_stand_where_they_belong():
    masks = np.stack([scene(i)[1] for i in range(12)])
    upper, lower = masks[:, :32], masks[:, 96:]
    assert not (upper == ROAD).any()
    assert not (lower == SKY).any()
    assert (lower == ROAD).mean() > 0.4


def test_scenes_of_another_shape_hold_the_same_kinds():
    for size in ((256, 256), (300, 200)):
        found = np.unique(np.concatenate([scene(i, size)[1].ravel() for i in range(8)]))
        assert {ROAD, PAVEMENT, BUILDING, SKY, TREE, CAR} <= set(found.tolist())

from pathlib import Path

import numpy as np
import pytest

from hrseg.convert.base import (
    FIX,
    ObjectList,
    Record,
    Skipped,
    Source,
    errors_at,
    polygon,
    read_size,
    rectangle,
    rectangle_at,
)
from hrseg.errors import DataError

SIZE = (6, 8)


def painted(draw):
    mask = np.zeros(SIZE, bool)
    patch = draw(SIZE)
    height, width = patch.pixels.shape
    mask[patch.top : patch.top + height, patch.left : patch.left + width] = patch.pixels
    return mask


def test_a_box_is_the_same_by_corners_by_sides_and_by_points():
    expected = np.zeros(SIZE, bool)
    expected[1:3, 1:5] = True
    for draw in (
        rectangle(1, 1, 5, 3),
        rectangle_at("1", 1, 4, 2),
        rectangle(2, 0, 4, 4, 90),  # clockwise around its middle (3, 2)
        polygon([[1, 1], [5, 1], [5, 3], [1, 3]]),
        polygon([1, 1, 5, 1, 5, 3, 1, 3]),
    ):
        assert (painted(draw) == expected).all()


def test_objects_are_sorted_by_depth_and_those_without_an_area_are_counted():
    skipped = Skipped()
    found = ObjectList("a.png", skipped)
    ring = [[1, 1], [5, 1], [5, 3]]
    found.add("shape 1", "car", lambda: polygon(ring), depth=2)
    found.add("shape 2", "road", lambda: polygon(ring), depth="-1.5")
    found.add("shape 3", "sky", lambda: polygon(ring[:2]))
    found.add("shape 4", "tree", lambda: polygon(ring), depth=2)
    assert [item.label for item in found.objects] == ["road", "car", "tree"]
    assert skipped.examples == {"shapes of too few points": ["a.png, shape 3 ('sky')"]}
    for label in (None, "", 3):
        with pytest.raises(DataError, match=r"a\.png, shape 5: it has no label"):
            found.add("shape 5", label, lambda: polygon(ring))


def test_damage_is_told_with_its_place_and_the_next_step():
    for damage, words in (
        (lambda: {}["points"], "'points' is missing"),
        (lambda: [][0], "it has another form"),
        (lambda: polygon([[0, "x"], [1, 1], [2, 0]]), "not pairs of numbers"),
        (lambda: read_size(6, "wide"), "'wide'"),
    ):
        with pytest.raises(DataError) as error, errors_at("a.json, shape 7", FIX):
            damage()
        assert str(error.value).startswith("a.json, shape 7: ")
        assert words in str(error.value)
        assert str(error.value).endswith(FIX)


def test_one_broken_image_of_many_is_named_and_a_source_of_none_is_refused():
    def read(number):
        with errors_at(f"image {number}", FIX):
            return Record("a", Path("a.png"), {2: "annotations, image 2"}[number])

    source = Source()
    assert [record.place for record in source.read_records([1, 2, 3], read)] == ["annotations, image 2"]
    assert [text.partition(":")[0] for text in source.broken] == ["image 1", "image 3"]
    with pytest.raises(DataError, match=r"image 5: .*No image of 2 can be read"):
        source.read_records([5, 7], read)

"""The transforms that a recipe lists, from their names to their pixels."""

import numpy as np
import pytest

from hrseg.errors import ConfigError
from tests.data.recipes import recipe_of

PLAIN = {"crop": (24, 32), "scale_min": 1, "scale_max": 1, "flip": 0.0}
IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
MASK = np.full((24, 32), 7, np.uint8)


def test_a_listed_transform_changes_images_by_their_seed():
    recipe = recipe_of(**PLAIN, transforms=[{"name": "GaussNoise", "p": 0.5}])
    made = [recipe(IMAGE, MASK, seed=seed) for seed in range(20)]
    again = recipe_of(**PLAIN, transforms=[{"name": "GaussNoise", "p": 0.5}])
    for seed in (3, 0, 11):  # whatever came before
        assert np.array_equal(again(IMAGE, MASK, seed=seed)[0], made[seed][0])
    changed = [not np.array_equal(image, IMAGE) for image, _ in made]
    assert 0 < sum(changed) < 20
    assert all(np.array_equal(mask, MASK) for _, mask in made)


def test_masks_follow_and_what_comes_in_has_no_class():
    angle = {"name": "Rotate", "p": 1.0, "limit": [90, 90]}
    image, mask = recipe_of(**PLAIN, transforms=[angle])(IMAGE, MASK, seed=0)
    assert set(np.unique(mask)) == {7, 255}
    assert (image[mask == 255] == 0).all()
    assert (mask == 7).sum() == pytest.approx(24 * 24, abs=60)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "GausNoise"}, "no transform 'GausNoise'.*Did you mean 'GaussNoise'"),
        ({"p": 0.5}, "no transform 'None'"),
        ({"name": "Compose"}, "no transform 'Compose'"),
        ({"name": "DualTransform"}, "no transform 'DualTransform'"),
        ({"name": "GaussNoise", "std": 3}, "no argument 'std'. It takes: std_range"),
        ({"name": "GaussNoise", "std_rang": 3}, "Did you mean 'std_range'"),
        ({"name": "GaussNoise", "std_range": [5, 9]}, "cannot run with.*>= 0 and <= 1$"),
        ({"name": "Blur", "blur_limit": "wide"}, "cannot run with"),
        ({"name": "Resize", "height": 8, "width": 8}, "changes the size"),
        ({"name": "RandomCrop", "height": 8, "width": 8}, "changes the size"),
        ({"name": "Normalize"}, "changes the size or the type"),
        ({"name": "Rotate", "mask_interpolation": 1}, "mixes classes"),
    ],
)
def test_what_cannot_be_listed_is_refused_before_training(entry, words):
    with pytest.raises(ConfigError, match=words):
        recipe_of(**PLAIN, transforms=[entry])


@pytest.mark.parametrize("name", ["HorizontalFlip", "VerticalFlip", "Transpose", "D4"])
def test_mirrors_that_know_no_left_and_right_are_refused_where_the_table_does(name):
    options = {**PLAIN, "crop": (32, 32), "transforms": [{"name": name}]}
    with pytest.raises(ConfigError, match=r"Use data\.flip, data\.vflip"):
        recipe_of([0, 2, 1], **options)
    recipe_of([0, 1, 2], **options)

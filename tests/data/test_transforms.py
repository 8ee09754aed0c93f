"""Image and mask stay in step, and what comes out depends on the seed alone."""

import numpy as np
import pytest

from hrseg.config import data_config
from hrseg.data.crop import CROP_RETRIES
from hrseg.data.transforms import Distortion, scales
from hrseg.errors import ConfigError
from tests.data.recipes import recipe_of

PLAIN = {"scale_min": 1.0, "scale_max": 1.0, "flip": 0.0}


def numbered(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Row number in red, column number in green, and a mask that can be told from the image."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([rows, columns, rows // 16 * 16 + columns // 16], axis=2)
    return image, image[..., 2].copy()


def test_scales_hold_both_ends():
    assert scales(0.5, 2.1, 0.1) == pytest.approx(np.arange(5, 22) / 10)
    assert scales(0.5, 2.0, 0.1)[-1] == 2.0
    assert scales(1.0, 1.0, 0.1) == [1.0]


def test_scales_upside_down():
    for step in (0.1, 0):
        with pytest.raises(ConfigError, match=r"scale_min 2\.0 is larger than data\.scale_max 0\.5"):
            data_config(layout="synthetic", scale_min=2.0, scale_max=0.5, scale_step=step)


def test_crop_of_the_native_size_is_the_image():
    image, mask = numbered(40, 60)
    out = recipe_of(crop=(40, 60), **PLAIN)(image, mask, seed=3)
    assert np.array_equal(out[0], image)
    assert np.array_equal(out[1], mask)


def test_crop_is_a_window_and_mask_follows():
    image, mask = numbered(64, 96)
    corners = set()
    for seed in range(60):
        cut, trainids = recipe_of(crop=(16, 32), **PLAIN)(image, mask, seed=seed)
        top, left = map(int, cut[0, 0, :2])
        corners.add((top, left))
        assert np.array_equal(cut, image[top : top + 16, left : left + 32])
        assert np.array_equal(trainids, mask[top : top + 16, left : left + 32])
    tops, lefts = zip(*corners, strict=True)
    assert min(tops) < 8
    assert max(tops) > 40
    assert min(lefts) < 8
    assert max(lefts) > 56


def test_flip_mirrors_both():
    image, mask = numbered(20, 30)
    cut, trainids = recipe_of(crop=(20, 30), scale_min=1, scale_max=1, flip=1.0)(image, mask, seed=0)
    assert np.array_equal(cut, image[:, ::-1])
    assert np.array_equal(trainids, mask[:, ::-1])


def test_small_images_are_padded_right_and_below():
    image, mask = np.full((10, 12, 3), 200, np.uint8), np.full((10, 12), 4, np.uint8)
    recipe = recipe_of(crop=(16, 20), photometric=1.0, **PLAIN)
    for seed in range(10):
        cut, trainids = recipe(image, mask, seed=seed)
        assert (trainids[:10, :12] == 4).all()
        assert (trainids == 255).sum() == 16 * 20 - 10 * 12
        assert (cut[trainids == 255] == 0).all()  # black, whatever the colors do
        assert (cut[trainids == 4] > 0).all()


def test_scale_says_the_long_side():
    image, mask = numbered(50, 100)
    for base_size, expected in ((None, (100, 200)), (60, (60, 120)), (30, (30, 60))):
        recipe = recipe_of(crop=(200, 200), base_size=base_size, scale_min=2, scale_max=2, flip=0)
        _, trainids = recipe(image, mask, seed=0)
        inside = trainids != 255
        assert (inside.any(axis=1).sum(), inside.any(axis=0).sum()) == expected


def test_all_scales_come_equally_often():
    image, mask = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8)
    recipe = recipe_of(crop=(42, 42), flip=0)
    sides = [int((recipe(image, mask, seed=s)[1] == 0)[0].sum()) for s in range(1700)]
    values, times = np.unique(sides, return_counts=True)
    assert values.tolist() == list(range(10, 43, 2))
    assert times.min() > 60
    assert times.max() < 145


def test_scaled_image_and_mask_show_the_same_place():
    image, mask = np.zeros((64, 128, 3), np.uint8), np.zeros((64, 128), np.uint8)
    image[16:48, 32:96], mask[16:48, 32:96] = 255, 1
    for seed in range(40):
        cut, trainids = recipe_of(crop=(48, 80))(image, mask, seed=seed)
        differ = (cut[..., 0] > 127) != (trainids == 1)
        assert differ[trainids != 255].mean() < 0.06  # a pixel at the edges
        assert set(np.unique(trainids)) <= {0, 1, 255}


def test_ids_are_never_mixed():
    # Between 0 and 200 any blend would be a third id; the colors say which of the two it was.
    mask = np.repeat(np.repeat(np.eye(8, dtype=np.uint8) * 200, 8, axis=0), 8, axis=1)
    image = np.repeat(mask[:, :, None], 3, axis=2)
    recipe = recipe_of(crop=(64, 64), photometric=0.0)
    for seed in range(40):
        cut, trainids = recipe(image, mask, seed=seed)
        assert set(np.unique(trainids)) <= {0, 200, 255}
        sure = (trainids != 255) & ((cut[..., 0] == 0) | (cut[..., 0] == 200))  # away from edges
        assert (cut[..., 0] == trainids)[sure].mean() > 0.93


def test_padding_and_flip_together_stay_in_step():
    image, mask = np.full((8, 8, 3), 90, np.uint8), np.zeros((8, 8), np.uint8)
    recipe = recipe_of(crop=(8, 12), scale_min=1, scale_max=1, flip=1.0)
    cut, trainids = recipe(image, mask, seed=0)
    assert (trainids[:, :4] == 255).all()
    assert (cut[:, :4] == 0).all()
    assert (cut[:, 4:] == 90).all()


def test_ignored_pixels_stay_ignored():
    image, mask = numbered(40, 40)
    mask[:] = 255
    assert (recipe_of(crop=(32, 32))(image, mask, seed=1)[1] == 255).all()


def test_colors_change_with_strength_and_leave_the_mask():
    image, mask = numbered(40, 60)
    distances = []
    for strength in (0.0, 0.3, 1.0):
        recipe = recipe_of(crop=(40, 60), photometric=strength, **PLAIN)
        outs = [recipe(image, mask, seed=seed) for seed in range(20)]
        assert all(np.array_equal(trainids, mask) for _, trainids in outs)
        distances.append(np.mean([np.abs(cut.astype(int) - image).mean() for cut, _ in outs]))
    assert distances[0] == 0 < distances[1] < distances[2]


def test_same_seed_same_sample():
    image, mask = numbered(64, 96)
    options = {"crop": (32, 32), "photometric": 0.5, "max_class_share": 0.5}
    first, other = recipe_of(**options), recipe_of(**options)
    other(image, mask, seed=99)
    for seed in range(5):
        for one, two in zip(first(image, mask, seed=seed), other(image, mask, seed=seed), strict=True):
            assert np.array_equal(one, two)


def test_steps_do_not_share_their_luck():
    image, mask = np.zeros((20, 21, 3), np.uint8), np.zeros((20, 21), np.uint8)
    image[:, :10] = 255
    recipe = recipe_of(crop=(60, 60), scale_step=1.6)  # scale 0.5 or 2.1, mirror yes or no
    seen = set()
    for seed in range(60):
        _, trainids = recipe(image, mask, seed=seed)
        seen.add(((trainids == 0).sum() > 500, bool((trainids[:, 0] == 255).all())))
    assert len(seen) == 4


def test_no_class_fills_the_crop():
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[:, 40:] = 1
    mask[:, 52:] = 255
    shares = {}
    for limit in (1.0, 0.75):
        recipe = recipe_of(crop=(16, 16), max_class_share=limit, **PLAIN)
        masks = [recipe(image, mask, seed=seed)[1] for seed in range(200)]
        counts = np.array([np.bincount(m.ravel(), minlength=256)[:255] for m in masks])
        shares[limit] = (counts.max(axis=1) > 0.75 * counts.sum(axis=1)).mean()
    assert shares[1.0] > 0.5
    assert shares[0.75] < shares[1.0] ** (CROP_RETRIES / 2)


@pytest.mark.parametrize(("limit", "judged"), [(1.0, 0), (0.5, 1 + CROP_RETRIES)])
def test_a_hopeless_crop_is_drawn_again_ten_times(monkeypatch, limit, judged):
    seen = []
    monkeypatch.setattr("hrseg.data.crop._largest_share", lambda mask: seen.append(1) or 1.0)
    image, mask = numbered(40, 40)
    recipe_of(crop=(16, 16), max_class_share=limit, **PLAIN)(image, mask, seed=0)
    assert len(seen) == judged


def test_crop_holds_the_wanted_class():
    image, mask = numbered(100, 100)
    mask[:] = 0
    mask[77, 3] = 5
    mask[2, 98] = 5
    recipe = recipe_of(crop=(16, 16), **PLAIN)
    hits = [recipe(image, mask, seed=seed, wanted=5) for seed in range(40)]
    assert all((trainids == 5).any() for _, trainids in hits)
    assert {int(cut[0, 0, 0]) > 50 for cut, _ in hits} == {True, False}  # either pixel


def test_wanted_class_that_is_not_there():
    image, mask = numbered(40, 40)
    assert recipe_of(crop=(16, 16))(image, mask, seed=0, wanted=254)[0].shape == (16, 16, 3)


def test_inputs_are_left_alone():
    image, mask = numbered(40, 60)
    before = image.copy(), mask.copy()
    recipe = recipe_of(crop=(40, 60), flip=1.0, scale_min=1, scale_max=1, photometric=1.0)
    recipe(image, mask, seed=0)
    assert np.array_equal(image, before[0])
    assert np.array_equal(mask, before[1])


def sides(recipe, height: int, width: int, seed: int) -> tuple[int, int]:
    """Height and width of what the recipe makes of an image that fits into its crop."""
    image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    inside = recipe(image, mask, seed=seed)[1] != 255
    return int(inside.any(axis=1).sum()), int(inside.any(axis=0).sum())


def test_long_side_becomes_base_size_times_scale_as_the_source_rounds():
    """500 x 333 at base 520, scale 1.1: long int(572.5) = 572, short int(333 * 572 / 500 + 0.5) = 381."""
    recipe = recipe_of(crop=(600, 600), base_size=520, scale_min=1.1, scale_max=1.1, flip=0)
    assert sides(recipe, 333, 500, seed=0) == (381, 572)
    assert sides(recipe, 500, 333, seed=0) == (572, 381)
    assert sides(recipe, 300, 300, seed=0) == (572, 572)


def test_image_fits_into_both_sides():
    """Worked by hand for (2048, 512): 400 x 300 becomes 683 x 512; 3000 x 300 is held by the long side."""
    for base in ({"base_size": 2048, "base_short_side": 512}, {"base_short_side": 512}):
        recipe = recipe_of(crop=(2100, 5200), scale_min=1, scale_max=1, flip=0, **base)
        assert sides(recipe, 300, 400, seed=0) == (512, 683)
        assert sides(recipe, 400, 300, seed=0) == (683, 512)
        expected = (205, 2048) if "base_size" in base else (512, 5120)
        assert sides(recipe, 300, 3000, seed=0) == expected
    square = recipe_of(crop=(600, 600), base_size=520, base_short_side=510, scale_min=1, scale_max=1)
    assert sides(square, 40, 40, seed=0) == (510, 510)


def test_step_zero_draws_any_scale():
    recipe = recipe_of(crop=(200, 200), scale_min=0.5, scale_max=2.0, scale_step=0, flip=0)
    found = [sides(recipe, 100, 100, seed=seed)[0] for seed in range(400)]
    assert (min(found), max(found)) == pytest.approx((50, 200), abs=2)
    assert len(set(found)) > 120
    assert np.mean(found) == pytest.approx(125, abs=5)


def test_squash_makes_everything_the_crop_and_then_scales_it():
    options = {"crop": (73, 73), "base_size": 73, "first_resize": "squash", "flip": 0}
    for height, width in ((120, 40), (30, 90)):
        assert sides(recipe_of(scale_min=1, scale_max=1, **options), height, width, 0) == (
            73,
            73,
        )
        assert sides(recipe_of(scale_min=0.5, scale_max=0.5, **options), height, width, 0) == (
            37,
            37,
        )


def test_short_side_first_costs_only_an_interpolation():
    options = {"crop": (60, 60), "base_size": 52, "scale_min": 1, "scale_max": 1, "flip": 0}
    first = recipe_of(first_resize="short_side", **options)
    assert sides(first, 100, 150, seed=0) == sides(recipe_of(**options), 100, 150, seed=0)
    image, mask = numbered(100, 150)
    assert (first(image, mask, seed=0)[0] != recipe_of(**options)(image, mask, seed=0)[0]).any()
    with pytest.raises(ConfigError, match=r"data\.base_size, the length of that side, is not set"):
        data_config(layout="synthetic", first_resize="short_side")


def test_left_and_right_change_places_in_a_mirrored_image():
    """By hand: 14 is the left arm, 15 the right; 13, the face, and 255 stay what they are."""
    order = [*range(14), 15, 14, 17, 16, 19, 18]
    mask = np.array([[14, 14, 13, 15], [16, 17, 255, 18], [19, 0, 0, 1]], np.uint8)
    image = np.repeat((mask // 2)[..., None], 3, axis=2)
    options = {"crop": (3, 4), "scale_min": 1, "scale_max": 1, "flip_order": order}
    cut, trainids = recipe_of(flip=1.0, **options)(image, mask, seed=0)
    assert trainids.tolist() == [[14, 13, 15, 15], [19, 255, 16, 17], [1, 0, 0, 18]]
    assert np.array_equal(cut, image[:, ::-1])
    cut, trainids = recipe_of(flip=0.0, **options)(image, mask, seed=0)
    assert np.array_equal(trainids, mask)


def test_mirror_first_leaves_the_padding_right_and_below():
    image, mask = numbered(20, 30)
    options = {"crop": (24, 40), "scale_min": 1, "scale_max": 1, "flip": 1.0}
    first = recipe_of(flip_first=True, **options)(image, mask, seed=0)[1]
    last = recipe_of(**options)(image, mask, seed=0)[1]
    assert np.array_equal(first[:20, :30], mask[:, ::-1])
    assert (first[:, 30:] == 255).all()
    assert (last[:, :10] == 255).all()
    assert np.array_equal(last[:20, 10:], mask[:, ::-1])


def test_padding_takes_a_color():
    image, mask = np.full((4, 4, 3), 9, np.uint8), np.zeros((4, 4), np.uint8)
    cut, trainids = recipe_of(crop=(6, 6), pad="mean", mean=(124 / 255, 116 / 255, 104 / 255), **PLAIN)(
        image, mask, seed=0
    )
    assert (cut[trainids == 255] == (124, 116, 104)).all()
    assert (cut[:4, :4] == 9).all()


def test_brightness_shifts_half_of_the_images_by_whole_steps():
    image, mask = np.full((8, 8, 3), 100, np.uint8), np.zeros((8, 8), np.uint8)
    recipe = recipe_of(crop=(8, 8), brightness_shift=10, **PLAIN)
    cuts = [recipe(image, mask, seed=seed)[0] for seed in range(600)]
    assert all(len(np.unique(cut)) == 1 for cut in cuts)
    shifts = np.array([int(cut[0, 0, 0]) - 100 for cut in cuts])
    assert (shifts.min(), shifts.max()) == (-10, 10)
    assert (shifts != 0).mean() == pytest.approx(0.5 * 20 / 21, abs=0.06)
    dark = recipe(np.zeros_like(image), mask, seed=int(np.argmin(shifts)))[0]
    assert (dark == 0).all()  # clipped, not wrapped


def test_distortion_of_mmsegmentation_by_hand(monkeypatch):
    step = Distortion(1.0)
    image = np.array([[[200, 100, 50]]], np.uint8)

    def apply(contrast_first=True, **changes):
        every = dict.fromkeys(("brightness", "contrast", "saturation", "hue"))
        return step.apply(image, {**every, **changes}, contrast_first)[0, 0].tolist()

    assert apply() == [200, 100, 50]
    assert apply(brightness=32.0) == [232, 132, 82]
    assert apply(brightness=-60.0) == [140, 40, 0]
    assert apply(contrast=1.5) == [255, 150, 75]
    # brightness comes before contrast, wherever contrast stands: (200 - 32) / 2
    assert apply(brightness=-32.0, contrast=0.5) == [84, 34, 9]
    # hue 10 of 180 is 20 degrees: orange turns towards yellow, value 200 and saturation 75 % stay
    red, green, blue = apply(hue=10.0)
    assert (red, blue) == (200, 50)
    assert green == pytest.approx(150, abs=3)
    gray = apply(saturation=0.5)
    assert gray == pytest.approx([200, 150, 125], abs=3)


def test_distortion_draws_each_change_by_its_own_coin():
    step = Distortion(1.0)
    draws = [step.get_params() for _ in range(2000)]
    limits = {"brightness": 32, "contrast": 0.5, "saturation": 0.5, "hue": 18}
    for name, limit in limits.items():
        values = [d["changes"][name] for d in draws if d["changes"][name] is not None]
        assert len(values) / len(draws) == pytest.approx(0.5, abs=0.05)
        middle = 1 if name in ("contrast", "saturation") else 0
        assert np.abs(np.array(values) - middle).max() == pytest.approx(limit, rel=0.02)
    assert np.mean([d["contrast_first"] for d in draws]) == pytest.approx(0.5, abs=0.05)
    image, mask = numbered(40, 60)
    recipe = recipe_of(crop=(40, 60), photometric=1.0, photometric_rule="mmseg", **PLAIN)
    outs = [recipe(image, mask, seed=seed) for seed in range(10)]
    assert all(np.array_equal(trainids, mask) for _, trainids in outs)
    again = recipe(image, mask, seed=3)
    assert np.array_equal(again[0], outs[3][0])


def test_upside_down_mirrors_and_a_quarter_turn_does_not():
    image, mask = numbered(20, 30)
    mask = np.where(mask % 2, np.uint8(1), np.uint8(2))
    order = [0, 2, 1]
    options = {**PLAIN, "crop": (20, 30), "flip_order": order}
    swapped = np.array(order, np.uint8)
    cut, ids = recipe_of(**options, vflip=1.0)(image, mask, seed=0)
    assert np.array_equal(cut, image[::-1])
    assert np.array_equal(ids, swapped[mask[::-1]])
    both, ids = recipe_of(**{**options, "flip": 1.0}, vflip=1.0)(image, mask, seed=0)
    assert np.array_equal(both, image[::-1, ::-1])
    assert np.array_equal(ids, mask[::-1, ::-1])  # half a turn: left stays left
    first, ids = recipe_of(**options, vflip=1.0, flip_first=True)(image, mask, seed=0)
    assert np.array_equal(first, image[::-1])
    assert np.array_equal(ids, swapped[mask[::-1]])


@pytest.mark.parametrize("bands", [3, 5])
def test_quarter_turns_keep_the_crop_s_shape_and_the_pixels_together(bands):
    image, mask = numbered(40, 40)
    image = np.concatenate([image, image], axis=2)[..., :bands]
    recipe = recipe_of(crop=(16, 40), **PLAIN, rotate90=1.0, flip_order=[0, 2, 1])
    seen = set()
    for seed in range(30):
        cut, ids = recipe(image, mask, seed=seed)
        assert cut.shape == (16, 40, bands)
        assert np.array_equal(ids, cut[..., 2])  # no class changes places
        step = cut[0, 1, :2].astype(int) - cut[0, 0, :2]
        seen.add(tuple(map(int, step)))
    assert seen == {(1, 0), (-1, 0), (0, -1)}  # right is down, up, or left; never as it was


def test_turns_that_are_off_change_no_sample_of_a_seed():
    image, mask = numbered(40, 60)
    plain, off = recipe_of(crop=(16, 32)), recipe_of(crop=(16, 32), vflip=0.0, rotate90=0.0)
    for seed in range(5):
        assert np.array_equal(plain(image, mask, seed=seed)[0], off(image, mask, seed=seed)[0])

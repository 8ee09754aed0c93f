"""Traps of semantic segmentation, each seen in another toolbox, and the tests that keep us out of them.

TRAPS lists those that concern data and scores; the tests below close what the others leave open.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.config import DataConfig
from hrseg.data.check.scan import _count
from hrseg.data.dataset import SegmentationDataset
from hrseg.data.layouts import Pair
from hrseg.imaging import write_mask
from hrseg.labels import load_labels
from hrseg.losses import WeightedSum
from hrseg.metrics.confusion import ConfusionMatrix
from tests.data.recipes import recipe_of

TESTS = Path(__file__).parents[1]
TRAPS: dict[str, tuple[str, ...]] = {
    "padding and crops fill the mask with 255, not 0": (
        "test_small_images_are_padded_right_and_below",
        "test_ignored_pixels_stay_ignored",
        "test_what_augmentation_adds_is_255",
    ),
    "masks are resized by nearest neighbor": (
        "test_ids_are_never_mixed",
        "test_scaled_image_and_mask_show_the_same_place",
    ),
    "ADE20K's 0 becomes 255 once and only once": (
        "test_ade20k_shifts_by_one_exactly_once",
        "test_masks_that_were_shifted_before_are_told",
    ),
    "uint8 ids wrap around": ("test_ids_do_not_wrap",),
    "19 classes or 20, and is 0 a class": (
        "test_the_background_question",
        "test_masks_that_count_from_1_under_a_table_that_counts_from_0",
        "test_cityscapes_maps_34_ids_to_19_classes_and_back",
    ),
    "ignored pixels in loss, scores and class weights": (
        "test_ignored_pixels_have_no_say",
        "test_ignored_pixels_are_not_counted_whatever_is_predicted_there",
        "test_pixel_counts_by_hand",
    ),
    "a crop that is all 255, OHEM included": (
        "test_batch_of_ignored_pixels_gives_zero_and_zero_gradients",
        "test_only_ignored_pixels_give_no_score_and_no_crash",
        "test_a_mask_of_255_alone_trains_to_zero",
        "test_crops_without_labels_are_counted_anew_each_epoch",
    ),
    "several processes count each validation image once, the last partial batch too": (
        "test_evaluation_counts_each_image_once",
        "test_fillers_of_unequal_shards_count_nowhere",
        "test_evaluation_is_whole_and_one_at_a_time",
    ),
    "mIoU does not depend on batches, processes or windows": (
        "test_two_uneven_batches_equal_one_pass",
        "test_two_processes_score_like_one",
        "test_identity_function_gives_the_image_back",
    ),
    "odd sizes, one pixel, gray, RGBA, 16 bits, EXIF, CMYK, palettes, odd paths": (
        "test_every_kind_of_image_becomes_a_sample",
        "test_odd_sizes_become_samples_and_crops",
        "test_every_exif_orientation_and_its_size",
        "test_jpeg_kinds_read",
        "test_sixteen_bits_are_scaled_by_257",
    ),
    "counts beyond 2^24 stay exact": (
        "test_counts_beyond_float_precision_stay_exact",
        "test_pixel_counts_beyond_2_to_24_stay_exact",
    ),
    "a run resumed inside an epoch goes on with the next image": ("test_resumed_run_goes_on_with_the_next_image",),
}


@pytest.mark.parametrize("test", sorted({test for tests in TRAPS.values() for test in tests}))
def test_the_tests_of_the_traps_are_there(test):
    files = (path.read_text() for path in TESTS.rglob("test_*.py"))
    assert any(re.search(rf"^def {test}\(", text, re.MULTILINE) for text in files)


@pytest.mark.parametrize("seed", range(8))
def test_what_augmentation_adds_is_255(seed):
    """A mask without 0 and 255 gets nothing but its own ids and 255, and 255 where the image was filled."""
    recipe = recipe_of(crop=(64, 64), scale_min=0.5, scale_max=0.7)
    image, mask = recipe(np.full((48, 56, 3), 200, np.uint8), np.full((48, 56), 7, np.uint8), seed=seed)
    assert set(np.unique(mask).tolist()) == {7, 255}
    assert (image[mask == 255] == 0).all()
    assert (image[mask == 7] == 200).all()


def test_ids_do_not_wrap():
    ade = load_labels("ade20k")
    assert ade.encode(np.array([[0, 1, 150, 255]], np.uint8)).tolist() == [[255, 0, 149, 255]]
    wide = np.array([[0, 1, 150, 255]], np.int32)
    assert ade.encode(wide).tolist() == [[255, 0, 149, 255]]
    assert ade.decode(np.array([[255, 0, 149]], np.uint8)).tolist() == [[0, 1, 150]]


def test_masks_that_were_shifted_before_are_told(tmp_path):
    """ADE20K whose 0 became 255 already: each class would move once more without any error."""
    from hrseg.data.check import check
    from hrseg.data.synthetic import write_scenes

    root = tmp_path / "ade20k"
    write_scenes(root, "ade20k", {"train": 3, "val": 2}, size=(48, 64))
    assert "shifted_twice" not in {finding.kind for finding in check(root, workers=1).findings}
    for path in (root / "annotations").rglob("*.png"):
        ids = np.array(Image.open(path))
        ids[:4] = 0
        write_mask(path, ids - 1)  # uint8: 0 wraps to 255, as the usual shift wants
    assert "shifted_twice" in {finding.kind for finding in check(root, workers=1).findings}


@pytest.mark.parametrize("terms", [{"ohem": 1.0}, {"cross_entropy": 1.0}, {"dice": 1.0}])
def test_a_mask_of_255_alone_trains_to_zero(tmp_path, terms):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    write_mask(tmp_path / "m.png", np.full((32, 32), 255, np.uint8))
    pair = Pair(tmp_path / "a.png", tmp_path / "m.png", "a")
    mask = SegmentationDataset([pair], load_labels("cityscapes"))[0]["mask"][None]
    logits = torch.randn(1, 19, 32, 32, requires_grad=True)
    loss = WeightedSum(terms)(logits, mask)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
    matrix = ConfusionMatrix(19)
    matrix.update(logits.argmax(1), mask)


KINDS = {
    "gray": lambda: Image.new("L", (48, 40), 90),
    "gray alpha": lambda: Image.new("LA", (48, 40), (90, 255)),
    "rgba": lambda: Image.new("RGBA", (48, 40), (90, 90, 90, 255)),
    "palette": lambda: Image.new("RGB", (48, 40), (90, 90, 90)).quantize(4),
    "one bit": lambda: Image.new("1", (48, 40), 1),
    "16 bits": lambda: Image.fromarray(np.full((40, 48), 90 * 257, np.uint16)),
    "cmyk.jpg": lambda: Image.new("CMYK", (48, 40), (0, 0, 0, 165)),
    "ユニコード é mit Leerzeichen": lambda: Image.new("RGB", (48, 40), (90, 90, 90)),
    "a'b #1 {x} $HOME": lambda: Image.new("RGB", (48, 40), (90, 90, 90)),
}


UNNORMALIZED = DataConfig(mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_becomes_a_sample(tmp_path, kind):
    path = tmp_path / (kind if "." in kind else f"{kind}.png")
    KINDS[kind]().save(path)
    write_mask(tmp_path / f"{path.stem}_mask.png", np.ones((40, 48), np.uint8))
    pair = Pair(path, tmp_path / f"{path.stem}_mask.png", path.stem)
    sample = SegmentationDataset([pair], load_labels("camvid"), config=UNNORMALIZED)[0]
    assert tuple(sample["image"].shape) == (3, 40, 48)
    want = 1.0 if kind == "one bit" else 90 / 255
    assert torch.allclose(sample["image"], torch.tensor(want), atol=0.02)


@pytest.mark.parametrize("size", [(1, 1), (1, 97), (33, 65), (97, 101)])
def test_odd_sizes_become_samples_and_crops(tmp_path, size):
    Image.new("RGB", size[::-1], (90, 90, 90)).save(tmp_path / "a.png")
    write_mask(tmp_path / "m.png", np.ones(size, np.uint8))
    pair = Pair(tmp_path / "a.png", tmp_path / "m.png", "a")
    labels = load_labels("camvid")
    assert tuple(SegmentationDataset([pair], labels)[0]["mask"].shape) == size
    crop = SegmentationDataset([pair], labels, recipe_of(crop=(64, 32)))[0]
    assert (tuple(crop["image"].shape), tuple(crop["mask"].shape)) == ((3, 64, 32), (64, 32))
    assert set(crop["mask"].unique().tolist()) <= {1, 255}


def test_pixel_counts_beyond_2_to_24_stay_exact():
    side = 4099  # 4099 * 4099 > 2**24, and odd: float32 cannot hold it
    values = np.ones((side, side), np.uint8)
    values[0, 0] = 0
    assert _count(values) == {0: 1, 1: side * side - 1}
    assert _count(values.astype(np.int32)) == {0: 1, 1: side * side - 1}

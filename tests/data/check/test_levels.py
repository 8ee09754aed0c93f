"""What smoothing, resizing, JPEG and noise leave in masks is told from classes, in both directions."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from hrseg.labels import load_labels
from tests.data.check.trees import kinds, look_at, picture, put, tree

SHAPE = (96, 128)
STREET = [(0, 0, 0), (128, 64, 128), (244, 35, 232), (70, 70, 70), (107, 142, 35), (0, 0, 142)]


def places(count: int, seed: int) -> np.ndarray:
    """Numbers 0 to count - 1 on discs and rectangles."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = np.zeros(SHAPE, np.int64)
    for number in [*range(1, count)] * 2:
        top, left, radius = rng.integers(10, 86), rng.integers(10, 118), rng.integers(8, 20)
        disc = (y - top) ** 2 + (x - left) ** 2 < radius**2
        block = (abs(y - top) < radius) & (abs(x - left) < radius // 2)
        found[disc if rng.random() < 0.5 else block] = number
    for number in range(count):
        found[4:14, 4 + 12 * number : 14 + 12 * number] = number
    return found


def saved_as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert(image.mode)


def noisy(image: Image.Image, share: float) -> Image.Image:
    rng = np.random.default_rng(0)
    pixels = np.array(image).astype(np.int64)
    steps = rng.integers(-1, 2, pixels.shape) * (rng.random(pixels.shape) < share)
    return Image.fromarray((pixels + steps).clip(0, 255).astype(np.uint8))


def resized(image: Image.Image, factor: float) -> Image.Image:
    size = (int(image.width * factor), int(image.height * factor))
    return image.resize(size, Image.Resampling.BILINEAR)


DAMAGES = {
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    **{f"resized {f}": lambda image, f=f: resized(image, f) for f in (0.5, 1.5)},
    **{f"JPEG {q}": lambda image, q=q: saved_as_jpeg(image, q) for q in (75, 95, 100)},
    "noise": lambda image: noisy(image, 0.05),
    "much noise": lambda image: noisy(image, 0.6),
}
LEVELS = {
    "0 255": [0, 255],
    "0 50": [0, 50],
    "0 127 255": [0, 127, 255],
    "10 40 70": [10, 40, 70],
    "0 85 170 255": [0, 85, 170, 255],
    "5 by 40": [0, 40, 80, 120, 160],
    "6 by 50": [0, 50, 100, 150, 200, 250],
    **{f"{count} colors": STREET[:count] for count in (2, 3, 5, 6)},
    "primary colors": [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)],
}


@pytest.mark.slow
@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_damage_is_snapped_or_refused_and_never_a_class(tmp_path, levels):
    """Exit 0 goes with the right number of classes and a table that reads every mask; else there is no recipe."""
    table = np.array(levels, np.uint8)
    snapped = 0
    for number, damage in enumerate(DAMAGES.values()):
        masks = [damage(Image.fromarray(table[places(len(levels), seed)])) for seed in range(2)]
        root = tree(tmp_path / str(number), [np.array(mask) for mask in masks])
        result = look_at(root)
        if result.errors:
            assert result.recipe is None
            continue
        assert "smoothed" in kinds(result)
        (tmp_path / "table.yaml").write_text(result.recipe.labels)
        labels = load_labels(tmp_path / "table.yaml")
        assert labels.num_classes == len(levels)
        clean = labels.encode(table[places(len(levels), 0)])
        if clean.shape == masks[0].size[::-1]:
            assert (labels.encode(np.array(masks[0])) != clean).mean() < 0.03
        assert not look_at(root, labels=tmp_path / "table.yaml").errors
        snapped += 1
    assert snapped  # noise at least is taken back


@pytest.mark.parametrize("quality", [75, 95, 98, 100])
def test_black_and_white_as_jpeg_files(tmp_path, quality):
    for seed in range(4):
        put(tmp_path / "images" / f"{seed}.png", picture(seed, SHAPE))
        mask = (255 * places(2, seed)).astype(np.uint8)
        put(tmp_path / "masks" / f"{seed}.jpg", mask, quality=quality)
    result = look_at(tmp_path)
    assert not result.errors
    assert "smoothed" in kinds(result)
    assert [row.name for row in result.classes] == ["background", "foreground"]


def test_jpeg_files_of_close_ids_are_refused(tmp_path):
    for seed in range(3):
        put(tmp_path / "images" / f"{seed}.png", picture(seed, SHAPE))
        put(tmp_path / "masks" / f"{seed}.jpg", places(4, seed).astype(np.uint8), quality=90)
    result = look_at(tmp_path)
    assert result.errors
    assert result.recipe is None
    assert "JPEG" in kinds(result)["smoothed"]


@pytest.mark.parametrize("levels", [[0, 85, 170], STREET[:3]], ids=["ids", "colors"])
def test_one_mask_that_is_one_step_off(tmp_path, levels):
    table = np.array(levels, np.int64)
    masks = [table[places(3, seed)] for seed in range(8)]
    masks[5] = np.where(masks[5] > 80, masks[5] - 1, masks[5])
    result = look_at(tree(tmp_path, [mask.astype(np.uint8) for mask in masks]))
    assert not result.errors
    assert "masks/p05.png" in kinds(result)["smoothed"]
    assert len({row.name for row in result.classes}) == 3


def blocks(ids, seed, side=8):
    rng = np.random.default_rng(seed)
    places = rng.integers(0, len(ids), (SHAPE[0] // side, SHAPE[1] // side))
    count = min(len(ids), places.size)
    places.ravel()[:count] = np.roll(np.arange(len(ids)), seed)[:count]
    return np.array(ids)[places.repeat(side, 0).repeat(side, 1)]


def street(seed):
    """Nineteen Cityscapes ids; poles, lights and signs one or two pixels wide, at borders only."""
    rng = np.random.default_rng(seed)
    mask = np.full(SHAPE, 23)
    mask[40:], mask[60:], mask[75:] = 11, 7, 8
    for value in (21, 22, 26, 27, 28, 31):
        top, left = rng.integers(40, 80), rng.integers(0, 110)
        mask[top : top + 9, left : left + 14] = value
    for value in (12, 13, 17, 19, 20, 24, 25, 32, 33):
        left, top = rng.integers(2, 120), rng.integers(20, 60)
        mask[top : top + 30, left : left + rng.integers(1, 3)] = value
    return mask


def lines(ids, seed, width=1):
    """Two large classes and thin ones whose ids lie between."""
    rng = np.random.default_rng(seed)
    mask = np.full(SHAPE, ids[0])
    mask[:, 64:] = mask[40:80, 30:90] = ids[-1]
    mask[10:20, 100:120] = ids[0]
    for value in ids[1:-1]:
        for left in rng.integers(2, 120, 2):
            mask[rng.integers(0, 40) : rng.integers(50, 90), left : left + width] = value
    return mask


def cracks(seed):
    """Thin cracks of id 1, and a large margin of 255."""
    mask = np.zeros(SHAPE, np.int64)
    steps = np.random.default_rng(seed).integers(-1, 2, SHAPE[0]).cumsum()
    mask[np.arange(SHAPE[0]), (60 + steps).clip(0, 127)] = 1
    mask[:8] = 255
    return mask


def rings(seed):
    """Objects of id 2 with a border class 1, two pixels wide, all around: 0 and 2 never touch."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    far = np.hypot(y - 48 - seed, x - 60)
    return np.where(far < 20, 2, np.where(far < 22, 1, 0))


def specks(seed):
    mask = blocks([0, 1, 2, 4, 5], seed)
    mask[5, 5] = 3 if seed == 1 else mask[5, 5]
    return mask


def instances(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((192, 256), np.int64)
    for value in range(1, 201):
        top, left = rng.integers(0, 180, 2)
        mask[top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)] = value
    return mask


CLEAN = {
    "neighboring ids": lambda seed: blocks([0, 1, 2], seed),
    "gray levels": lambda seed: blocks([0, 85, 170, 255], seed),
    "land cover": lambda seed: blocks([11, 21, 22, 23, 24, 31, 41, 42, 43, 52, 71, 81, 90, 95], seed),
    "151 ids": lambda seed: blocks(range(151), seed),
    "151 ids in small blocks": lambda seed: blocks(range(151), seed, 4),
    "16 bits": lambda seed: blocks([0, 1000, 1001, 2000, 2001], seed),
    "cityscapes": street,
    "three with a line": lambda seed: lines([0, 1, 2], seed),
    "five with lines": lambda seed: lines([0, 1, 2, 3, 4], seed),
    "five with lines of two pixels": lambda seed: lines([0, 1, 2, 3, 4], seed, 2),
    "lines and gaps": lambda seed: lines([0, 2, 20], seed),
    "cracks and a margin": cracks,
    "rings": rings,
    "specks": specks,
    "objects": instances,
    "random": lambda seed: np.random.default_rng(seed).integers(0, 19, SHAPE),
    "stripes of one pixel": lambda seed: np.tile(np.roll(range(19), seed), (40, 3)),
    "red channel only": lambda seed: np.stack([street(seed), *np.zeros((2, *SHAPE), int)], -1),
    "colors": lambda seed: np.array([row.color for row in load_labels("ade20k").classes])[blocks(range(150), seed)],
}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("mask", CLEAN.values(), ids=CLEAN)
def test_classes_of_clean_masks_stay(tmp_path, mask, count):
    masks = [mask(seed) for seed in range(count)]
    dtype = np.uint8 if max(one.max() for one in masks) < 256 else np.uint16
    result = look_at(tree(tmp_path, [one.astype(dtype) for one in masks]))
    assert not result.errors
    assert "smoothed" not in kinds(result)
    values = np.unique(np.concatenate([one.reshape(-1, *one.shape[2:]) for one in masks]), axis=0)
    void = 1 if 255 in values and mask is cracks else 0
    assert sum(row.role == "class" for row in result.classes) == len(values) - void


def test_values_that_a_table_names_are_classes(tmp_path):
    """Smoothed or not, a class file has the last word."""
    masks = [Image.fromarray((255 * places(2, seed)).astype(np.uint8)) for seed in range(3)]
    masks = [np.array(mask) for mask in masks]
    for mask in masks:
        mask[(mask == 255) & (np.roll(mask, 1, 1) == 0)] = 128
    assert look_at(tree(tmp_path / "unnamed", masks)).errors
    root = tree(tmp_path / "named", masks)
    (root / "class_names.txt").write_text("0: ground\n128: edge\n255: house\n")
    assert [row.name for row in look_at(root).classes] == ["ground", "edge", "house"]

"""Page of training samples: whole images and their augmented variants, with masks to fade and point at.

The samples come from the dataset that a training reads, with crop, scale, mirror and colors.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrseg.config import DataConfig
from hrseg.data.dataset import Draw, Sample, SegmentationDataset
from hrseg.errors import ConfigError
from hrseg.imaging import denormalize
from hrseg.labels import IGNORE_INDEX
from hrseg.viz.pages import Picture, thumbnails, write_page

SIDE = 560
"""Longest side of a picture on the page, in pixels."""
Card = tuple[str, str, float, Picture, Picture]
"""Name, size, share of ignored pixels, image and mask of one sample."""


def write_samples(
    dataset: SegmentationDataset,
    path: str | Path,
    *,
    images: int = 8,
    variants: int = 3,
    seed: int = 0,
    title: str = "samples",
    facts: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page.

    Args:
        dataset: Of the training.
        path: The .html file.
        images: How many, evenly spread over the dataset.
        variants: Augmentations of each image.
        seed: Of the choice of images.
        title: Headline.
        facts: Name and value of each tile at the top.

    Raises:
        ConfigError: No images or no variants.
        DataError: An image cannot be read, or the file not written.
    """
    if images < 1 or variants < 1:
        raise ConfigError("A page of no images or no variants is empty. Use 1 or more.")
    chosen = _chosen(len(dataset), images, seed)
    plain = copy.copy(dataset)
    plain.recipe = None
    counts = np.zeros(256, dtype=np.int64)  # pixels of each trainId
    rows = []
    for index in chosen:
        cards = [_card("whole image", plain[index], dataset)]
        for epoch in range(variants):
            sample = dataset[Draw(index, epoch=epoch)]
            counts += np.bincount(sample["mask"].numpy().ravel(), minlength=256)
            cards.append(_card(f"epoch {epoch}", sample, dataset))
        rows.append((dataset.pairs[index].name, cards))
    write_page(
        path,
        "browse.html",
        title=title,
        facts=[(name, value, "") for name, value in facts],
        shown=len(chosen),
        total=len(dataset),
        variants=variants,
        rows=rows,
        legend=_legend(dataset, counts),
        labels=dataset.labels,
    )


def _chosen(count: int, wanted: int, seed: int) -> list[int]:
    """Return indices spread evenly from a start that depends on the seed."""
    wanted = min(wanted, count)
    start = np.random.default_rng(seed).random() if wanted else 0.0
    return sorted({int((number + start) * count / wanted) % count for number in range(wanted)})


def _picture(sample: Sample, dataset: SegmentationDataset) -> np.ndarray:
    """Return RGB, or the first bands of other images, stretched. Shape: → uint8 (H, W, 3)."""
    bands = [0, 1, 2] if len(sample["image"]) >= 3 else [0, 0, 0]
    mean, std = ([values[band % len(values)] for band in bands] for values in (dataset.mean, dataset.std))
    if len(sample["image"]) == 3:
        return denormalize(sample["image"], (*mean,), (*std,))
    values = sample["image"][bands].numpy()
    low, high = np.percentile(values, (1, 99), axis=(1, 2), keepdims=True)
    spread = (values - low) / np.maximum(high - low, 1e-6)
    return (spread.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def _card(name: str, sample: Sample, dataset: SegmentationDataset) -> Card:
    mask = sample["mask"].numpy().astype(np.uint8)  # (H, W)
    size = f"{mask.shape[0]} × {mask.shape[1]}"
    ignored = float((mask == IGNORE_INDEX).mean())
    return name, size, ignored, *thumbnails(_picture(sample, dataset), mask, SIDE)


def _legend(dataset: SegmentationDataset, counts: np.ndarray) -> list[tuple[int, str, np.ndarray | None, float]]:
    """Id, name, color and share of each class, most frequent first, then of ignored pixels."""
    labels = dataset.labels
    shares = counts / max(1, int(counts.sum()))
    rows: list[tuple[int, str, np.ndarray | None, float]] = [
        (i, name, labels.palette[i], float(shares[i])) for i, name in enumerate(labels.names)
    ]
    rows.sort(key=lambda row: -row[3])
    if counts[IGNORE_INDEX]:
        rows.append((IGNORE_INDEX, "ignored", None, float(shares[IGNORE_INDEX])))
    return rows


def recipe_facts(name: str, data: DataConfig) -> list[tuple[str, str]]:
    """Return name and value of each setting of a recipe's augmentation."""
    scales = f"{data.scale_min:g} to {data.scale_max:g}"
    rows = [
        ("Recipe", name),
        ("Crop", f"{data.crop[0]} × {data.crop[1]}"),
        ("Scale", scales if data.scale_min != data.scale_max else f"{data.scale_min:g}"),
        ("Mirror", f"{100 * data.flip:.0f} %" if data.flip else "none"),
        (
            "Colors",
            f"{data.photometric_rule} {data.photometric:g}" if data.photometric else "unchanged",
        ),
    ]
    if data.max_class_share < 1:
        rows.append(("Largest class share", f"{100 * data.max_class_share:.0f} %"))
    if data.base_size:
        rows.insert(2, ("Long side at scale 1", str(data.base_size)))
    return rows

"""From an image and a model to the page: reads, looks inside, and writes one HTML file."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hrseg.building.data import build_data
from hrseg.data.datamodule import SegmentationData
from hrseg.errors import DataError
from hrseg.explain.ablation import check_branches, switch_off
from hrseg.explain.field import branch_fields
from hrseg.explain.page import Inside, page
from hrseg.explain.probes import PIXELS, Probe, gather_features, probe_branches
from hrseg.imaging import read_bands, read_image, read_mask, stretched, to_tensor, write_atomic
from hrseg.inference.opening import OpenedModel, open_model
from hrseg.train.evaluation import evaluation_config

SIDE = 1024
"""Longest side that is looked into; the gradients of a larger image would need too much memory."""
IMAGES = 40
"""Images to fit probes on, and as many others to judge them."""


def explain(
    image: str | Path,
    out: str | Path,
    model: str | None = None,
    *,
    mask: str | Path | None = None,
    data: str | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    images: int = IMAGES,
) -> Inside:
    """Look into a network at one image, and write the page.

    Args:
        image: A file.
        out: The .html file.
        model: A checkpoint, a run's folder, a release or a tag; None is the model that ships.
        mask: The image's mask in the dataset's ids: then the changes of IoU are shown too.
        data: Root of the data to probe branches on; None probes where words or a recipe name data, else not.
        recipe: Takes the data from this recipe instead of the model's own config.
        overrides: Words such as "data.root=/data/camvid".
        images: For the probes, as `IMAGES`.

    Raises:
        HrsegError: Something cannot be read, has no branches, or the page cannot be written.
    """
    opened = open_model(model)
    check_branches(opened.network)
    network = opened.network.eval().requires_grad_(False)
    pixels = _pixels(opened, image)
    truth = None if mask is None else _truth(opened, mask, pixels.shape[:2])
    pixels, truth, note = _fitted(pixels, truth)
    words = [*overrides, *([f"data.root={data}"] if data is not None else [])]
    probes, probed = _probed(opened, network, words, recipe, images)
    tensor = to_tensor(pixels, opened.mean, opened.std, opened.value_range)[None]
    field, parts, amounts = branch_fields(network, tensor)
    inside = Inside(
        model=opened.name,
        name=Path(image).name,
        image=pixels if opened.bands is None and pixels.shape[2] == 3 else stretched(pixels),
        labels=opened.labels,
        stages=_stages(network, tensor),
        ablation=switch_off(network, tensor),
        truth=truth,
        field=field,
        branch_fields=parts,
        amounts=amounts,
        probes=probes,
        probed=probed,
        note=note,
        input_scale=float(getattr(opened.network, "spec", {}).get("input_scale", 1.0)),
    )
    text = page(inside)
    with write_atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return inside


def _pixels(opened: OpenedModel, image: str | Path) -> np.ndarray:
    return read_image(image) if opened.bands is None else read_bands(image, opened.bands)


def _truth(opened: OpenedModel, mask: str | Path, size: tuple[int, ...]) -> np.ndarray:
    truth = opened.labels.encode(read_mask(mask), str(mask))
    if truth.shape != tuple(size):
        raise DataError(
            f"Mask {mask} is {truth.shape[0]} x {truth.shape[1]}, the image {size[0]} x {size[1]}. Give the mask of "
            "this image."
        )
    return truth


def _fitted(
    pixels: np.ndarray, truth: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Reduce a large image, and say so."""
    height, width = pixels.shape[:2]
    factor = SIDE / max(height, width)
    if factor >= 1:
        return pixels, truth, ""
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    bands = [
        np.array(Image.fromarray(pixels[..., b]).resize(size, Image.Resampling.BILINEAR))
        for b in range(pixels.shape[2])
    ]
    if truth is not None:
        truth = np.array(Image.fromarray(truth).resize(size, Image.Resampling.NEAREST))
    return np.stack(bands, axis=2), truth, f"reduced from {height} × {width}"


def _stages(network: Any, tensor: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    with torch.inference_mode():
        if not hasattr(network.backbone, "forward_stages"):
            return {"branches": network.forward_branches(tensor)}
        stages: dict[str, list[torch.Tensor]] = network.backbone.forward_stages(tensor)
    return {
        name.replace("stage", "Stage "): maps for name, maps in stages.items() if name != "stem"
    }


def _probed(
    opened: OpenedModel, network: Any, words: Sequence[str], recipe: str | None, images: int
) -> tuple[list[Probe], str]:
    """Probe the branches, where there are data to do it on."""
    if not words and recipe is None:
        return [], ""
    data = build_data(evaluation_config(str(opened.source), words, recipe))
    if data.labels.names != opened.labels.names:
        raise DataError(
            f"The data have {data.labels.num_classes} classes, the model {opened.labels.num_classes}, or other ones. "
            "Probe on data of the model's classes: data.layout, data.labels, data.root."
        )
    fitted = gather_features(network, _samples(data, "train", images), PIXELS)
    judged = gather_features(network, _samples(data, "val", images), PIXELS)
    counts = [min(images, len(pairs)) for pairs in (data.train_pairs, data.val_pairs)]
    probed = (
        f"{counts[0]} images of split {data.splits['train']}, {counts[1]} of {data.splits['val']}"
    )
    return probe_branches(fitted, judged, opened.labels.num_classes), probed


def _samples(
    data: SegmentationData, split: str, count: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield whole images of a split, evenly spread over it."""
    dataset = copy.copy(data.train_set)
    dataset.recipe = None
    dataset.pairs = data.train_pairs if split == "train" else data.val_pairs
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    for index in chosen.tolist():
        sample = dataset[index]
        yield sample["image"], sample["mask"]

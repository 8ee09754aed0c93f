"""Explain report: what a network computes for one image, as one HTML page."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from hrseg.data.datamodule import SegmentationData
from hrseg.errors import DataError
from hrseg.evaluation.validate import evaluation_config
from hrseg.explain.ablation import Ablation, check_branches, switch_off
from hrseg.explain.field import branch_fields, radius
from hrseg.explain.probes import PIXELS, Probe, gather_features, probe_branches
from hrseg.imaging import read_bands, read_image, read_mask, stretched, to_tensor
from hrseg.inference.load_model import OpenedModel, open_model
from hrseg.labels import LabelSet
from hrseg.metrics.confusion import known_mean
from hrseg.models.hrnet import stride_of
from hrseg.training.build import build_data
from hrseg.viz.features import feature_grid, heat
from hrseg.viz.masks import grid, overlay
from hrseg.viz.pages import jpeg, write_page

SHARE = 0.95
"""Part of a receptive field within its radius."""
SIDE = 1024
"""Longest side of the explained image; the gradients of a larger one would need too much memory."""
IMAGES = 40
"""Images to fit probes on, and as many others to score them on."""
_DECADES = 4  # of a field's strength that are shown
_QUALITY = 88  # JPEG


@dataclass(frozen=True)
class Explanation:
    """Content of the page.

    Attributes:
        model: Its name.
        name: Of the image.
        image: uint8 RGB (H, W, 3), as the network saw it.
        labels: The classes.
        stages: Name of a stage → its output on each branch; the last entry is what the head reads.
        ablation: Predictions without each branch.
        truth: The mask, (H, W), or None.
        field: Effective receptive field of the prediction.
        branch_fields: Part of it through each branch.
        amounts: Size of the gradients through each branch, as parts of their sum.
        probes: Linear probe of each branch; empty without data.
        probed: Data of the probes, as text.
        note: Remark on the image, or "".
        input_scale: Factor by which the network enlarges its images.
    """

    model: str
    name: str
    image: np.ndarray
    labels: LabelSet
    stages: Mapping[str, Sequence[torch.Tensor]]
    ablation: Ablation
    truth: np.ndarray | None
    field: np.ndarray
    branch_fields: Sequence[np.ndarray]
    amounts: np.ndarray
    probes: Sequence[Probe] = ()
    probed: str = ""
    note: str = ""
    input_scale: float = 1.0

    @property
    def branches(self) -> list[str]:
        """Name of each branch with its part of the image's size: "branch 0 (1/4)", …"""
        maps = [*self.stages.values()][-1]
        width, scale = self.image.shape[1], self.input_scale
        strides = (stride_of(width, x.shape[-1], scale) for x in maps)
        return [f"branch {i} (1/{stride:.3g})" for i, stride in enumerate(strides)]

    @property
    def fields(self) -> list[tuple[str, np.ndarray, float]]:
        """Name, field and radius of all branches together and of each."""
        names = ["all branches", *self.branches]
        fields = [self.field, *self.branch_fields]
        return [(name, f, radius(f, SHARE)) for name, f in zip(names, fields, strict=True)]


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
) -> Explanation:
    """Explain a network's prediction of one image, and write the page.

    Args:
        image: A file.
        out: The .html file.
        model: A checkpoint, a run's folder, a release or a tag; None is the packaged model.
        mask: The image's mask in the dataset's ids, for the changes of IoU.
        data: Root of the data to probe branches on; without it, overrides and recipe there are no probes.
        recipe: Takes the data from this recipe instead of the model's own config.
        overrides: Such as "data.root=/data/camvid".
        images: For the probes, as `IMAGES`.

    Raises:
        HrsegError: Something cannot be read, has no branches, or the page cannot be written.
    """
    opened = open_model(model)
    check_branches(opened.network)
    network = opened.network.eval().requires_grad_(False)
    pixels = read_image(image) if opened.bands is None else read_bands(image, opened.bands)
    truth = None if mask is None else _read_truth(opened, mask, pixels.shape[:2])
    pixels, truth, note = _fitted(pixels, truth)
    overrides = [*overrides, *([f"data.root={data}"] if data is not None else [])]
    probes: list[Probe] = []
    probed = ""
    if overrides or recipe is not None:
        probes, probed = _probe(opened, network, overrides, recipe, images)
    tensor = to_tensor(pixels, opened.mean, opened.std, opened.value_range)[None]
    field, parts, amounts = branch_fields(network, tensor)
    content = Explanation(
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
    write_page(out, "explain.html", **_page_values(content))
    return content


def _read_truth(opened: OpenedModel, mask: str | Path, size: tuple[int, ...]) -> np.ndarray:
    truth = opened.labels.encode(read_mask(mask), str(mask))
    if truth.shape != tuple(size):
        raise DataError(
            f"Mask {mask} is {truth.shape[0]} x {truth.shape[1]}, the image {size[0]} x {size[1]}. Give the mask of "
            "this image."
        )
    return truth


def _fitted(pixels: np.ndarray, truth: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Reduce a large image, and state it in the note."""
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
    return {name.replace("stage", "Stage "): maps for name, maps in stages.items() if name != "stem"}


def _probe(
    opened: OpenedModel, network: Any, overrides: Sequence[str], recipe: str | None, images: int
) -> tuple[list[Probe], str]:
    data = build_data(evaluation_config(str(opened.source), overrides, recipe))
    if data.labels.names != opened.labels.names:
        raise DataError(
            f"The data have {data.labels.num_classes} classes, the model {opened.labels.num_classes}, or other ones. "
            "Probe on data of the model's classes: data.layout, data.labels, data.root."
        )
    fitted = gather_features(network, _samples(data, "train", images), PIXELS)
    scored = gather_features(network, _samples(data, "val", images), PIXELS)
    counts = [min(images, len(pairs)) for pairs in (data.train_pairs, data.val_pairs)]
    probed = f"{counts[0]} images of split {data.splits['train']}, {counts[1]} of {data.splits['val']}"
    return probe_branches(fitted, scored, opened.labels.num_classes), probed


def _samples(data: SegmentationData, split: str, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield whole images of a split, evenly spaced."""
    dataset = copy.copy(data.train_set)
    dataset.recipe = None
    dataset.pairs = data.train_pairs if split == "train" else data.val_pairs
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    for index in chosen.tolist():
        sample = dataset[index]
        yield sample["image"], sample["mask"]


def _page_values(content: Explanation) -> dict[str, Any]:
    height, width = content.image.shape[:2]
    ablation, labels = content.ablation, content.labels
    panels = [overlay(content.image, mask, labels, legend=False) for mask in ablation.without]
    without = grid(panels, [f"without {name}" for name in content.branches], columns=2, width=1400)
    parts = ["", *(f"{100 * part:.1f}" for part in content.amounts)]
    probe_rows = [("mean", _known(probe.miou for probe in content.probes))]
    for k, name in enumerate(labels.names):
        values = _known(probe.iou[k] for probe in content.probes)
        if any(value is not None for value in values):
            probe_rows.append((name, values))
    return {
        "title": content.name,
        "facts": [content.model, f"{height} × {width} pixels", *filter(None, [content.note])],
        "decision": jpeg(overlay(content.image, ablation.full, labels), _QUALITY),
        "stages": {name: jpeg(feature_grid(maps, content.image), _QUALITY) for name, maps in content.stages.items()},
        "has_mask": content.truth is not None,
        "branches": content.branches,
        "ablation": _ablation_rows(content),
        "without": jpeg(without, _QUALITY),
        "decades": _DECADES,
        "share": f"{100 * SHARE:.0f}",
        "field_picture": jpeg(_draw_fields(content), _QUALITY),
        "fields": [
            (name, f"{reach:.0f} px", part) for (name, _, reach), part in zip(content.fields, parts, strict=True)
        ],
        "probes": content.probes,
        "probed": content.probed,
        "probe_rows": probe_rows,
    }


def _known(values: Iterable[float]) -> list[float | None]:
    """Turn nan into None."""
    return [None if math.isnan(value) else float(value) for value in values]


def _ablation_rows(content: Explanation) -> Iterator[tuple[str, Any, str, list[Any]]]:
    """Name, color, share, and (changed pixels, change of IoU) by branch of each class, then of all pixels."""
    ablation, labels = content.ablation, content.labels
    changed = ablation.changed()  # (branches, K)
    gains = np.full(changed.shape, np.nan)
    if content.truth is not None:
        gains = ablation.iou_changes(content.truth)
    counts = np.bincount(ablation.full.ravel(), minlength=labels.num_classes)
    for k in np.argsort(-counts, kind="stable"):
        if counts[k]:
            cells = [*zip(_known(changed[:, k]), _known(gains[:, k]), strict=True)]
            share = f"{100 * counts[k] / counts.sum():.1f}"
            yield labels.names[k], labels.palette[k], share, cells
    mean = _known(known_mean(row) for row in gains)
    yield "all", None, "100", [*zip(_known(ablation.changed_in_all()), mean, strict=True)]


def _draw_fields(content: Explanation) -> np.ndarray:
    """Draw the fields in one scale, each with the circle that holds 95 % of it. Shape: → uint8 (H, W, 3)."""
    largest = max(reach for _, _, reach in content.fields)
    window = min(int(1.25 * max(largest, 8)) + 1, max(content.field.shape) // 2)
    titles = [f"{name}: {reach:.0f} px" for name, _, reach in content.fields]
    panels = [_draw_field(field, reach, window) for _, field, reach in content.fields]
    return grid(panels, titles, columns=len(panels), width=1500)


def _draw_field(field: np.ndarray, reach: float, window: int) -> np.ndarray:
    """Paint the logarithm of a field around its middle."""
    around = np.zeros((2 * window + 1, 2 * window + 1))  # beyond the field it is 0
    rows, columns = (min(window, length // 2) for length in field.shape)
    y, x = (length // 2 for length in field.shape)
    inner = field[y - rows : y + rows + 1, x - columns : x + columns + 1]
    around[window - rows : window + rows + 1, window - columns : window + columns + 1] = inner
    peak = max(float(around.max()), 1e-30)
    strength = np.log10(np.maximum(around / peak, 10.0**-_DECADES))  # -_DECADES to 0
    factor = max(1, 420 // len(strength))
    picture = heat(strength, -_DECADES, 0).repeat(factor, axis=0).repeat(factor, axis=1)
    image = Image.fromarray(picture)
    middle, circle = (window + 0.5) * factor, (reach + 0.5) * factor
    box = (middle - circle, middle - circle, middle + circle, middle + circle)
    ImageDraw.Draw(image).ellipse(box, outline=(120, 220, 255), width=max(1, len(picture) // 160))
    return np.array(image)

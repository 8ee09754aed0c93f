"""From an image and a model to the page: reads, looks inside, and writes one HTML file."""

import copy
import html
import math
from collections.abc import Iterator, Mapping, Sequence
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
from hrseg.imaging import read_bands, read_image, read_mask, stretched, to_tensor, write_atomic
from hrseg.inference.load_model import OpenedModel, open_model
from hrseg.labels import LabelSet
from hrseg.metrics.confusion import known_mean
from hrseg.models.hrnet import stride_of
from hrseg.training.build import build_data
from hrseg.viz.features import feature_grid, heat
from hrseg.viz.masks import grid, overlay
from hrseg.viz.reports import data_uri, resource, whole_page

SHARE = 0.95
"""Part of a receptive field that its radius holds."""
_DECADES = 4  # of a field's strength that are shown


@dataclass(frozen=True)
class Inside:
    """Everything that the page shows.

    Attributes:
        model: Its name.
        name: Of the image.
        image: uint8 RGB (H, W, 3), as the network saw it.
        labels: The classes.
        stages: Name of a stage → what it leaves on each branch; the last entry is what the head reads.
        ablation: The decisions without each branch.
        truth: The mask, (H, W), or None.
        field: The effective receptive field of the decisions.
        branch_fields: What of it comes through each branch.
        amounts: Size of the gradients through each branch, as parts of their sum.
        probes: What each branch alone knows; empty without data.
        probed: On which data, in words.
        note: What else a reader should know, or "".
        input_scale: By how much the network enlarges its images.
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


def page(inside: Inside) -> str:
    """Return the page as text."""
    sections = [_decision(inside), _page_stages(inside), _ablation(inside), _field(inside)]
    if inside.probes:
        sections.append(_probes(inside))
    height, width = inside.image.shape[:2]
    note = f" · {html.escape(inside.note)}" if inside.note else ""
    intro = f"{html.escape(inside.model)} · {height} × {width} pixels{note}"
    return whole_page(
        "explain",
        inside.name,
        header=f'<p class="quiet">{intro}</p>',
        body="".join(sections),
        style=resource("hrseg.explain", "page.css"),
    )


def strides(inside: Inside) -> list[str]:
    """Name each branch by its part of the image's size: "1/4", …"""
    maps = [*inside.stages.values()][-1]
    width, scale = inside.image.shape[1], inside.input_scale
    return [f"1/{stride_of(width, x.shape[-1], scale):.3g}" for x in maps]


def field_figure(inside: Inside) -> np.ndarray:
    """Draw the fields in one scale, each with the circle that holds 95 % of it. Shape: → uint8 (H, W, 3)."""
    fields = [inside.field, *inside.branch_fields]
    radii = [radius(field, SHARE) for field in fields]
    names = ["all branches", *(f"branch {i} ({s})" for i, s in enumerate(strides(inside)))]
    shape = inside.field.shape
    reach = min(int(1.25 * max(max(radii), 8)) + 1, max(shape) // 2)
    titles = [f"{name}: {size:.0f} px" for name, size in zip(names, radii, strict=True)]
    panels = [_drawn(field, size, reach) for field, size in zip(fields, radii, strict=True)]
    return grid(panels, titles, columns=len(panels), width=1500)


def _drawn(field: np.ndarray, size: float, reach: int) -> np.ndarray:
    """Paint the logarithm of a field around its middle."""
    around = np.zeros((2 * reach + 1, 2 * reach + 1))
    rows, columns = (min(reach, length // 2) for length in field.shape)
    y, x = (length // 2 for length in field.shape)
    inner = field[y - rows : y + rows + 1, x - columns : x + columns + 1]
    around[reach - rows : reach + rows + 1, reach - columns : reach + columns + 1] = inner
    peak = max(float(around.max()), 1e-30)
    strength = np.log10(np.maximum(around / peak, 10.0**-_DECADES))
    factor = max(1, 420 // len(strength))
    picture = heat(strength, -_DECADES, 0).repeat(factor, axis=0).repeat(factor, axis=1)
    image = Image.fromarray(picture)
    middle, circle = (reach + 0.5) * factor, (size + 0.5) * factor
    box = (middle - circle, middle - circle, middle + circle, middle + circle)
    ImageDraw.Draw(image).ellipse(box, outline=(120, 220, 255), width=max(1, len(picture) // 160))
    return np.array(image)


def _decision(inside: Inside) -> str:
    picture = overlay(inside.image, inside.ablation.full, inside.labels)
    return f"<section><h2>The decision</h2>{_photo(picture, 'the decision', ' small')}</section>"


def _page_stages(inside: Inside) -> str:
    text = (
        "What every stage leaves on every branch. A row is a branch: its mean over the channels, its three strongest "
        "directions as red, green and blue (places with like features get like colors), and the channels that vary "
        "most over the image."
    )
    figures = "".join(
        f"<h4>{html.escape(name)}</h4>{_photo(feature_grid(maps, inside.image), name)}"
        for name, maps in inside.stages.items()
    )
    return f"<section><h2>Every stage, every branch</h2><p>{text}</p>{figures}</section>"


def _ablation(inside: Inside) -> str:
    ablation, labels = inside.ablation, inside.labels
    changed, whole = ablation.changed(), ablation.changed_in_all()
    gains = None if inside.truth is None else ablation.iou_changes(inside.truth)
    named = [f"branch {i} ({s})" for i, s in enumerate(strides(inside))]
    text = (
        "Each branch in turn says everywhere what it says on average, and the image is decided again. The table has "
        "the per cent of the pixels of each class that change"
    )
    text += (
        "; the small numbers say by how many points the IoU with the mask changes."
        if gains is not None
        else "."
    )
    counts = np.bincount(ablation.full.ravel(), minlength=labels.num_classes)
    rows = []
    for k in np.argsort(-counts, kind="stable"):
        if not counts[k]:
            continue
        color = "rgb({},{},{})".format(*labels.palette[k].tolist())
        cells = [
            _shaded(changed[b, k], None if gains is None else gains[b, k])
            for b in range(len(whole))
        ]
        rows.append(
            f'<tr><td><i class="swatch" style="background:{color}"></i>{html.escape(labels.names[k])}</td>'
            f'<td class="n">{100 * counts[k] / counts.sum():.1f}</td>{"".join(cells)}</tr>'
        )
    mean = (
        [None if gains is None else known_mean(row) for row in gains]
        if gains is not None
        else [None] * len(whole)
    )
    cells = [_shaded(value, gain) for value, gain in zip(whole, mean, strict=True)]
    share = '<td class="n">100</td>'
    rows.append(f'<tr><td class="strong">all</td>{share}{"".join(cells)}</tr>')
    heads = "".join(f'<th class="n">{name}</th>' for name in named)
    table = (
        f'<div class="scroll"><table><thead><tr><th>class</th><th class="n">share</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    panels = [overlay(inside.image, mask, labels, legend=False) for mask in ablation.without]
    picture = grid(panels, [f"without {name}" for name in named], columns=2, width=1400)
    return (
        f"<section><h2>Switching a branch off</h2><p>{text}</p>{table}"
        f'<div style="height:14px"></div>{_photo(picture, "decisions without each branch")}</section>'
    )  # fmt: skip


def _field(inside: Inside) -> str:
    radii = [radius(field, SHARE) for field in (inside.field, *inside.branch_fields)]
    names = ["all branches", *(f"branch {i} ({s})" for i, s in enumerate(strides(inside)))]
    parts = [None, *inside.amounts]
    rows = "".join(
        f"<tr><td>{name}</td><td class='n'>{size:.0f} px</td>"
        f"<td class='n'>{'' if part is None else f'{100 * part:.1f}'}</td></tr>"
        for name, size, part in zip(names, radii, parts, strict=True)
    )
    text = (
        "How strongly the input around a pixel moves the logit that wins there: the size of the gradient, averaged "
        f"over pixels in the middle of the image, shown over {_DECADES} powers of ten. The circle holds "
        f"<b>{100 * SHARE:.0f} %</b> of it. Through a branch means: what flows back through that branch of the last "
        "stage."
    )
    table = (
        '<div class="scroll"><table><thead><tr><th>through</th><th class="n">radius that holds 95 %</th>'
        f'<th class="n">part of the gradients, %</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
    return (
        f"<section><h2>How far it looks</h2><p>{text}</p>{_photo(field_figure(inside), 'receptive fields')}"
        f"{table}</section>"
    )


def _probes(inside: Inside) -> str:
    text = (
        "A linear classifier on the features of one branch alone, fitted on some images and judged on others: IoU in "
        f"per cent over drawn pixels, {html.escape(inside.probed)}. The network itself is judged at the same pixels."
    )
    heads = "".join(
        f'<th class="n">{probe.name}' + (f"<br>{probe.channels} channels" if probe.channels else "") + "</th>"
        for probe in inside.probes
    )  # fmt: skip
    rows = [("mean", [probe.miou for probe in inside.probes])]
    rows += [
        (name, [float(probe.iou[k]) for probe in inside.probes])
        for k, name in enumerate(inside.labels.names)
    ]
    body = "".join(
        f'<tr><td class="{"strong" if name == "mean" else ""}">{html.escape(name)}</td>'
        + "".join(_shaded(value, None) for value in values)
        + "</tr>"
        for name, values in rows
        if not all(map(math.isnan, values))
    )
    return (
        f'<section><h2>What a branch knows alone</h2><p>{text}</p><div class="scroll"><table><thead><tr><th></th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _shaded(value: float, gain: float | None) -> str:
    """Write a share on a ground that is the stronger the larger it is."""
    if math.isnan(value):
        return '<td class="n">–</td>'
    ground = f"color-mix(in srgb, #2662b8 {min(100, round(70 * value))}%, transparent)"
    more = "" if gain is None or math.isnan(gain) else f"<i>{100 * gain:+.1f}</i>"
    return f'<td class="n"><span class="cell" style="background:{ground}">{100 * value:.1f}</span>{more}</td>'


def _photo(picture: np.ndarray, name: str, kind: str = "") -> str:
    source = data_uri(picture, "JPEG", 88)
    image = f'<img alt="{html.escape(name)}" src="{source}" loading="lazy">'
    return f'<div class="figure{kind}">{image}</div>'


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
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
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

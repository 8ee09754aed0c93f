"""What is inside a network, as one page about one image. It needs no file beside it; nothing is computed here."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from hrseg.data.labels import LabelSet
from hrseg.explain.ablation import Ablation
from hrseg.explain.field import radius
from hrseg.explain.probes import Probe
from hrseg.metrics import known_mean
from hrseg.models.hrnet import stride_of
from hrseg.pages import data_uri, resource, whole_page
from hrseg.viz.features import feature_grid, heat
from hrseg.viz.masks import overlay
from hrseg.viz.panels import grid

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
    sections = [_decision(inside), _stages(inside), _ablation(inside), _field(inside)]
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


def _stages(inside: Inside) -> str:
    text = (
        "What every stage leaves on every branch. A row is a branch: its mean over the channels, its three strongest "
        "directions as red, green and blue (places with like features get like colours), and the channels that vary "
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

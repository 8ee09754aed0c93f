"""Training samples as one page: whole images, and what the augmentation makes of them, with masks to fade and point at.

The samples come from the dataset that a training would read, so they are what the network would see: crop, scale,
mirror, colors and all. The page needs no file beside it and no network.
"""

import copy
import html
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hrseg.config import DataConfig
from hrseg.data.dataset import Draw, Sample, SegmentationDataset
from hrseg.errors import ConfigError, percent
from hrseg.imaging import denormalize, write_atomic
from hrseg.labels import IGNORE_INDEX
from hrseg.viz.reports import image_uri, resource, whole_page

SIDE = 560
"""Longest side of a picture on the page, in pixels."""


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

    `images` are spread evenly over the dataset, each is augmented `variants` times; `facts` stand in its head.

    Raises:
        ConfigError: Nothing would be shown.
        DataError: An image cannot be read, or the file not written.
    """
    if images < 1 or variants < 1:
        raise ConfigError("A page of no images or no variants is empty. Use 1 or more.")
    with write_atomic(path) as temporary:
        text = page(dataset, images, variants, seed, title, facts)
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def page(
    dataset: SegmentationDataset,
    images: int,
    variants: int,
    seed: int,
    title: str,
    facts: Sequence[tuple[str, str]],
) -> str:
    """Return the page as text."""
    chosen = _chosen(len(dataset), images, seed)
    seen = np.zeros(256, dtype=np.int64)
    plain = copy.copy(dataset)
    plain.recipe = None
    rows = []
    for index in chosen:
        whole = plain[index]
        mask = whole["mask"].numpy().astype(np.uint8)
        size = f"{mask.shape[0]} × {mask.shape[1]}"
        cards = [_card(_picture(whole, dataset), mask, "whole image", size, "whole")]
        for epoch in range(variants):
            sample = dataset[Draw(index, epoch=epoch)]
            varied = sample["mask"].numpy().astype(np.uint8)
            seen += np.bincount(varied.ravel(), minlength=256)
            size = f"{varied.shape[0]} × {varied.shape[1]}"
            cards.append(_card(_picture(sample, dataset), varied, f"epoch {epoch}", size, "varied"))
        name = html.escape(dataset.pairs[index].name)
        rows.append(
            f'<section class="row-of"><h2>{name}</h2><div class="film">{"".join(cards)}</div></section>'
        )
    intro = (
        f"{len(chosen)} of {len(dataset):,} training images, each as it is and {variants} times as the network "
        "would see it"
    )
    tiles = "".join(
        f"<div><h3>{html.escape(name)}</h3><b>{html.escape(value)}</b></div>"
        for name, value in facts
    )
    body = f"""<section class="tiles">{tiles}</section>
<nav><div class="legend">{_legend(dataset, seen)}</div>
<label>mask <input id="fade" type="range" min="0" max="100" value="55" aria-label="opacity of the masks"></label></nav>
{"".join(rows)}
<footer>Point at a picture to read its classes. Choose a class to see it alone. The key m hides and shows the masks.
</footer>"""
    labels = json.dumps(dataset.labels.names).replace("</", "<\\/")
    palette = json.dumps(dataset.labels.palette.tolist())
    script = f"""<p id="tip" role="status"></p>
<script>const LABELS = {labels}, PALETTE = {palette};
{resource("hrseg.data", "browse.js")}</script>"""
    return whole_page(
        "data browse",
        title,
        header=f'<p class="quiet">{intro}</p>',
        body=body,
        style=resource("hrseg.data", "browse.css"),
        after=script,
    )


def _chosen(count: int, wanted: int, seed: int) -> list[int]:
    """Return places spread evenly, beginning somewhere that depends on the seed."""
    wanted = min(wanted, count)
    start = np.random.default_rng(seed).random() if wanted else 0.0
    return sorted({int((number + start) * count / wanted) % count for number in range(wanted)})


def _picture(sample: Sample, dataset: SegmentationDataset) -> np.ndarray:
    """Return what can be seen of a sample: RGB, or the first bands of others, stretched. Shape: (H, W, 3)."""
    bands = [0, 1, 2] if len(sample["image"]) >= 3 else [0, 0, 0]
    mean, std = (
        [values[band % len(values)] for band in bands] for values in (dataset.mean, dataset.std)
    )
    if len(sample["image"]) == 3:
        return denormalize(sample["image"], (*mean,), (*std,))
    values = sample["image"][bands].numpy()
    low, high = np.percentile(values, (1, 99), axis=(1, 2), keepdims=True)
    spread = (values - low) / np.maximum(high - low, 1e-6)
    return (spread.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def _card(photo: np.ndarray, mask: np.ndarray, name: str, size: str, kind: str) -> str:
    height, width = mask.shape
    scale = min(1.0, SIDE / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(photo).resize(small, Image.Resampling.LANCZOS)
    ids = Image.fromarray(mask).resize(small, Image.Resampling.NEAREST)
    valid = mask != IGNORE_INDEX
    ignored = 1 - valid.mean()
    note = f" · {100 * ignored:.0f} % ignored" if ignored >= 0.005 else ""
    return (
        f'<figure class="{kind}" style="--shape:{small[0]}/{small[1]}"><div>'
        f'<img alt="{name}" src="{image_uri(picture, "JPEG", quality=84)}">'
        f'<canvas width="{small[0]}" height="{small[1]}" '
        f'data-ids="{image_uri(ids, "PNG", optimize=True)}"></canvas></div>'
        f"<figcaption><b>{name}</b><span>{size}{note}</span></figcaption></figure>"
    )


def _legend(dataset: SegmentationDataset, seen: np.ndarray) -> str:
    total = max(1, int(seen.sum()))
    items = [
        (int(seen[i]), i, name, "rgb({},{},{})".format(*dataset.labels.palette[i].tolist()))
        for i, name in enumerate(dataset.labels.names)
    ]
    items.sort(key=lambda item: -item[0])
    buttons = [
        f'<button type="button" data-class="{i}"{" class=absent" if not count else ""}>'
        f'<i class="swatch" style="background:{color}"></i>{html.escape(name)}'
        f"<small>{html.escape(percent(count / total))}</small>"
        "</button>"
        for count, i, name, color in items
    ]
    if seen[IGNORE_INDEX]:
        buttons.append(
            f'<button type="button" data-class="{IGNORE_INDEX}"><i class="swatch hatched"></i>ignored'
            f"<small>{html.escape(percent(seen[IGNORE_INDEX] / total))}</small></button>"
        )
    return "".join(buttons)


def recipe_facts(name: str, data: DataConfig) -> list[tuple[str, str]]:
    """Return what the augmentation of a recipe is, in pairs of words."""
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

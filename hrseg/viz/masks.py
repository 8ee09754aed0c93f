"""Masks in color: alone, over their image, and with a legend of their shares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hrseg.errors import DataError, percent
from hrseg.labels import LabelSet
from hrseg.viz.text import (
    HAIRLINE,
    INK,
    PAPER,
    QUIET,
    Color,
    letters_of,
    load_font,
    shortened,
    text_size,
    writable,
)

SMALL_SIDE = 320
"""Images with smaller sides are drawn enlarged where a legend stands beside them."""
MOST_ENTRIES = 24
_STRIP = 512  # rows blended at once, which bounds the memory for a very large image


def colorize(mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Paint a mask with one color per class; ids beyond the palette, 255 among them, are black.

    Args:
        mask: trainIds.
        palette: Colors in trainId order, uint8.

    Shape:
        mask (H, W), palette (K, 3) → uint8 (H, W, 3)

    Example:
        >>> colorize(np.array([[1, 255]]), np.array([[0, 0, 0], [9, 8, 7]], np.uint8)).tolist()
        [[[9, 8, 7], [0, 0, 0]]]
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette  # the rest, 255 among them, is black
    painted: np.ndarray = table[_small(mask)]
    return painted


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    labels: LabelSet,
    alpha: float = 0.55,
    legend: bool = True,
) -> np.ndarray:
    """Lay class colors over an image, draw thin lines between classes, and explain the colors.

    Where the mask has no class the image stays as it is.

    Args:
        image: RGB.
        mask: trainIds.
        labels: Names and colors.
        alpha: Strength of the colors, 0 to 1.
        legend: Add names and shares, below a wide image and beside a tall one. Without it the result
            has the size of the image.

    Raises:
        DataError: Image and mask differ in size.

    Shape:
        image uint8 (H, W, 3), mask (H, W) → uint8 (H, W, 3), larger with a legend

    Example:
        >>> from hrseg.labels import load_labels
        >>> image, mask = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
        >>> overlay(image, mask, load_labels("camvid"), legend=False).shape
        (64, 96, 3)
    """
    if image.shape[:2] != mask.shape:
        raise DataError(
            f"The image is {image.shape[0]} x {image.shape[1]}, the mask {mask.shape[0]} x "
            f"{mask.shape[1]}. Give a mask of the image's size."
        )
    small = _small(mask)
    shares = class_shares(small, labels)
    if legend:
        image, small = _enlarged(image), _enlarged(small)
    blended = _blend(image, small, labels, alpha)
    _draw_borders(blended, small)
    return _with_legend(blended, shares) if legend else blended


@dataclass(frozen=True)
class Share:
    """One entry of a legend.

    Attributes:
        name: Class.
        color: Its color; None where pixels have no class.
        share: Part of the pixels, 0 to 1.
    """

    name: str
    color: Color | None
    share: float


def class_shares(mask: np.ndarray, labels: LabelSet) -> list[Share]:
    """Count the classes of a mask, largest first; pixels without a class come last.

    Args:
        mask: trainIds.
        labels: Names and colors.

    Shape:
        mask (H, W)
    """
    counts = np.bincount(_small(mask).ravel(), minlength=256)  # (256,)
    total = max(1, int(counts.sum()))
    present = [i for i in range(labels.num_classes) if counts[i]]
    present.sort(key=lambda i: -counts[i])
    shares = [Share(labels.names[i], _color(labels.palette[i]), counts[i] / total) for i in present]
    without = int(counts[labels.num_classes :].sum())
    return [*shares, Share("no class", None, without / total)] if without else shares


def _blend(image: np.ndarray, mask: np.ndarray, labels: LabelSet, alpha: float) -> np.ndarray:
    """Mix image and class colors; integers of 1/256, strip by strip."""
    strength = np.uint16(round(min(max(alpha, 0.0), 1.0) * 256))
    colors = np.zeros((256, 1, 3), dtype=np.uint8)
    colors[: labels.num_classes, 0] = labels.palette  # (256, 1, 3), as applyColorMap takes them
    blended = np.empty_like(image)
    for top in range(0, len(image), _STRIP):
        rows = slice(top, top + _STRIP)
        total = np.multiply(image[rows], 256 - strength, dtype=np.uint16)
        total += np.multiply(cv2.applyColorMap(mask[rows], colors), strength, dtype=np.uint16)
        total >>= 8
        blended[rows] = total
    without = mask >= labels.num_classes  # (H, W)
    if without.any():
        blended[without] = image[without]  # else darkened by the black of no class
    return blended


def _draw_borders(image: np.ndarray, mask: np.ndarray) -> None:
    """Draw a light line where classes meet, one pixel on a small image, a few on a large one."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, :-1] |= mask[:, 1:] != mask[:, :-1]  # (H, W)
    edge[:-1] |= mask[1:] != mask[:-1]
    for _ in range(min(mask.shape) // 800):
        wider = edge.copy()
        wider[:, 1:] |= edge[:, :-1]
        wider[1:] |= edge[:-1]
        edge = wider
    image[edge] = (image[edge].astype(np.uint16) + 2 * 255) // 3


def _with_legend(picture: np.ndarray, shares: list[Share]) -> np.ndarray:
    height, width = picture.shape[:2]
    font = load_font(text_size(width, height), letters_of(entry.name for entry in shares))
    below = width >= 1.1 * height
    panel = _panel(shares, font, width=width) if below else _panel(shares, font, height=height)
    if below:
        canvas = Image.new("RGB", (max(width, panel.width), height + panel.height), PAPER)
        canvas.paste(Image.fromarray(picture), ((canvas.width - width) // 2, 0))
        canvas.paste(panel, (0, height))
    else:
        canvas = Image.new("RGB", (width + panel.width, max(height, panel.height)), PAPER)
        canvas.paste(Image.fromarray(picture), (0, 0))
        canvas.paste(panel, (width, 0))
    return np.array(canvas)


def _panel(
    shares: list[Share],
    font: ImageFont.FreeTypeFont,
    width: int | None = None,
    height: int | None = None,
) -> Image.Image:
    """Draw a strip of proportions, and the entries in columns under it, largest first.

    Args:
        shares: Entries, sorted.
        font: Sets the scale of everything.
        width: Of the panel where it is below the picture.
        height: Room where it stands beside.
    """
    em = font.size
    pad, line, swatch = round(em * 1.1), round(em * 1.75), round(em * 1.0)
    top = pad + round(em * 0.7) + round(em * 0.7)  # the strip of proportions and the air under it
    entries = _entries(shares)
    texts = [writable(entry.name, font) for entry in entries]
    names = math.ceil(max(map(font.getlength, texts)))
    number = math.ceil(max(font.getlength(percent(entry.share)) for entry in entries))
    column = swatch + round(em * 0.6) + names + round(em * 0.9) + number
    gap = round(em * 2.2)
    if width is not None:
        columns = max(1, (width - 2 * pad + gap) // (column + gap))
    else:
        assert height is not None
        columns = math.ceil(len(entries) * line / max(line, height - top - pad))
    rows = math.ceil(len(entries) / max(1, columns))
    columns = math.ceil(len(entries) / max(1, rows))
    inner = columns * (column + gap) - gap
    size = (max(width or 0, inner + 2 * pad), max(height or 0, top + rows * line + pad))
    panel = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(panel)
    _draw_strip(panel, shares, (pad, pad), (size[0] - 2 * pad, round(em * 0.7)))
    # Columns share the width that is there, so the panel lines up with the picture.
    step = (size[0] - 2 * pad + gap) / columns
    for index, entry in enumerate(entries):
        x = pad + round(index // rows * step)
        y = top + index % rows * line + line // 2
        box = (x, y - swatch // 2, x + swatch, y - swatch // 2 + swatch)
        outline = entry.color or HAIRLINE
        draw.rounded_rectangle(box, max(1, swatch // 5), entry.color or PAPER, outline, max(1, round(em / 14)))
        x += swatch + round(em * 0.6)
        draw.text((x, y), texts[index], INK, font, anchor="lm")
        right = x + names + round(em * 0.9) + number
        draw.text((right, y), percent(entry.share), QUIET, font, anchor="rm")
    return panel


def _entries(shares: list[Share]) -> list[Share]:
    """Merge the smallest into the last entry where there are very many."""
    if len(shares) <= MOST_ENTRIES:
        return shares
    rest = shares[MOST_ENTRIES - 1 :]
    total = sum(entry.share for entry in rest)
    return [*shares[: MOST_ENTRIES - 1], Share(f"{len(rest)} more", None, total)]


def _draw_strip(panel: Image.Image, shares: list[Share], place: tuple[int, int], size: tuple[int, int]) -> None:
    """Draw all classes as one bar, as long as their shares."""
    width, height = size
    bar = Image.new("RGB", size, HAIRLINE)
    draw = ImageDraw.Draw(bar)
    done = 0.0
    for entry in shares:
        left, done = round(done * width), done + entry.share
        if entry.color and round(done * width) > left:
            draw.rectangle((left, 0, round(done * width) - 1, height), entry.color)
    # Drawn four times as large and reduced, the rounded ends are smooth.
    shape = Image.new("L", (width * 4, height * 4), 0)
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), height * 2, 255)
    panel.paste(bar, place, shape.resize(size, Image.Resampling.BOX))


def _small(mask: np.ndarray) -> np.ndarray:
    """Give trainIds as uint8; what cannot be one becomes 255."""
    if mask.dtype == np.uint8:
        return mask
    return np.where((mask >= 0) & (mask < 255), mask, 255).astype(np.uint8)


def _color(row: np.ndarray) -> Color:
    return int(row[0]), int(row[1]), int(row[2])


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Repeat the pixels of a small picture or mask."""
    factor = SMALL_SIDE // max(picture.shape[:2])
    return picture if factor < 2 else picture.repeat(factor, axis=0).repeat(factor, axis=1)


def grid(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Arrange pictures in rows, each under its title.

    All cells are as large as the largest picture; much smaller ones are enlarged without smoothing, so
    that the pixels of a coarse map stay visible.

    Args:
        images: RGB pictures of any sizes.
        titles: One for each picture.
        columns: Pictures in a row; None makes the whole roughly as wide as high.
        width: Largest width in pixels of the pictures in a row, gaps not counted; None preserves their size.

    Raises:
        DataError: No picture, or another number of titles.

    Shape:
        uint8 (h, w, 3) each → uint8 (H, W, 3)
    """
    if not images or (titles is not None and len(titles) != len(images)):
        count = 0 if titles is None else len(titles)
        raise DataError(
            f"A grid got {len(images)} pictures and {count} titles. Give at least one picture, and one title for each."
        )
    high, wide = (max(image.shape[axis] for image in images) for axis in (0, 1))
    columns = min(len(images), columns or max(1, round(math.sqrt(len(images) * high / wide))))
    if width is not None and columns * wide > width:
        high, wide = max(1, round(high * width / columns / wide)), max(1, width // columns)
    size = text_size(columns * wide, high * math.ceil(len(images) / columns))
    font = load_font(min(size, max(12, wide // 12)), letters_of(titles or ()))
    gap = max(4, round(font.size * 0.5))
    line = round(font.size * 1.5) if titles is not None else 0
    rows = math.ceil(len(images) / columns)
    whole = (gap + columns * (wide + gap), gap + rows * (line + high + gap))
    canvas = Image.new("RGB", whole, PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, image in enumerate(images):
        x = gap + index % columns * (wide + gap)
        y = gap + index // columns * (line + high + gap)
        if titles is not None:
            title = shortened(writable(titles[index], font), font, wide)
            draw.text((x, y + line / 2), title, INK, font, anchor="lm")
        canvas.paste(_fitted(image, wide, high), (x, y + line))
    return np.array(canvas)


def _fitted(picture: np.ndarray, width: int, height: int) -> Image.Image:
    """Fit a picture into a cell: aspect ratio preserved, small pixels enlarged sharply, the rest background."""
    factor = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    resampling = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
    cell = Image.new("RGB", (width, height), PAPER)
    fitted = Image.fromarray(picture).resize(size, resampling)
    cell.paste(fitted, ((width - size[0]) // 2, (height - size[1]) // 2))
    return cell

"""Pictures: masks in colour, overlays with a legend, grids of panels, and maps of features as images.

Everything takes and gives uint8 RGB arrays (H, W, 3), so it can be shown, written or put into a grid. Text
is set in the font that Pillow carries; nothing here needs a screen or a plotting library.
"""

import contextlib
import functools
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from hrseg.data.labels import LabelSet
from hrseg.errors import DataError

Color = tuple[int, int, int]
PAPER: Color = (255, 255, 255)
INK: Color = (30, 33, 38)
QUIET: Color = (122, 128, 137)
HAIRLINE: Color = (222, 225, 230)
SMALL_SIDE = 320
"""Images with smaller sides are drawn enlarged where a legend stands beside them."""
MOST_ENTRIES = 24
_STRIP = (
    512  # rows blended at once, so that a very large image needs little more than its own memory
)
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "Arial.ttf",
)
_HEAT = ((9, 9, 30), (67, 18, 112), (152, 39, 124), (224, 74, 85), (251, 150, 60), (252, 246, 190))


def colourise(mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Paint a mask with one colour per class; ids beyond the palette, 255 among them, are black.

    Args:
        mask: trainIds.
        palette: Colours in trainId order, uint8.

    Shape:
        mask (H, W), palette (K, 3) → uint8 (H, W, 3)

    Example:
        >>> colourise(np.array([[1, 255]]), np.array([[0, 0, 0], [9, 8, 7]], np.uint8)).tolist()
        [[[9, 8, 7], [0, 0, 0]]]
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    painted: np.ndarray = table[_small(mask)]
    return painted


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    labels: LabelSet,
    alpha: float = 0.55,
    legend: bool = True,
) -> np.ndarray:
    """Lay class colours over an image, draw thin lines between classes, and explain the colours.

    Where the mask has no class the image stays as it is.

    Args:
        image: RGB.
        mask: trainIds.
        labels: Names and colours.
        alpha: Strength of the colours, 0 to 1.
        legend: Add names and shares, below a wide image and beside a tall one. Without it the result
            has the size of the image.

    Raises:
        DataError: Image and mask differ in size.

    Shape:
        image uint8 (H, W, 3), mask (H, W) → uint8 (H, W, 3), larger with a legend

    Example:
        >>> from hrseg.data.labels import load_labels
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
        color: Its colour; None where pixels have no class.
        share: Part of the pixels, 0 to 1.
    """

    name: str
    color: Color | None
    share: float


def class_shares(mask: np.ndarray, labels: LabelSet) -> list[Share]:
    """Count the classes of a mask, largest first; pixels without a class come last.

    Args:
        mask: trainIds.
        labels: Names and colours.

    Shape:
        mask (H, W)
    """
    counts = np.bincount(_small(mask).ravel(), minlength=256)
    total = max(1, int(counts.sum()))
    present = [i for i in range(labels.num_classes) if counts[i]]
    present.sort(key=lambda i: -counts[i])
    shares = [Share(labels.names[i], _color(labels.palette[i]), counts[i] / total) for i in present]
    without = int(counts[labels.num_classes :].sum())
    return [*shares, Share("no class", None, without / total)] if without else shares


def percent(share: float) -> str:
    """Say a share in per cent; what is there is never called nothing.

    Example:
        >>> percent(0.25), percent(0.0001), percent(0)
        ('25.0 %', '< 0.1 %', '0.0 %')
    """
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


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
        width: Largest width of the whole in pixels; None keeps the pictures' own size.

    Raises:
        DataError: No picture, or another number of titles.

    Shape:
        uint8 (h, w, 3) each → uint8 (H, W, 3)
    """
    if not images or (titles is not None and len(titles) != len(images)):
        count = 0 if titles is None else len(titles)
        raise DataError(
            f"A grid got {len(images)} pictures and {count} titles. Give at least one picture, and "
            "one title for each."
        )
    high, wide = (max(image.shape[axis] for image in images) for axis in (0, 1))
    columns = min(len(images), columns or max(1, round(math.sqrt(len(images) * high / wide))))
    if width is not None and columns * wide > width:
        high, wide = max(1, round(high * width / columns / wide)), max(1, width // columns)
    size = _text_size(columns * wide, high * math.ceil(len(images) / columns))
    font = _font(min(size, max(12, wide // 12)), _letters(titles or ()))
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
            title = _shortened(_writable(titles[index], font), font, wide)
            draw.text((x, y + line / 2), title, INK, font, anchor="lm")
        canvas.paste(_fitted(image, wide, high), (x, y + line))
    return np.array(canvas)


# Feature maps


def mean_map(maps: torch.Tensor | np.ndarray) -> np.ndarray:
    """Show how strongly each place is activated: the mean over channels, dark to bright.

    Shape:
        (C, h, w) or (1, C, h, w) → uint8 (h, w, 3)
    """
    return heat(_channels(maps).mean(axis=0))


def pca_rgb(maps: torch.Tensor | np.ndarray) -> np.ndarray:
    """Show the three strongest directions of the channels as red, green and blue.

    Places with like features get like colours. Signs are fixed, so the same maps give the same picture.

    Shape:
        (C, h, w) or (1, C, h, w) → uint8 (h, w, 3)
    """
    values = _channels(maps)
    channels, height, width = values.shape
    points = values.reshape(channels, -1)
    points = points - points.mean(axis=1, keepdims=True)
    _, directions = np.linalg.eigh(points @ points.T)  # ascending
    directions = directions[:, ::-1][:, :3]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    colors = np.zeros((3, height * width))
    colors[: directions.shape[1]] = directions.T @ points
    planes = [_stretched(plane) for plane in colors]
    return (np.stack(planes, axis=-1) * 255).round().astype(np.uint8).reshape(height, width, 3)


def top_channels(maps: torch.Tensor | np.ndarray, count: int = 4) -> dict[int, np.ndarray]:
    """Show the channels that vary most over the image.

    Args:
        maps: Features of one image.
        count: How many channels.

    Returns:
        Channel index → picture, most varied first.

    Shape:
        (C, h, w) or (1, C, h, w) → uint8 (h, w, 3) each
    """
    values = _channels(maps)
    order = np.argsort(-values.reshape(len(values), -1).std(axis=1), kind="stable")
    return {int(channel): heat(values[channel]) for channel in order[:count]}


def feature_grid(
    branches: Sequence[torch.Tensor | np.ndarray],
    image: np.ndarray | None = None,
    channels: int = 3,
    width: int = 1600,
) -> np.ndarray:
    """Show every branch in a row: mean, PCA and the channels that vary most.

    Args:
        branches: Feature maps of one image, finest first, as `forward_branches` gives them.
        image: RGB picture; its size gives the proportions of the panels.
        channels: Single channels in a row.
        width: Width of the whole in pixels.

    Shape:
        branch i (1, C, h, w) or (C, h, w) → uint8 (H, W, 3)
    """
    columns = 2 + channels + (image is not None)
    cell = max(16, round(width / (columns + 0.1)))  # some of the width goes into gaps
    shape = _channels(branches[0]).shape[1:] if image is None else image.shape
    height = max(1, round(cell * shape[0] / shape[1]))
    panels: list[np.ndarray] = []
    titles: list[str] = []
    for index, branch in enumerate(branches):
        values = _channels(branch)
        singles = top_channels(values, channels)
        row = [mean_map(values), pca_rgb(values), *singles.values()]
        words = [f"branch {index}, mean", "PCA", *(f"channel {i}" for i in singles)]
        if image is not None:
            row.insert(0, image)
            words[:1] = [f"branch {index}, {len(values)} channels", "mean"]
        blank = columns - len(row)
        # A coarse map covers the whole image, though its own proportions are rounded: stretch it.
        panels += [_stretched_to(panel, cell, height) for panel in row]
        panels += [np.full((height, cell, 3), PAPER, dtype=np.uint8)] * blank
        titles += [*words, *[""] * blank]
    return grid(panels, titles, columns)


def heat(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Paint numbers from dark to bright.

    Args:
        values: One number for each pixel.
        low: Number that is darkest; None takes the 1st percentile.
        high: Number that is brightest; None takes the 99th percentile.

    Shape:
        (H, W) → uint8 (H, W, 3)

    Example:
        >>> heat(np.array([[0.0, 1.0]]), 0, 1).tolist()
        [[[9, 9, 30], [252, 246, 190]]]
    """
    place = (_stretched(np.asarray(values), low, high) * 255).round().astype(np.uint8)
    painted: np.ndarray = _heat_table()[place]
    return painted


# Overlay


def _blend(image: np.ndarray, mask: np.ndarray, labels: LabelSet, alpha: float) -> np.ndarray:
    """Mix image and class colours; integers of 1/256, strip by strip."""
    strength = round(min(max(alpha, 0.0), 1.0) * 256)
    colors = np.zeros((256, 3), dtype=np.uint16)
    colors[: labels.num_classes] = labels.palette.astype(np.uint16) * strength
    keep = np.full((256, 1), 256, dtype=np.uint16)
    keep[: labels.num_classes] = 256 - strength
    blended = np.empty_like(image)
    for top in range(0, len(image), _STRIP):
        rows = slice(top, top + _STRIP)
        blended[rows] = (image[rows] * keep[mask[rows]] + colors[mask[rows]]) >> 8
    return blended


def _draw_borders(image: np.ndarray, mask: np.ndarray) -> None:
    """Draw a light line where classes meet, one pixel on a small image, a few on a large one."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, :-1] |= mask[:, 1:] != mask[:, :-1]
    edge[:-1] |= mask[1:] != mask[:-1]
    for _ in range(min(mask.shape) // 800):
        wider = edge.copy()
        wider[:, 1:] |= edge[:, :-1]
        wider[1:] |= edge[:-1]
        edge = wider
    image[edge] = (image[edge].astype(np.uint16) + 2 * 255) // 3


# Legend


def _with_legend(picture: np.ndarray, shares: list[Share]) -> np.ndarray:
    height, width = picture.shape[:2]
    font = _font(_text_size(width, height), _letters(entry.name for entry in shares))
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
        width: Room where the panel lies below the picture.
        height: Room where it stands beside.
    """
    em = font.size
    pad, line, swatch = round(em * 1.1), round(em * 1.75), round(em * 1.0)
    top = pad + round(em * 0.7) + round(em * 0.7)  # the strip of proportions and the air under it
    entries = _entries(shares)
    texts = [_writable(entry.name, font) for entry in entries]
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
        draw.rounded_rectangle(
            box, max(1, swatch // 5), entry.color or PAPER, outline, max(1, round(em / 14))
        )
        x += swatch + round(em * 0.6)
        draw.text((x, y), texts[index], INK, font, anchor="lm")
        right = x + names + round(em * 0.9) + number
        draw.text((right, y), percent(entry.share), QUIET, font, anchor="rm")
    return panel


def _entries(shares: list[Share]) -> list[Share]:
    """Leave out the smallest where there are very many, and say so in the last entry."""
    if len(shares) <= MOST_ENTRIES:
        return shares
    rest = shares[MOST_ENTRIES - 1 :]
    total = sum(entry.share for entry in rest)
    return [*shares[: MOST_ENTRIES - 1], Share(f"{len(rest)} more", None, total)]


def _draw_strip(
    panel: Image.Image, shares: list[Share], place: tuple[int, int], size: tuple[int, int]
) -> None:
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


# Small things


def _small(mask: np.ndarray) -> np.ndarray:
    """Give trainIds as uint8; what cannot be one becomes 255."""
    if mask.dtype == np.uint8:
        return mask
    return np.where((mask >= 0) & (mask < 255), mask, 255).astype(np.uint8)


def _color(row: np.ndarray) -> Color:
    return int(row[0]), int(row[1]), int(row[2])


def _text_size(width: int, height: int) -> int:
    """Choose letters that can still be read when the whole picture is shown on a page."""
    return int(min(max(max(width, height) / 52, 12), 72))


@functools.lru_cache(maxsize=64)
def _font(size: int, letters: frozenset[str] = frozenset()) -> ImageFont.FreeTypeFont:
    """Load Pillow's own font, or one of the system where that one lacks letters of a name."""
    own = ImageFont.load_default(size=size)
    assert isinstance(own, ImageFont.FreeTypeFont)
    if not _lacks(own, letters):
        return own
    fonts = [own]
    for name in _FONTS:
        with contextlib.suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    return min(fonts, key=lambda font: _lacks(font, letters))


def _letters(texts: Iterable[str]) -> frozenset[str]:
    """Collect what Pillow's font may lack; it knows ASCII and some signs."""
    return frozenset(letter for text in texts for letter in text if not letter.isascii())


def _lacks(font: ImageFont.FreeTypeFont, letters: Iterable[str]) -> int:
    """Count the letters for which a font would draw its box."""
    box = bytes(font.getmask("\U0010fffe"))
    return sum(bytes(font.getmask(letter)) == box for letter in letters)


def _writable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Take the accents off letters the font cannot draw, and put "?" for the others."""
    return "".join(
        _plain(letter) if not letter.isascii() and _lacks(font, letter) else letter
        for letter in text
    )


def _plain(letter: str) -> str:
    first = unicodedata.normalize("NFKD", letter)[0]
    return first if first.isascii() else "?"


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Repeat the pixels of a small picture or mask."""
    factor = SMALL_SIDE // max(picture.shape[:2])
    return picture if factor < 2 else picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _fitted(picture: np.ndarray, width: int, height: int) -> Image.Image:
    """Bring a picture into a cell: proportions kept, pixels kept visible, the rest paper."""
    factor = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    how = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
    cell = Image.new("RGB", (width, height), PAPER)
    fitted = Image.fromarray(picture).resize(size, how)
    cell.paste(fitted, ((width - size[0]) // 2, (height - size[1]) // 2))
    return cell


def _stretched_to(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    coarse = width >= 2 * picture.shape[1]
    how = Image.Resampling.NEAREST if coarse else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(picture).resize((width, height), how))


def _channels(maps: torch.Tensor | np.ndarray) -> np.ndarray:
    values = maps.detach().float().cpu().numpy() if isinstance(maps, torch.Tensor) else maps
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim != 3:
        raise DataError(
            f"Feature maps of shape {tuple(values.shape)} are not those of one image. Give (C, h, w) "
            "or (1, C, h, w)."
        )
    return np.nan_to_num(values.astype(np.float32, copy=False))


def _stretched(
    values: np.ndarray, low: float | None = None, high: float | None = None
) -> np.ndarray:
    """Spread numbers over 0 … 1; outliers beyond the percentiles are clipped."""
    values = np.nan_to_num(values)
    bottom, top = np.percentile(values, (1, 99))
    bottom, top = bottom if low is None else low, top if high is None else high
    spread = max(float(top - bottom), 1e-12)
    return np.clip((values - bottom) / spread, 0.0, 1.0)


@functools.cache
def _heat_table() -> np.ndarray:
    stops = np.array(_HEAT, dtype=np.float64)
    place = np.linspace(0, len(stops) - 1, 256)
    planes = [np.interp(place, np.arange(len(stops)), stops[:, i]) for i in range(3)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)

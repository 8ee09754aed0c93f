"""Pictures side by side, each under its title."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from hrseg.errors import DataError
from hrseg.viz.lettering import INK, PAPER, letters_of, load_font, shortened, text_size, writable


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
        width: Largest width in pixels of the pictures in a row, gaps not counted; None keeps their own size.

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
    """Bring a picture into a cell: proportions kept, pixels kept visible, the rest paper."""
    factor = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    how = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
    cell = Image.new("RGB", (width, height), PAPER)
    fitted = Image.fromarray(picture).resize(size, how)
    cell.paste(fitted, ((width - size[0]) // 2, (height - size[1]) // 2))
    return cell

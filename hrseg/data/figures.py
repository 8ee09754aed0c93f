"""People that never were: figures of plain shapes with their parts in LIP's classes, for the demo and for tests.

Left and right are the person's own, as in LIP: somebody who faces the camera has the left arm on the picture's
right. Ours; no data of others went into it.
"""

import numpy as np
from PIL import Image, ImageDraw

from hrseg.data.labels import load_labels

PARTS = tuple(load_labels("lip").names)
"""Names of a figure's ids: LIP's twenty classes."""
_ID = {name: number for number, name in enumerate(PARTS)}


def figure(
    index: int, size: tuple[int, int] = (128, 256), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one standing person, from the front or from behind.

    Args:
        index: Which one.
        size: (height, width).
        seed: Another seed, other people.

    Returns:
        uint8 RGB image and its uint8 mask in the ids of table "lip".

    Shape:
        image (H, W, 3), mask (H, W)

    Example:
        >>> image, mask = figure(1)
        >>> image.shape, mask.shape
        ((128, 256, 3), (128, 256))
    """
    rng = np.random.RandomState([seed & 0x7FFFFFFF, index, 1])
    height, width = size
    image = Image.new("RGB", (width, height), tuple(rng.randint(90, 220, 3).tolist()))
    mask = Image.new("L", (width, height), _ID["background"])
    on_image, on_mask = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    middle = width * rng.uniform(0.4, 0.6)
    unit = min(height, 2 * width) / 10  # of the body's height
    top = (height - 9.2 * unit) * rng.uniform(0, 1) + 0.2 * unit
    faces_us = rng.rand() < 0.6
    skin, hair, shirt, trousers, shoes = (tuple(rng.randint(20, 240, 3).tolist()) for _ in range(5))

    def box(
        part: str, color: tuple[int, ...], x: tuple[float, float], y: tuple[float, float]
    ) -> None:
        ends = sorted(middle + side * unit for side in x)
        place = [(ends[0], top + y[0] * unit), (ends[1], top + y[1] * unit)]
        on_image.ellipse(place, fill=color) if part in ("face", "hair") else on_image.rectangle(
            place, fill=color
        )
        on_mask.ellipse(place, fill=_ID[part]) if part in ("face", "hair") else on_mask.rectangle(
            place, fill=_ID[part]
        )

    box("hair", hair, (-0.75, 0.75), (0, 1.5))
    if faces_us:
        box("face", skin, (-0.55, 0.55), (0.35, 1.7))
    swing = rng.uniform(0, 0.6)
    for side in ("left", "right"):
        way = 1.0 if (side == "left") == faces_us else -1.0  # the picture's right is plus
        box(f"{side} arm", skin, (way * 0.9, way * (1.5 + swing)), (1.9, 4.9))
        box("pants", trousers, (way * 0.05, way * 0.8), (4.4, 7))
        box(f"{side} leg", skin, (way * 0.1, way * 0.75), (7, 8.5))
        box(f"{side} shoe", shoes, (way * 0.1, way * 1.1), (8.5, 9))
    box("upper clothes", shirt, (-0.95, 0.95), (1.7, 4.6))
    pixels = np.array(image, dtype=np.float32) + 6 * rng.standard_normal((height, width, 1))
    return pixels.clip(0, 255).astype(np.uint8), np.array(mask)

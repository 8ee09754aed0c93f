"""From flat colours to a photograph: texture, a lens and a sensor."""

import numpy as np
from PIL import Image, ImageFilter

from hrseg.data.street.camera import Street

_TEXTURE = np.array([3.5, 4, 3, 2, 1, 11, 0.4, 4, 1.5], dtype=np.float32)
"""How rough each class is, in per cent of its brightness."""


def photograph(street: Street) -> np.ndarray:
    """Give things a texture, then a lens and a sensor, so that colour alone does not tell classes."""
    fine = street.rng.standard_normal((street.h, street.w)).astype(np.float32)
    rough = fine + 0.8 * grain(street, max(1.5, street.h / 64)) + 0.8 * grain(street, street.h / 12)
    texture = rough * _TEXTURE[np.array(street.mask)]
    blur = ImageFilter.GaussianBlur(street.rng.uniform(0.25, 0.55) * street.h / 128)
    pixels = np.array(street.image.filter(blur), dtype=np.float32)
    pixels *= 1 + texture[..., None] / 100
    across = np.linspace(-1, 1, street.w, dtype=np.float32)[None, :, None]
    down = np.linspace(-1, 1, street.h, dtype=np.float32)[:, None, None]
    pixels *= street.rng.uniform(0.75, 1.12) + street.rng.uniform(-0.12, 0.12) * across
    pixels *= 1 - 0.1 * (across**2 + down**2)
    pixels *= street.rng.uniform(0.94, 1.06, 3).astype(np.float32)
    noise = street.rng.standard_normal((street.h, street.w, 1)).astype(np.float32)
    pixels += street.rng.uniform(1, 5) * noise
    return pixels.clip(0, 255).astype(np.uint8)


def grain(street: Street, cell: float, stretch: float = 1.0) -> np.ndarray:
    """Smooth noise with blobs of a size in pixels. Shape: (H, W)."""
    rows, columns = int(street.h / cell) + 2, int(street.w / (cell * stretch)) + 2
    small = street.rng.standard_normal((rows, columns)).astype(np.float32)
    return np.array(Image.fromarray(small).resize((street.w, street.h), Image.Resampling.BICUBIC))

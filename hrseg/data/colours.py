"""Colour changes of a training image: its mask stays as it is.

Three rules, all on uint8: albumentations' jitter, mmsegmentation's distortion, and the official brightness shift.
"""

from collections.abc import Callable
from typing import Any

import albumentations as A
import cv2
import numpy as np


def jitter(strength: float) -> A.BasicTransform:
    """Multiply brightness, contrast and saturation by up to 1.5, and turn the hue, for 80 % of the images.

    Args:
        strength: 0 (none) to 1.
    """
    near_one = (1 - 0.5 * strength, 1 + 0.5 * strength)
    hue = 0.1 * strength
    return A.ColorJitter(
        brightness=near_one, contrast=near_one, saturation=near_one, hue=(-hue, hue), p=0.8
    )


class Distortion(A.ImageOnlyTransform):
    """Brightness, contrast, saturation and hue, each for half of the images; contrast comes early or late.

    Args:
        strength: 1 is the source's: brightness within 32 steps of 255, contrast and saturation times 0.5 to
            1.5, hue within 36 degrees.

    Source: PhotoMetricDistortion of mmsegmentation 1.2.2, which has it from the SSD detector.
    """

    def __init__(self, strength: float) -> None:
        super().__init__(p=1.0)
        self.strength = strength

    def get_params(self) -> dict[str, Any]:
        """Draw the four changes; None leaves one out."""
        random, strength = self.py_random, self.strength
        ranges = {
            "brightness": (-32 * strength, 32 * strength),
            "contrast": (1 - 0.5 * strength, 1 + 0.5 * strength),
            "saturation": (1 - 0.5 * strength, 1 + 0.5 * strength),
            "hue": (-18 * strength, 18 * strength),  # of 180, as OpenCV counts
        }
        drawn = {
            name: random.uniform(*ends) if random.random() < 0.5 else None
            for name, ends in ranges.items()
        }
        return {"changes": drawn, "contrast_first": random.random() < 0.5}

    def apply(
        self,
        img: np.ndarray,
        changes: dict[str, float | None],
        contrast_first: bool,
        **params: Any,
    ) -> np.ndarray:
        """Change the colours. Shape: (H, W, 3) → (H, W, 3)."""
        order = (
            ("contrast", "saturation", "hue")
            if contrast_first
            else ("saturation", "hue", "contrast")
        )
        for name in ("brightness", *order):
            value = changes[name]
            if value is not None:
                img = _CHANGES[name](img, value)
        return img


class BrightnessShift(A.ImageOnlyTransform):
    """Add one whole number to all channels of half of the images.

    Args:
        largest: Largest shift, of 255.

    Source: random_brightness of the official HRNet-OCR branch, there with 10.
    """

    def __init__(self, largest: int) -> None:
        super().__init__(p=0.5)
        self.largest = largest

    def get_params(self) -> dict[str, Any]:
        """Draw the shift."""
        return {"shift": self.py_random.randint(-self.largest, self.largest)}

    def apply(self, img: np.ndarray, shift: int, **params: Any) -> np.ndarray:
        """Shift the image."""
        return cv2.LUT(img, _clipped(_STEPS.astype(np.int16) + shift))


PHOTOMETRIC_RULES: dict[str, Callable[[float], A.BasicTransform]] = {
    "jitter": jitter,
    "mmseg": Distortion,
}
"""data.photometric_rule → the step for a strength."""


_STEPS = np.arange(256, dtype=np.uint8)
"""Every value of a byte: what a change makes of them is what it makes of an image."""


def _clipped(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).astype(np.uint8)


def _saturated(img: np.ndarray, factor: float) -> np.ndarray:
    return _through_hsv(img, 1, _clipped(_STEPS.astype(np.float32) * factor))


def _turned(img: np.ndarray, steps: float) -> np.ndarray:
    turned = (_STEPS.astype(np.int16) + int(np.floor(steps))) % 180
    return _through_hsv(img, 0, turned.astype(np.uint8))


def _through_hsv(img: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
    tables = np.repeat(_STEPS[:, None], 3, axis=1)
    tables[:, channel] = table
    return cv2.cvtColor(cv2.LUT(hsv, tables[None]), cv2.COLOR_HSV2RGB)


_CHANGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": lambda img, value: cv2.LUT(img, _clipped(_STEPS.astype(np.float32) + value)),
    "contrast": lambda img, value: cv2.LUT(img, _clipped(_STEPS.astype(np.float32) * value)),
    "saturation": _saturated,
    "hue": _turned,
}

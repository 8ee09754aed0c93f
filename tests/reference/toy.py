"""A tiny seeded network and a few images, for the originals' ways to test and for ours.

The network is not symmetric, so that mirrors matter; its last class is never found, so that absent classes do.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

CITYSCAPES_SIZES = ((64, 128), (60, 128))
SIZES = ((61, 87), (90, 50), (33, 47))
"""Wide, high, and smaller than the windows."""
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


@dataclass(frozen=True)
class Case:
    """One way to test, with the sizes of a published protocol divided by ten or more.

    Attributes:
        name: Of the case.
        row: Name of our protocol.
        changes: Smaller sizes for our row.
        original: The original's dataset (official) or mode (mmsegmentation).
        scales: For the original.
        flip: For the original.
        base: Its base size.
        crop: Its window.
        sizes: Of the images.
        classes: K.
        aligned: Whether its maps are resized with aligned corners.
    """

    name: str
    row: str
    original: str
    changes: dict[str, Any] = field(default_factory=dict)
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    base: int | tuple[int, int] = 52
    crop: tuple[int, int] = (52, 52)
    sizes: tuple[tuple[int, int], ...] = SIZES
    classes: int = 5
    aligned: bool = False


_WIDE = {"window": (64, 128), "stride": (64, 128), "base_size": 128}
_CROP = {"window": (52, 52), "base_size": 52}
_CITY: dict[str, Any] = {"original": "cityscapes", "base": 128, "crop": (64, 128), "changes": _WIDE}
_CITY["sizes"] = CITYSCAPES_SIZES
_SLIDE = {"window": (48, 48), "stride": (32, 32)}
OFFICIAL = (
    Case("cityscapes", "official_cityscapes", **_CITY),
    Case("cityscapes_ms", "official_cityscapes_ms", scales=SCALES, flip=True, **_CITY),
    Case("ade20k", "official_ade20k", "ade20k", _CROP, aligned=True),
    Case("ade20k_ms", "official_ade20k_ms", "ade20k", _CROP, (*SCALES, 2.0), True, aligned=True),
    Case("coco_stuff", "official_crop", "cocostuff", _CROP),
    Case("coco_stuff_ms", "official_crop_ms", "cocostuff", _CROP, (*SCALES, 2.0), True),
    Case(
        "lip",
        "lip",
        "lip",
        {"window": (47, 47), "base_size": 47},
        flip=True,
        base=47,
        crop=(47, 47),
        classes=20,
    ),
)
MMSEG = (
    Case("mmseg_whole", "mmseg_whole", "whole", base=0),
    Case(
        "mmseg_short",
        "mmseg_short512",
        "whole",
        {"base_size": 120, "base_short_side": 40},
        base=(120, 40),
        aligned=True,
    ),
    Case(
        "mmseg_slide",
        "mmseg_slide",
        "slide",
        {**_SLIDE, "base_size": 56, "base_short_side": 56},
        base=(56, 56),
        crop=(48, 48),
    ),
    Case("mmseg_tta", "mmseg_tta", "whole", {}, SCALES, True, base=0),
    Case("mmseg_slide_tta", "mmseg_slide_tta", "slide", _SLIDE, SCALES, True, 0, (48, 48)),
)


def toy_network(classes: int) -> Any:
    """Return a function from images to logits at stride 4. Shape: (n, 3, h, w) → (n, K, h/4, w/4)."""
    stream = np.random.RandomState(3)
    first = torch.from_numpy(stream.randn(8, 3, 5, 5).astype(np.float32) / 5)
    last = torch.from_numpy(1.5 * stream.randn(classes, 8, 1, 1).astype(np.float32))
    bias = torch.zeros(classes)
    bias[-1] = -60.0

    def network(image: torch.Tensor) -> torch.Tensor:
        return F.conv2d(torch.tanh(F.conv2d(image, first, stride=4, padding=2)), last, bias)

    return network


def toy_logits(classes: int, aligned: bool) -> Any:
    """Return it as a logits function. Shape: (n, 3, h, w) → (n, K, h, w)."""
    network = toy_network(classes)

    def logits(image: torch.Tensor) -> torch.Tensor:
        size = image.shape[-2:]
        return F.interpolate(network(image), size, mode="bilinear", align_corners=aligned)

    return logits


def toy_images(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images and masks: soft blobs with noise, and classes in blocks, the last one in none.

    Shape:
        uint8 (h, w, 3), uint8 (h, w)
    """
    stream = np.random.RandomState(5)
    found = []
    for height, width in case.sizes:
        coarse = torch.from_numpy(stream.rand(1, 3, 5, 6).astype(np.float32))
        soft = F.interpolate(coarse, (height, width), mode="bilinear")[0].permute(1, 2, 0).numpy()
        noisy = 255 * soft + 25 * stream.randn(height, width, 3)
        blocks = stream.randint(0, case.classes - 1, (7, 9))
        mask = blocks[np.arange(height)[:, None] * 7 // height, np.arange(width) * 9 // width]
        found.append((noisy.clip(0, 255).astype(np.uint8), mask.astype(np.uint8)))
    return found

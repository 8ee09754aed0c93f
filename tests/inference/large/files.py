"""Networks and images that are small, and yet cut into many bands."""

import numpy as np
import torch
from torch import nn

from hrseg.inference.predictor import Predictor

KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
"""GeoTIFF keys: projected, pixels are areas, UTM zone 33 north."""
GEO = [
    (33550, 12, 3, (0.1, 0.1, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 500000.0, 4500000.0, 0.0), True),
    (34735, 3, len(KEYS), KEYS, True),
]
BUILT_FOR = 2**40
"""A limit that everything fits in."""


class Tiny(nn.Module):
    """Five classes from one convolution at stride 4; it looks at seven pixels."""

    def __init__(self, bands: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.num_classes = classes
        self.spec = {"in_channels": bands}
        self.conv = nn.Conv2d(bands, classes, 7, stride=4, padding=3, bias=False)
        nn.init.normal_(self.conv.weight, generator=torch.Generator().manual_seed(3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at image size."""
        maps = self.conv(image)
        return nn.functional.interpolate(maps, image.shape[-2:], mode="bilinear")

    def forward_all(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return {"main": logits}, at image size."""
        return {"main": self(image)}


def tiny(bands: int = 3, **options: object) -> Predictor:
    options = {"device": "cpu", "precision": "fp32", "window": (64, 64), "overlap": 0.25} | options
    if bands != 3:
        options |= {"mean": (0.5,) * bands, "std": (0.25,) * bands, "bands": range(bands)}
    return Predictor(Tiny(bands), **options)


def picture(height: int = 300, width: int = 210, bands: int = 3, dtype: str = "uint8") -> np.ndarray:
    """Blobs of colors, so that classes are areas."""
    generator = np.random.default_rng(7)
    coarse = generator.random((height // 10 + 2, width // 10 + 2, bands))
    fine = coarse.repeat(10, axis=0).repeat(10, axis=1)[:height, :width]
    most = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    return (fine * most).astype(dtype)

"""A small predictor, photographs, and frames of a clip."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.inference.predictor import Predictor
from hrseg.inference.sources import Clip, Picture

SIZES = [(32, 48), (20, 30), (32, 48), (32, 48), (20, 30), (1, 1), (32, 48)]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    from hrseg.models import create_model

    torch.manual_seed(0)
    network = create_model("hrnet_w18_small_v1", num_classes=3).eval()
    return Predictor(network, device="cpu", precision="fp32")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = []
    for number, size in enumerate(SIZES):
        pixels = random.integers(0, 255, (*size, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def frames(number: int, live: bool = False) -> list[Picture]:
    clip = Clip("drive", 5.0, live)
    random = np.random.default_rng(1)
    return [
        Picture(
            f"drive#{i}",
            f"drive/{i:06d}",
            pixels=random.integers(0, 255, (33, 47, 3), dtype=np.uint8),
            time=i / 5,
            clip=clip,
        )
        for i in range(number)
    ]

"""What many tests share: small networks and a fixed seed. No data is downloaded anywhere."""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import pytest
import torch

from hrseg.models import create_model


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_network() -> torch.nn.Module:
    """The smallest HRNet, three classes, in evaluation mode."""
    return create_model("hrnet_w18_small_v1", num_classes=3).eval()

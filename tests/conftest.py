"""What many tests share: small networks and a fixed seed. No data is downloaded anywhere."""

import os
import signal

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
if (
    "PYTEST_XDIST_WORKER_COUNT" in os.environ
):  # several processes share the cores; their children too
    _SHARE = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _SHARE)))
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # xdist ignores it, and so would their children

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

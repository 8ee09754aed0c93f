"""Parity of files with their network, counted by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hrseg.errors import ExportError
from hrseg.export.parity import ParityReport, RuntimeParity, VerificationImage, compare


def test_logits_count_in_fp32_only():
    found = {"onnxruntime": RuntimeParity(pixels=10, logits=0.5, spread=1.0)}
    ParityReport(found, [], "fp16", 0.5).check()
    with pytest.raises(ExportError, match=r"logits differ by up to 0\.5"):
        ParityReport(found, [], "fp32", 0.01).check()


def test_disagreement_is_counted_by_hand():
    labels = SimpleNamespace(num_classes=2)
    logits = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]], np.float32)  # classes 0, 1

    def runner(images: np.ndarray) -> dict[str, Any]:
        return {"labels": np.array([[[0, 0]]], np.uint8), "logits": logits + np.float32(0.25)}

    image = VerificationImage(np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]]))
    found = compare(
        lambda _: torch.from_numpy(logits),
        ((0.5,) * 3, (0.5,) * 3),
        {"x": [runner]},
        [image],
        labels,
    )["x"]
    assert (found.pixels, found.changed, found.logits, found.spread) == (2, 1, 0.25, 0.5)
    assert found.miou == (1.0, 0.25)  # 1/2 and 0/1

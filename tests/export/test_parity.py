"""Parity of files with their network, counted by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.errors import ExportError
from hrseg.export.parity import (
    ParityReport,
    RuntimeParity,
    VerificationImage,
    choose_verification_images,
    compare,
)
from hrseg.labels import load_labels


def test_logits_count_in_fp32_only():
    found = {"onnxruntime": RuntimeParity(pixels=10, logits=0.5, spread=1.0)}
    ParityReport(found, [], "fp16", 0.5).check()
    with pytest.raises(ExportError, match=r"logits differ by up to 0\.5"):
        ParityReport(found, [], "fp32", 0.01).check()


def test_probabilities_count_where_the_file_gives_them():
    found = RuntimeParity(pixels=10, spread=1.0, probabilities=0.002)
    with pytest.raises(ExportError, match=r"probabilities by 0\.002"):
        ParityReport({"x": found}, [], "fp32", 0.01).check()
    assert found.to_dict()["max_probability_difference"] == 0.002


def test_the_file_that_is_written_is_judged_by_its_own_probabilities():
    logits = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]], np.float32)  # classes 0, 1

    def full(images: np.ndarray) -> dict[str, Any]:
        return {"labels": np.array([[[0, 1]]], np.uint8), "logits": logits}

    def written(images: np.ndarray) -> dict[str, Any]:
        return {"probabilities": np.array([[[[0.75, 0.75]], [[0.25, 0.25]]]], np.float32)}

    image = VerificationImage(np.zeros((1, 2, 3), np.uint8))
    labels: Any = SimpleNamespace(num_classes=2)
    statistics = ((0.5,) * 3, (0.5,) * 3)
    found = compare(lambda _: torch.from_numpy(logits), statistics, {"x": [full, written]}, [image], labels)["x"]
    assert found.changed == 1
    assert found.probabilities == pytest.approx(0.75 - 1 / (1 + np.e), abs=1e-6)


def test_images_are_cropped_or_padded_to_the_size_of_a_file(tmp_path):
    wide = np.arange(5 * 9, dtype=np.uint8).reshape(5, 9)
    image = np.stack([wide] * 3, axis=2)
    Image.fromarray(image).save(tmp_path / "a.png")
    labels = load_labels("camvid")
    (one,) = choose_verification_images(tmp_path / "a.png", None, labels, 5, (7, 4))
    assert one.image.shape == (7, 4, 3)
    assert np.array_equal(one.image[:5], image[:, -4:])
    assert np.array_equal(one.image[5:, :, 0], [wide[4, -4:]] * 2)
    assert [one.image.shape for one in choose_verification_images(None, None, labels, 5, (40, 64))] == [(40, 64, 3)] * 3


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

"""Predictions that tests write: drawn by lot, or by hand."""

from typing import Any

import numpy as np

from hrseg.inference.prediction import Prediction
from hrseg.labels import Label, LabelSet

LABELS = LabelSet(
    "street",
    (
        Label(0, 255, "void", (0, 0, 0)),
        Label(7, 0, "road", (128, 64, 128)),
        Label(26, 1, "car", (0, 0, 142)),
        Label(23, 2, "sky & air", (70, 130, 180)),
    ),
)


def prediction(mask: np.ndarray | None = None, **more: Any) -> Prediction:
    """A prediction with every map; probabilities are those of a softmax of noise."""
    rng = np.random.default_rng(0)
    height, width = (20, 30) if mask is None else mask.shape
    logits = rng.normal(0, 3, (3, height, width))
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    ordered = np.sort(p, axis=0)
    maps = {
        "confidence": ordered[2].astype(np.float32),
        "probabilities": p.astype(np.float16),
        "entropy": (-(p * np.log(p)).sum(axis=0) / np.log(3)).astype(np.float32),
        "margin": (ordered[2] - ordered[1]).astype(np.float32),
    }
    maps |= {name: more.pop(name) for name in maps if name in more}
    given: dict[str, Any] = {
        "mask": p.argmax(axis=0).astype(np.uint8) if mask is None else mask.astype(np.uint8),
        "maps": {name: values for name, values in maps.items() if values is not None},
        "labels": LABELS,
        "image": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "name": "street",
        "probability_ids": (0, 1, 2),
    }
    return Prediction(**{**given, **more})

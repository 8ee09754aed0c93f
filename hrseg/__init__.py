"""Semantic segmentation around HRNetV2: train, explain, predict.

`dir(hrseg)` lists the public names. They load on first use, so that `import hrseg` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = {
    "Config": "hrseg.config",
    "ConfusionMatrix": "hrseg.metrics.confusion",
    "HrsegError": "hrseg.errors",
    "LabelSet": "hrseg.labels",
    "Prediction": "hrseg.inference.predictor",
    "Predictor": "hrseg.inference.predictor",
    "SegmentationData": "hrseg.data.datamodule",
    "SegmentationTask": "hrseg.training.task",
    "create_model": "hrseg.models",
    "from_pretrained": "hrseg.inference.predictor",
    "list_models": "hrseg.models",
    "list_weights": "hrseg.weights.catalog",
    "load_config": "hrseg.config",
    "load_weights": "hrseg.weights",
    "open_predictor": "hrseg.inference.predictor",
    "overlay": "hrseg.viz",
    "sample": "hrseg.data.street",
}
"""Public name → its module."""

__all__ = sorted([*_MODULES, "__version__"])

if TYPE_CHECKING:
    from hrseg.config import Config, load_config
    from hrseg.data.datamodule import SegmentationData
    from hrseg.data.street import sample
    from hrseg.errors import HrsegError
    from hrseg.inference.predictor import (
        Prediction,
        Predictor,
        from_pretrained,
        open_predictor,
    )
    from hrseg.labels import LabelSet
    from hrseg.metrics.confusion import ConfusionMatrix
    from hrseg.models import create_model, list_models
    from hrseg.training.task import SegmentationTask
    from hrseg.viz import overlay
    from hrseg.weights import load_weights
    from hrseg.weights.catalog import list_weights


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hrseg' has no attribute '{name}'. It offers: {', '.join(__all__)}.")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__

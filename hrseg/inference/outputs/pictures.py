"""Masks and pictures as PNG."""

from pathlib import Path

from hrseg.imaging import write_image, write_mask
from hrseg.inference.outputs.options import Options
from hrseg.inference.prediction import Prediction


def write_ids(prediction: Prediction, target: Path, options: Options) -> None:
    """Write the dataset's ids, with a palette that shows them in colour."""
    write_mask(target, prediction.ids(), prediction.labels.id_palette())


def write_overlay(prediction: Prediction, target: Path, options: Options) -> None:
    """Write the image under its classes, with a legend."""
    write_image(target, prediction.overlay())

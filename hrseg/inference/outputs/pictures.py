"""Masks and pictures as PNG: ids, trainIds, colours, the overlay with its legend."""

from pathlib import Path

from hrseg.imaging import write_image, write_mask
from hrseg.inference.outputs.options import Options
from hrseg.inference.prediction import Prediction
from hrseg.viz import colourise


def write_ids(prediction: Prediction, target: Path, options: Options) -> None:
    """Write the dataset's ids, with a palette that shows them in colour."""
    write_mask(target, prediction.ids(), prediction.labels.id_palette())


def write_train_ids(prediction: Prediction, target: Path, options: Options) -> None:
    """Write trainIds, grey; 255 where there is no class."""
    write_mask(target, prediction.mask)


def write_colour(prediction: Prediction, target: Path, options: Options) -> None:
    """Write the colours of the classes, without a palette; black where there is no class."""
    write_image(target, colourise(prediction.mask, prediction.labels.palette))


def write_overlay(prediction: Prediction, target: Path, options: Options) -> None:
    """Write the image under its classes, with a legend."""
    write_image(target, prediction.overlay(), quick=True)

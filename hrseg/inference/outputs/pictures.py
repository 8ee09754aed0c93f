"""Masks and pictures as PNG, and as GeoTIFF where the image has a place on the ground."""

from pathlib import Path

import numpy as np

from hrseg.data.labels import IGNORE_INDEX
from hrseg.imaging import write_geotiff, write_image, write_mask
from hrseg.inference.outputs.options import Options
from hrseg.inference.prediction import Prediction, nodata_id
from hrseg.viz import colourise


def write_ids(prediction: Prediction, target: Path, options: Options) -> None:
    """Write the dataset's ids, with a palette that shows them in color."""
    labels = prediction.labels
    write_map(prediction, target, prediction.ids(), nodata_id(labels), labels.id_palette())


def write_train_ids(prediction: Prediction, target: Path, options: Options) -> None:
    """Write trainIds, grey; 255 where there is no class or no data."""
    write_map(prediction, target, prediction.mask, IGNORE_INDEX)


def write_colour(prediction: Prediction, target: Path, options: Options) -> None:
    """Write the colors of the classes, without a palette; black where there is no class or no data."""
    write_image(target, colourise(prediction.mask, prediction.labels.palette))


def write_overlay(prediction: Prediction, target: Path, options: Options) -> None:
    """Write the image under its classes, with a legend."""
    write_image(target, prediction.overlay(), quick=True)


def write_map(
    prediction: Prediction,
    target: Path,
    values: np.ndarray,
    nodata: int,
    palette: np.ndarray | None = None,
) -> None:
    """Write whole numbers of each pixel as the suffix says: PNG, or GeoTIFF in the image's place.

    Args:
        prediction: Of the image.
        target: .png or .tif.
        values: uint8 or uint16 (H, W).
        nodata: The value of pixels without data, which a GeoTIFF says.
        palette: Colors of uint8 values.
    """
    if target.suffix != ".tif":
        write_mask(target, values, palette)
        return
    colors = palette if values.dtype == np.uint8 else None
    place = prediction.georeference
    write_geotiff(target, values, georeference=place, nodata=nodata, palette=colors)

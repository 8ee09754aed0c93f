"""Probabilities of chosen classes: float16 arrays, or the bands of a TIFF that geographic programs open."""

from pathlib import Path

import numpy as np

from hrseg.imaging import write_atomic, write_geotiff
from hrseg.inference.outputs.archive import write_npz
from hrseg.inference.outputs.options import Options
from hrseg.inference.prediction import Prediction


def write_probabilities(prediction: Prediction, target: Path, options: Options) -> None:
    """Write `probabilities` (k, H, W), and the `classes` and `train_ids` of its layers, as an .npz."""
    arrays = {
        "probabilities": prediction.kept_map("probabilities"),
        "classes": np.array(_names(prediction)),
        "train_ids": np.array(prediction.kept, np.int64),
    }
    with write_atomic(target) as temporary:
        write_npz(temporary, arrays)


def write_bands(prediction: Prediction, target: Path, options: Options) -> None:
    """Write a tiled float32 TIFF with one named band a class, in its place on the ground where there is one.

    Raises:
        DataError: The file cannot be written.
    """
    write_geotiff(
        target,
        prediction.kept_map("probabilities").astype(
            np.float32
        ),  # GDAL before 3.11 knows no float16
        georeference=prediction.georeference,
        nodata=np.nan,
        names=_names(prediction),
    )


def _names(prediction: Prediction) -> list[str]:
    return [prediction.labels.names[i] for i in prediction.kept]

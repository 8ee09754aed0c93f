"""Masks, maps and pictures as PNG, or as GeoTIFF where the image is georeferenced; arrays as .npz."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hrseg.imaging import write_atomic, write_geotiff, write_image, write_mask
from hrseg.inference.outputs.options import Options
from hrseg.labels import IGNORE_INDEX
from hrseg.viz import colorize

if TYPE_CHECKING:
    from hrseg.inference.prediction import Prediction


def write_ids(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write the dataset's ids, with a palette that shows them in color."""
    labels = prediction.labels
    write_map(prediction, target, prediction.ids(), labels.nodata_id, labels.id_palette())


def write_train_ids(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write trainIds, gray; 255 where there is no class or no data."""
    write_map(prediction, target, prediction.mask, IGNORE_INDEX)


def write_color(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write the colors of the classes, without a palette; black where there is no class or no data."""
    write_image(target, colorize(prediction.mask, prediction.labels.palette))


def write_overlay(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write the image under its classes, with a legend."""
    write_image(target, prediction.overlay(), quick=True)


def write_map(
    prediction: "Prediction",
    target: Path,
    values: np.ndarray,
    nodata: int,
    palette: np.ndarray | None = None,
) -> None:
    """Write uint8 or uint16 values (H, W) as PNG or GeoTIFF, by the suffix.

    Args:
        prediction: Gives the georeference.
        target: .png or .tif.
        values: uint8 or uint16 (H, W).
        nodata: Value of pixels without data, recorded in a GeoTIFF.
        palette: Colors of uint8 values.
    """
    if target.suffix != ".tif":
        write_mask(target, values, palette)
        return
    colors = palette if values.dtype == np.uint8 else None
    place = prediction.georeference
    write_geotiff(target, values, georeference=place, nodata=nodata, palette=colors)


SCALE = 65535
"""The stored value that is 1."""
NODATA = 0
"""The stored value of pixels without data."""


def map_writer(name: str) -> Callable[["Prediction", Path, Options], None]:
    """Return a writer of one map of a prediction."""

    def write(prediction: "Prediction", target: Path, options: Options) -> None:
        write_map(prediction, target, in_sixteen_bits(prediction.require_map(name)), NODATA)

    return write


def write_maps(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write confidence, margin and entropy as float32 arrays of an .npz."""
    arrays = {name: getattr(prediction, name) for name in ("confidence", "margin", "entropy")}
    with write_atomic(target) as temporary:
        write_npz(temporary, arrays)


def in_sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Map 0 … 1 to 1 … 65535, and NaN to 0.

    Example:
        >>> in_sixteen_bits(np.array([[0, 0.5, 1, np.nan]])).tolist()
        [[1, 32768, 65535, 0]]
    """
    scaled = np.multiply(values, SCALE, dtype=np.float32)
    scaled += 0.5
    scaled = scaled.clip(1, SCALE)  # 0 is for pixels without data
    return np.nan_to_num(scaled, copy=False, nan=NODATA).astype(np.uint16)


def write_probabilities(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write `probabilities` (k, H, W), and the `classes` and `train_ids` of its layers, as an .npz."""
    arrays = {
        "probabilities": prediction.require_map("probabilities"),
        "classes": np.array(_names(prediction)),
        "train_ids": np.array(prediction.probability_ids, np.int64),
    }
    with write_atomic(target) as temporary:
        write_npz(temporary, arrays)


def write_bands(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write a tiled float32 TIFF with one named band per class, georeferenced where the image is."""
    write_geotiff(
        target,
        # GDAL before 3.11 does not read float16
        prediction.require_map("probabilities").astype(np.float32),  # (k, H, W)
        georeference=prediction.georeference,
        nodata=np.nan,
        names=_names(prediction),
    )


def _names(prediction: "Prediction") -> list[str]:
    return [prediction.labels.names[i] for i in prediction.probability_ids]


LEVEL = 1
"""zlib level; level 6, the default of numpy, takes several times as long for a few per cent."""


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file with fixed timestamps, so that equal arrays give equal hashes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, values in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(values), allow_pickle=False)

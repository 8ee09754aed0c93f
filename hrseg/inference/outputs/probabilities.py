"""Probabilities of chosen classes: float16 arrays, or the bands of a TIFF that geographic programs open."""

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from hrseg.errors import MissingExtraError
from hrseg.imaging import write_atomic
from hrseg.inference.outputs.archive import write_npz
from hrseg.inference.outputs.ground import ground_of, tiff_tags
from hrseg.inference.outputs.options import Options
from hrseg.inference.prediction import Prediction

_TILE = 256
_GDAL_METADATA = 42112


def write_probabilities(prediction: Prediction, target: Path, options: Options) -> None:
    """Write `probabilities` (k, H, W), and the `classes` and `train_ids` of its layers, as an .npz."""
    arrays = {
        "probabilities": _probabilities(prediction),
        "classes": np.array(_names(prediction)),
        "train_ids": np.array(prediction.kept, np.int64),
    }
    with write_atomic(target) as temporary:
        write_npz(temporary, arrays)


def write_bands(prediction: Prediction, target: Path, options: Options) -> None:
    """Write a tiled float32 TIFF with one named band a class, in its place on the ground where there is one.

    Raises:
        MissingExtraError: tifffile is not installed.
        DataError: The file cannot be written.
    """
    try:
        import tifffile
    except ImportError as error:
        raise MissingExtraError(
            "Probabilities as TIFF need tifffile, which is not installed. Install it: pip install 'hrseg[tiff]', or "
            "choose --save probabilities."
        ) from error
    items = "".join(  # escaped twice, as GDAL writes and reads it
        f'<Item name="DESCRIPTION" sample="{i}" role="description">{escape(escape(name))}</Item>'
        for i, name in enumerate(_names(prediction))
    )
    ground = ground_of(prediction)
    tags = [] if ground is None else tiff_tags(ground)
    tags.append((_GDAL_METADATA, 2, None, f"<GDALMetadata>{items}</GDALMetadata>", True))
    with write_atomic(target) as temporary:
        tifffile.imwrite(
            temporary,
            _probabilities(prediction).astype(np.float32),  # GDAL before 3.11 knows no float16
            photometric="minisblack",
            planarconfig="separate",
            tile=(_TILE, _TILE),
            compression="adobe_deflate",
            compressionargs={"level": 1},
            metadata=None,
            software=False,
            extratags=tags,
        )


def _probabilities(prediction: Prediction) -> np.ndarray:
    assert prediction.probabilities is not None  # write_all has looked
    return prediction.probabilities


def _names(prediction: Prediction) -> list[str]:
    return [prediction.labels.names[i] for i in prediction.kept]

"""ONNX files for Deepness, the plugin of QGIS that runs networks on map layers (`hrseg export --for deepness`).

Deepness gives square tiles as float32 (N, 3, T, T), 0 to 1, and takes class probabilities. What its window shows is
prepared by entries of the file's metadata, each a JSON value.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrseg.errors import ConfigError
from hrseg.export.write import Exported, export_model
from hrseg.inference.model_card import Form
from hrseg.labels import LabelSet

TILE = 512
"""Default side of a tile."""
OVERLAP = 20
"""Per cent of a tile that its neighbor shares; Deepness keeps the middle."""


def deepness_metadata(labels: LabelSet, tile: int, resolution: float | None = None) -> dict[str, str]:
    """Return the metadata that Deepness reads of a segmentation model.

    Args:
        labels: The classes.
        tile: Side of a tile in pixels.
        resolution: Of the images in centimeters per pixel; without it the user of the plugin chooses.

    Source: `ModelBase` of Deepness 0.6.5, which reads tile_size; its documentation names tiles_size.

    Example:
        >>> from hrseg.labels import load_labels
        >>> entries = deepness_metadata(load_labels("camvid"), 512, 10)
        >>> entries["model_type"], entries["resolution"], entries["class_names"][:27]
        ('"Segmentor"', '10', '{"0": "sky", "1": "building')
    """
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(i): name for i, name in enumerate(labels.names)},
        "tile_size": tile,
        "tiles_size": tile,
        "tiles_overlap": OVERLAP,
        # Below the threshold Deepness writes class 0, which is a class like any other here.
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    if resolution is not None:
        values["resolution"] = resolution
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def export_for_deepness(
    model: str | Path | None, out: str | Path, *, tile: int = TILE, resolution: float | None = None, **options: Any
) -> Exported:
    """Write an ONNX file that Deepness opens.

    Args:
        model: As for `export_model`.
        out: The .onnx file.
        tile: Side of a tile, a multiple of 32 so that all branches have whole sizes.
        resolution: Centimeters per pixel that the model was trained at, or None.
        options: Others of `export_model`: precision, images and the like.

    Raises:
        ConfigError: A tile or resolution that cannot be.
        ExportError: As for `export_model`.
    """
    if tile % 32:
        raise ConfigError(f"--tile {tile} is no multiple of 32, the network's coarsest stride. Such as: --tile {TILE}")
    if resolution is not None and not 0 < resolution < float("inf"):
        raise ConfigError(f"--resolution {resolution:g} is no centimeters per pixel. Such as: --resolution 10")

    def entries(labels: LabelSet) -> Mapping[str, str]:
        return deepness_metadata(labels, tile, resolution)

    form = Form("plain", (tile, tile))
    return export_model(model, "onnx", out, outputs=("probabilities",), form=form, metadata=entries, **options)

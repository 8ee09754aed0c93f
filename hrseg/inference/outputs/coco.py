"""Masks as COCO annotations: one a class, its pixels as run lengths, which lose nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.data.convert.rle import to_coco
from hrseg.imaging import write_atomic
from hrseg.inference.outputs.options import Options
from hrseg.inference.prediction import Prediction


def write_coco(prediction: Prediction, target: Path, options: Options) -> None:
    """Write one image, its classes' pixels, and every category with the dataset's id.

    The score of an annotation is the mean confidence of its pixels.
    """
    with write_atomic(target) as temporary:
        temporary.write_text(json.dumps(coco(prediction), ensure_ascii=False), encoding="utf-8")


def coco(prediction: Prediction) -> dict[str, Any]:
    """Return the content of the file."""
    height, width = prediction.size
    labels = prediction.labels
    present = np.flatnonzero(
        np.bincount(prediction.mask.ravel(), minlength=256)[: labels.num_classes]
    )
    image = {
        "id": 1,
        "file_name": Path(prediction.origin).name if prediction.origin else prediction.name,
        "height": height,
        "width": width,
    }
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": labels.classes[train_id].id,
            **_object(prediction, train_id),
        }
        for number, train_id in enumerate(present.tolist(), start=1)
    ]
    categories = [{"id": label.id, "name": label.name} for label in labels.classes]
    return {"images": [image], "annotations": annotations, "categories": categories}


def _object(prediction: Prediction, train_id: int) -> dict[str, Any]:
    pixels, sure = prediction.mask == train_id, prediction.kept_map("confidence")
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "segmentation": {"size": list(pixels.shape), "counts": to_coco(pixels)},
        "area": int(pixels.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "iscrowd": 0,
        "score": round(float(sure[pixels].mean(dtype=np.float64)), 6),
    }

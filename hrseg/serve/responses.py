"""Schemas of the JSON answers, and their construction from predictions and branch maps."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, Field

from hrseg.inference.predictor import Prediction
from hrseg.labels import LabelSet
from hrseg.viz import mean_map, pca_rgb, top_channels

STRONGEST = 3
"""Channels shown of each branch."""


class Problem(BaseModel):
    """Error of a request."""

    detail: str = Field(description="What is wrong and what would be right, in one sentence.")


class ClassEntry(BaseModel):
    """One class of the model."""

    train_id: int = Field(description="Number that the network learned.")
    id: int = Field(description="Number in mask files.")
    name: str
    color: tuple[int, int, int] = Field(description="Red, green, blue.")


class ClassShare(ClassEntry):
    """One class of an image."""

    share: float = Field(description="Part of the pixels with data, 0 to 1.")


class Labels(BaseModel):
    """Classes of the model, and limits of the server."""

    model: str
    name: str = Field(description="The table of classes.")
    classes: list[ClassEntry]
    branches: bool = Field(description="Whether POST /features shows anything.")
    max_bytes: int
    max_pixels: int


class Maps(BaseModel):
    """PNG files in base64, all of the image's size."""

    mask: str = Field(description="Palette of colors, values are ids: the same file as output=mask.")
    train_ids: str = Field(description="Gray of 8 bits, values are train ids, 255 is no data.")
    confidence: str = Field(description="Gray of 8 bits, 255 is certain, 0 is no data.")


class Answer(BaseModel):
    """Prediction for an image."""

    model: str
    height: int
    width: int
    classes: list[ClassShare] = Field(description="Those that occur, largest first.")
    confidence: float | None = Field(
        default=None, description="Mean probability of the chosen classes; none without any data."
    )
    notes: list[str] | None = Field(default=None, description="Remarks on the file, such as unused bits.")
    seconds: float = Field(description="From the image's arrival to this answer.")
    maps: Maps | None = None


class Channel(BaseModel):
    """One channel of a branch."""

    channel: int
    image: str = Field(description="PNG in base64.")


class Branch(BaseModel):
    """One branch of the network. Pictures are PNG in base64, of the map's size."""

    index: int
    stride: float
    channels: int
    height: int
    width: int
    mean: str = Field(description="How strong: dark to bright.")
    pca: str = Field(description="How alike: like features have like colors.")
    strongest: list[Channel] = Field(description="The channels that vary most.")


class Features(BaseModel):
    """Branches of the network, finest first."""

    model: str
    branches: list[Branch]


class Health(BaseModel):
    """State of the server."""

    status: str
    model: str
    queue: int = Field(description="Images that wait.")


def png(pixels: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """Return a PNG file.

    Args:
        pixels: Colors, gray, or ids of a palette.
        palette: Colors by id.

    Shape:
        pixels (H, W) or (H, W, 3), palette (256, 3)
    """
    image = Image.fromarray(pixels)
    if palette is not None and pixels.dtype == np.uint8:
        image.putpalette(np.ascontiguousarray(palette, np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=4)
    return file.getvalue()


def mask_png(prediction: Prediction) -> bytes:
    """Return the mask as `hrseg predict` writes it."""
    return png(prediction.ids(), prediction.labels.id_palette())


def class_entries(labels: LabelSet) -> list[ClassEntry]:
    """Return the classes in trainId order."""
    return [ClassEntry(train_id=i, id=row.id, name=row.name, color=row.color) for i, row in enumerate(labels.classes)]


def answer(prediction: Prediction, model: str, seconds: float, maps: bool) -> Answer:
    """Convert a prediction to JSON.

    Args:
        prediction: Of one image.
        model: Display name.
        seconds: Since the request arrived.
        maps: Whether to include mask, trainIds and confidence as PNG.
    """
    entries = {entry.name: entry for entry in class_entries(prediction.labels)}
    confidence = prediction.mean_confidence
    height, width = prediction.mask.shape
    return Answer(
        model=model,
        height=height,
        width=width,
        classes=[
            ClassShare(**entries[name].model_dump(), share=round(share, 6))
            for name, share in prediction.shares().items()
        ],
        confidence=None if math.isnan(confidence) else round(confidence, 6),
        notes=list(prediction.notes) or None,
        seconds=round(seconds, 4),
        maps=_maps(prediction) if maps else None,
    )


def features(branches: Sequence[tuple[float, torch.Tensor]], model: str) -> Features:
    """Convert the branches' strides and maps to PNG. Shape: maps (1, C, h, w)."""
    return Features(
        model=model,
        branches=[
            Branch(
                index=index,
                stride=round(stride, 2),
                channels=maps.shape[1],
                height=maps.shape[2],
                width=maps.shape[3],
                mean=_base64(png(mean_map(maps))),
                pca=_base64(png(pca_rgb(maps))),
                strongest=[
                    Channel(channel=i, image=_base64(png(picture)))
                    for i, picture in top_channels(maps, STRONGEST).items()
                ],
            )
            for index, (stride, maps) in enumerate(branches)
        ],
    )


def _maps(prediction: Prediction) -> Maps:
    confidence = np.nan_to_num(prediction.require_map("confidence") * 255).round().clip(0, 255)
    return Maps(
        mask=_base64(mask_png(prediction)),
        train_ids=_base64(png(prediction.mask)),
        confidence=_base64(png(confidence.astype(np.uint8))),
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

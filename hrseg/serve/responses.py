"""What is sent back: pictures as PNG, numbers as JSON, and the schemas that OpenAPI shows."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from hrseg.inference.predictor import Prediction
from hrseg.labels import LabelSet
from hrseg.serve.batching import BranchView


class Problem(BaseModel):
    """Why a request was not answered."""

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
    """What the model knows, and what the server takes."""

    model: str
    name: str = Field(description="The table of classes.")
    classes: list[ClassEntry]
    branches: bool = Field(description="Whether POST /features shows anything.")
    max_bytes: int
    max_pixels: int


class Maps(BaseModel):
    """PNG files in base64, all of the image's size."""

    mask: str = Field(
        description="Palette of colors, values are ids: the same file as output=mask."
    )
    train_ids: str = Field(description="Gray of 8 bits, values are train ids, 255 is no data.")
    confidence: str = Field(description="Gray of 8 bits, 255 is certain, 0 is no data.")


class Answer(BaseModel):
    """What the model says about an image."""

    model: str
    height: int
    width: int
    classes: list[ClassShare] = Field(description="Those that occur, largest first.")
    confidence: float | None = Field(
        default=None, description="Mean probability of the chosen classes; none without any data."
    )
    notes: list[str] | None = Field(
        default=None, description="What the file had to be told about, such as unused bits."
    )
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
    """What the branches see, finest first."""

    model: str
    branches: list[Branch]


class Health(BaseModel):
    """Whether the server works."""

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
    return [
        ClassEntry(train_id=i, id=row.id, name=row.name, color=row.color)
        for i, row in enumerate(labels.classes)
    ]


def answer(prediction: Prediction, model: str, seconds: float, maps: bool) -> Answer:
    """Put a prediction into numbers.

    Args:
        prediction: Of one image.
        model: Its name.
        seconds: Taken so far.
        maps: Whether the maps come with it.
    """
    entries = class_entries(prediction.labels)
    train_ids = {name: i for i, name in enumerate(prediction.labels.names)}
    classes = [
        ClassShare(**entries[train_ids[name]].model_dump(), share=round(share, 6))
        for name, share in prediction.shares().items()
    ]
    sure = prediction.mean_confidence
    return Answer(
        model=model,
        height=prediction.mask.shape[0],
        width=prediction.mask.shape[1],
        classes=classes,
        confidence=None if math.isnan(sure) else round(sure, 6),
        notes=list(prediction.notes) or None,
        seconds=round(seconds, 4),
        maps=_maps(prediction) if maps else None,
    )


def features(views: Sequence[BranchView], model: str) -> Features:
    """Put the branches of an image into PNG files."""
    branches = [
        Branch(
            index=view.index,
            stride=view.stride,
            channels=view.channels,
            height=view.mean.shape[0],
            width=view.mean.shape[1],
            mean=_text(png(view.mean)),
            pca=_text(png(view.pca)),
            strongest=[
                Channel(channel=i, image=_text(png(one))) for i, one in view.strongest.items()
            ],
        )
        for view in views
    ]
    return Features(model=model, branches=branches)


def _maps(prediction: Prediction) -> Maps:
    sure = np.nan_to_num(prediction.kept_map("confidence") * 255).round().clip(0, 255)
    return Maps(
        mask=_text(mask_png(prediction)),
        train_ids=_text(png(prediction.mask)),
        confidence=_text(png(sure.astype(np.uint8))),
    )


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

"""Auto-annotation function for CVAT: `cvat-cli task auto-annotate TASK --function-module hrseg.integrations.cvat`.

CVAT calls `create` with the parameters of the command line (`-p model=str:TAG`), matches the classes with the labels of
the task by name, and asks for the shapes of each image. As in files of `hrseg data convert --to cvat`, an image gets
one mask for each class that occurs, and the background is not written: it is what remains.

Source:
    The interface of `cvat_sdk.auto_annotation`, version 2.80.
"""

import json
import logging
from collections.abc import Iterator
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image

from hrseg.convert.mask_to_polygons import Style, mask_polygons
from hrseg.errors import ConfigError, MissingExtraError, install_command
from hrseg.inference.predictor import Predictor
from hrseg.labels import IGNORE_INDEX, LabelSet

log = logging.getLogger(__name__)


class Context(Protocol):
    """Request of CVAT for one image, `cvat_sdk.auto_annotation.DetectionFunctionContext`."""

    @property
    def frame_name(self) -> str:
        """File name of the image in the task."""

    @property
    def conf_threshold(self) -> float | None:
        """Probability below which nothing is annotated (`--conf-threshold`)."""

    @property
    def conv_mask_to_poly(self) -> bool:
        """Whether polygons are asked for (`--conv-mask-to-poly`)."""


class CvatFunction:
    """A predictor as CVAT's detection function.

    Args:
        predictor: Its masks become shapes; a threshold needs `keep=("confidence",)`.
        parts: Whether each connected part of a class is a mask of its own.
        smallest: Connected parts with fewer pixels are left without a class.
    """

    def __init__(self, predictor: Predictor, parts: bool = False, smallest: int = 1) -> None:
        self.predictor, self.parts, self.smallest = predictor, parts, smallest
        self.sdk = _sdk()
        self.style = Style(predictor.labels, "masks")
        self.spec = self.sdk.DetectionFunctionSpec(
            labels=[
                self.sdk.label_spec(row["name"], number, type="mask", color=row["color"])
                for number, row in _rows(predictor.labels).items()
            ]
        )

    def detect(self, context: Context, image: Image.Image) -> list[Any]:
        """Return the shapes of one image, `cvat_sdk.models.LabeledShapeRequest`.

        Raises:
            DataError: The image cannot be segmented.
        """
        prediction = self.predictor(image)
        mask = prediction.mask
        if context.conf_threshold:
            unsure = ~(prediction.require_map("confidence") >= context.conf_threshold)  # NaN too
            mask = np.where(unsure, np.uint8(IGNORE_INDEX), mask)
        masks = list(self._masks(mask))  # (trainId, bool (H, W))
        if context.conv_mask_to_poly:
            return self._polygons(context.frame_name, masks, mask.shape)
        from cvat_sdk.masks import encode_mask

        return [self.sdk.mask(number, encode_mask(pixels)) for number, pixels in masks]

    def _masks(self, mask: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for number in np.unique(mask).tolist():
            if number in (self.style.blank, IGNORE_INDEX):  # 255: below the threshold, or without data
                continue
            pixels = mask == number
            if not self.parts and self.smallest == 1:
                yield number, pixels
                continue
            count, components, stats, _ = cv2.connectedComponentsWithStats(pixels.astype(np.uint8), connectivity=4)
            kept = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= self.smallest]
            if self.parts:
                yield from ((number, components == i) for i in kept)
            elif kept:
                yield number, np.isin(components, kept)

    def _polygons(self, name: str, masks: list[tuple[int, np.ndarray]], size: tuple[int, ...]) -> list[Any]:
        """Return polygons to be painted in order; one inside another covers it."""
        numbers = {self.style.name(number): number for number, _ in masks}
        mask: np.ndarray = np.full(size, self.style.blank, np.uint8)
        for number, pixels in masks:
            mask[pixels] = number
        polygons = mask_polygons(mask, self.style)
        written = [(numbers[label], ring) for label, ring in polygons if label in numbers]
        if len(written) < len(polygons):
            log.warning(
                "%s: CVAT's polygons have no holes, and %d holes without a class are covered by what is around them. "
                "Masks have them: leave --conv-mask-to-poly out.",
                *(name, len(polygons) - len(written)),
            )
        return [
            self.sdk.polygon(number, ring.ravel().tolist(), z_order=depth)
            for depth, (number, ring) in enumerate(written)
        ]


def create(
    model: str | None = None,
    parts: bool = False,
    smallest: int = 1,
    device: str = "auto",
    protocol: str = "whole",
) -> CvatFunction:
    """Open a model for CVAT; the arguments are those of `cvat-cli -p NAME=TYPE:VALUE`.

    Args:
        model: A run, file or tag, as `hrseg predict --model`; None takes the model that ships.
        parts: Whether each connected part of a class is a mask of its own (`-p parts=bool:true`), to be given another
            class by itself. Without it a class has one mask in an image, as CVAT's own import of masks makes it.
        smallest: Connected parts with fewer pixels are left without a class (`-p smallest=int:64`).
        device: As `hrseg predict --device`.
        protocol: As `hrseg predict --protocol`.

    Raises:
        ConfigError: An argument that cannot work.
        MissingExtraError: CVAT's SDK is not installed.
        WeightsError: The model cannot be opened.
    """
    _sdk()  # before a model is downloaded
    if smallest < 1:
        raise ConfigError(f"smallest is {smallest}. Give the fewest pixels of a part, such as -p smallest=int:64.")
    predictor = Predictor(model, device=device, protocol=protocol, keep=("confidence",))
    if not predictor.plain:
        raise ConfigError(
            f"{predictor.name} sees {predictor.in_channels} bands as stored, and CVAT hands over RGB pictures. Use "
            "hrseg predict, and bring its masks to CVAT: hrseg data convert hrseg_out --to cvat"
        )
    return CvatFunction(predictor, parts, smallest)


def raw_labels(model: str | None = None) -> str:
    """Return the labels of a model as the JSON that CVAT takes for a task (`cvat-cli task create --labels`).

    Args:
        model: A run, file or tag, as `hrseg predict --model`.

    Raises:
        WeightsError: The model cannot be opened.
    """
    labels = Predictor(model, device="cpu", keep=()).labels
    rows = [row | {"type": "any"} for row in _rows(labels).values()]  # masks and polygons
    return json.dumps(rows, ensure_ascii=False)


def _rows(labels: LabelSet) -> dict[int, dict[str, str]]:
    """Return trainId → name and color of each class that is written."""
    blank = Style(labels, "masks").blank
    return {
        number: {"name": row.name, "color": "#{:02x}{:02x}{:02x}".format(*row.color)}
        for number, row in enumerate(labels.classes)
        if number != blank
    }


def _sdk() -> Any:
    try:
        import cvat_sdk.auto_annotation
    except ImportError as error:
        raise MissingExtraError(
            f"CVAT's functions need {error.name}, which is not installed. Run: {install_command('cvat')}"
        ) from error
    return cvat_sdk.auto_annotation

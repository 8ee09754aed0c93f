"""What the worker thread does with the network: classes of images, and maps of the branches.

It alone calls the network. Images of one size go through it together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from hrseg.errors import ConfigError
from hrseg.imaging import LoadedImage, to_tensor
from hrseg.inference.predictor import Prediction, Predictor
from hrseg.models.hrnet import stride_of
from hrseg.viz import mean_map, pca_rgb, top_channels

BATCH_PIXELS = 2**21
"""Images go together up to this many pixels; larger batches gain nothing and need memory."""
LOOK_PIXELS = 2**20
"""Images are shrunk to this before their branches are looked at."""
STRONGEST = 3


@dataclass(frozen=True)
class BranchView:
    """One branch of one image, as pictures.

    Attributes:
        index: 0 is the finest.
        stride: Pixels of the image for one of the map, in each direction.
        channels: Of the map.
        mean: How strong, dark to bright, uint8 (h, w, 3).
        pca: How alike: like features, like colours.
        strongest: Channel → picture, those that vary most.
    """

    index: int
    stride: float
    channels: int
    mean: np.ndarray
    pca: np.ndarray
    strongest: dict[int, np.ndarray]


class Work:
    """The tasks of the worker thread, by name.

    Args:
        predictor: The network with its labels.

    Raises:
        ConfigError: It does not see RGB images.
    """

    def __init__(self, predictor: Predictor) -> None:
        if predictor.bands is not None or predictor.in_channels != 3:
            raise ConfigError(
                f"This model sees {predictor.in_channels} bands as stored, and the server takes RGB pictures. Use: "
                "hrseg predict IMAGE --model MODEL"
            )
        self.predictor = predictor
        self.kinds: dict[str, Callable[[list[LoadedImage]], Sequence[Any]]]
        self.kinds = {"segment": self.segment, "branches": self.branches}

    @property
    def shows_branches(self) -> bool:
        """Whether the network lets its branches be seen; exported files do not."""
        return hasattr(self.predictor.network, "forward_branches")

    def __call__(self, kind: str, images: list[LoadedImage]) -> Sequence[Any]:
        """Do one task for several images."""
        return self.kinds[kind](images)

    def segment(self, images: list[LoadedImage]) -> list[Prediction]:
        """Segment images of one size."""
        return self.predictor.batch(images)

    def branches(self, images: list[LoadedImage]) -> list[list[BranchView]]:
        """Show the last maps of every branch."""
        return [self._branches(image.pixels) for image in images]

    def _branches(self, image: np.ndarray) -> list[BranchView]:
        image = shrunk(image, LOOK_PIXELS)
        tensor = to_tensor(image, self.predictor.mean, self.predictor.std)[None]
        network: Any = self.predictor.network
        device = next(network.parameters()).device
        with torch.no_grad():
            maps = network.eval().forward_branches(tensor.to(device))
        scale = float(getattr(network, "spec", {}).get("input_scale", 1.0))
        strides = [stride_of(image.shape[0], one.shape[-2], scale) for one in maps]
        return [_view(i, *both) for i, both in enumerate(zip(strides, maps, strict=True))]


def most_together(size: tuple[int, ...], max_batch: int) -> int:
    """Return how many images of this (height, width) go through the network together."""
    return max(1, min(max_batch, BATCH_PIXELS // (size[0] * size[1])))


def shrunk(image: np.ndarray, most: int) -> np.ndarray:
    """Make an image smaller where it has more pixels than most. Shape: (H, W, 3) → (h, w, 3).

    Example:
        >>> shrunk(np.zeros((200, 100, 3), np.uint8), 5000).shape
        (100, 50, 3)
    """
    height, width = image.shape[:2]
    if height * width <= most:
        return image
    factor = math.sqrt(most / (height * width))
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _view(index: int, stride: float, maps: torch.Tensor) -> BranchView:
    return BranchView(
        index,
        round(stride, 2),
        int(maps.shape[1]),
        mean_map(maps),
        pca_rgb(maps),
        top_channels(maps, STRONGEST),
    )

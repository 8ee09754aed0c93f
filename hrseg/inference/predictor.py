"""Predictor: an image in, a Prediction out. The shortest way to use a network.

It knows tensors and labels, no config and no command line.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from hrseg.data.labels import LabelSet
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    read_image,
    to_tensor,
    write_image,
    write_mask,
)
from hrseg.inference.opening import open_model
from hrseg.inference.prepare import prepare, resolve_device, resolve_precision
from hrseg.inference.windows import check_window, whole_or_windows
from hrseg.viz import overlay


@dataclass(frozen=True)
class Prediction:
    """What a network says about one image.

    Attributes:
        mask: trainIds, uint8 (H, W).
        confidence: Probability of the chosen class, float32 (H, W).
        labels: The classes.
        image: The image it is about, uint8 RGB (H, W, 3).
        name: Stem of the image's file, or "image".
    """

    mask: np.ndarray
    confidence: np.ndarray
    labels: LabelSet
    image: np.ndarray
    name: str = "image"

    def ids(self) -> np.ndarray:
        """Return the mask in the dataset's own ids. Shape: (H, W)."""
        return self.labels.decode(self.mask)

    def shares(self) -> dict[str, float]:
        """Return class name → share of the pixels, largest first, absent classes left out."""
        counts = np.bincount(self.mask.ravel(), minlength=self.labels.num_classes)
        order = np.argsort(-counts, kind="stable")
        return {self.labels.names[i]: float(counts[i] / self.mask.size) for i in order if counts[i]}

    def overlay(self, alpha: float = 0.55, legend: bool = True) -> np.ndarray:
        """Return the image under its classes, with a legend. Shape: uint8 (H', W', 3)."""
        return overlay(self.image, self.mask, self.labels, alpha=alpha, legend=legend)

    def save(self, folder: str | Path, stem: str | None = None) -> tuple[Path, Path]:
        """Write STEM_mask.png (palette PNG of dataset ids) and STEM_overlay.png, each whole or not at all.

        Returns:
            The two paths.

        Raises:
            DataError: A file cannot be written.
        """
        stem = stem or self.name
        mask, picture = Path(folder) / f"{stem}_mask.png", Path(folder) / f"{stem}_overlay.png"
        write_mask(mask, self.ids(), self.labels.id_palette())
        write_image(picture, self.overlay())
        return mask, picture


class Predictor:
    """Segments images with one network, in the fast form of the machine.

    Args:
        model: A network (with labels), a checkpoint or release file, the tag of a shipped model, or None for
            the default model.
        labels: Classes of the network; a file brings its own.
        mean: Per-band mean that the network was trained with; a file brings its own.
        std: Per-band standard deviation.
        device: "auto", "cpu" or "cuda".
        precision: "auto" (bf16 where the device has it), "fp32" or "bf16".
        window: (height, width) of sliding windows, or None for whole images.
        overlap: Shared fraction of neighbouring windows.

    Raises:
        ConfigError: A choice that cannot work.
        WeightsError: The file cannot be opened.
    """

    def __init__(
        self,
        model: nn.Module | str | Path | None = None,
        labels: LabelSet | None = None,
        *,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        device: str = "auto",
        precision: str = "auto",
        window: tuple[int, int] | None = None,
        overlap: float = 0.5,
    ) -> None:
        if isinstance(model, nn.Module):
            network = model
            if labels is None:
                raise ConfigError(
                    "A bare network does not know its classes. Pass labels=hrseg.LabelSet(…) too."
                )
        else:
            opened = open_model(model)
            network = opened.network
            labels, mean, std = labels or opened.labels, mean or opened.mean, std or opened.std
        known = getattr(network, "num_classes", labels.num_classes)
        if known != labels.num_classes:
            raise ConfigError(
                f"The network tells {known} classes apart, the labels '{labels.name}' name {labels.num_classes}. "
                "Pass the labels it was trained with."
            )
        if window is not None:
            window = (int(window[0]), int(window[1]))
            check_window(window, overlap)
        self.labels = labels
        self.mean, self.std = mean or IMAGENET_MEAN, std or IMAGENET_STD
        self.window, self.overlap = window, overlap
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.network = network
        self.logits_fn = prepare(network, self.device, self.precision)

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Prediction:
        """Segment one image.

        Args:
            image: A path, a PIL image, or a uint8 RGB array.

        Raises:
            DataError: It is not an image, or an array of another form.

        Shape:
            array (H, W, 3) → Prediction.mask (H, W)
        """
        name = Path(image).stem if isinstance(image, str | Path) else "image"
        pixels = _checked(image) if isinstance(image, np.ndarray) else read_image(image)
        logits = self.logits(pixels)[0]  # (K, H, W)
        # max and log-sum-exp give the winner's probability without a second (K, H, W) tensor of softmax
        best, mask = logits.max(dim=0)
        confidence = torch.exp(best - torch.logsumexp(logits, dim=0))
        return Prediction(
            mask=mask.to(torch.uint8).cpu().numpy(),
            confidence=confidence.cpu().numpy(),
            labels=self.labels,
            image=pixels,
            name=name,
        )

    def logits(self, image: np.ndarray) -> torch.Tensor:
        """Return logits at image size. Shape: uint8 (H, W, 3) → float32 (1, K, H, W)."""
        tensor = to_tensor(image, self.mean, self.std)[None]
        return whole_or_windows(self.logits_fn, tensor, self.window, self.overlap)


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size:
        return image
    raise DataError(
        f"An array of shape {image.shape} and type {image.dtype} is not an image. Pass uint8 RGB of shape (H, W, 3), a "
        "path or a PIL image."
    )

"""Callbacks of validation and test: predictions as files, records and statistics of all images, the worst images."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
import torch

from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD, denormalize, write_mask
from hrseg.labels import IGNORE_INDEX, LabelSet
from hrseg.metrics.confusion import confusion_counts
from hrseg.metrics.records import ImageRecords, merge_ranks
from hrseg.metrics.scores import image_scores
from hrseg.metrics.statistics import (
    EvaluationSettings,
    Statistics,
    collect,
    measure,
    pixels_per_image,
)

SIDE = 640
"""Longest side of a stored image, in pixels."""
WORST = 24
"""Images that are stored to be shown."""


@dataclass(frozen=True)
class WorstImage:
    """One of the images with the lowest scores, reduced.

    Attributes:
        name: Of the image.
        score: Its mean IoU over the classes of its mask.
        matrix: Its confusion matrix, (K, K).
        image: uint8 RGB (h, w, 3).
        mask: trainIds, uint8 (h, w).
        pred: Prediction, uint8 (h, w).
    """

    name: str
    score: float
    matrix: np.ndarray
    image: np.ndarray
    mask: np.ndarray
    pred: np.ndarray


class WorstImages:
    """The images with the lowest scores so far, `count` of them."""

    def __init__(self, count: int = WORST) -> None:
        self.count = count
        self._heap: list[tuple[float, str, WorstImage]] = []  # highest score first

    def admits(self, matrix: np.ndarray) -> bool:
        """Return whether an image of this confusion matrix is among the worst so far."""
        full = len(self._heap) >= self.count
        return self.count > 0 and (not full or -_score(matrix) > self._heap[0][0])

    def add(self, name: str, matrix: np.ndarray, image: np.ndarray, mask: np.ndarray, pred: np.ndarray) -> None:
        """Store one image, reduced; beyond `count` the one with the highest score is dropped.

        Shape:
            image uint8 (H, W, 3), mask and pred (H, W)
        """
        score = _score(matrix)
        stored = WorstImage(name, score, matrix, *_reduced(image, mask, pred))
        heapq.heappush(self._heap, (-score, name, stored))
        if len(self._heap) > self.count:
            heapq.heappop(self._heap)

    def sorted(self) -> list[WorstImage]:
        """Return them, lowest score first."""
        return worst_of([[row[2] for row in self._heap]], self.count)


def worst_of(ranks: list[list[WorstImage]], count: int) -> list[WorstImage]:
    """Return the worst among those of several devices."""
    images = [image for rank in ranks for image in rank]
    return sorted(images, key=lambda image: (image.score, image.name))[:count]


def _reduced(image: np.ndarray, mask: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    height, width = mask.shape
    factor = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small: np.ndarray = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    masks = (cv2.resize(ids.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for ids in (mask, pred))
    return (small, *masks)  # type: ignore[return-value]


def _score(matrix: np.ndarray) -> float:
    return float(image_scores(matrix[None])[0])


class WritePredictions(pl.Callback):
    """Write each prediction of a test as a PNG in the dataset's ids, as evaluation servers take it.

    Args:
        folder: Of the files, each named as its image and in the same subfolders.
        labels: The classes, for ids and colors.
    """

    def __init__(self, folder: Path, labels: LabelSet) -> None:
        self.folder = folder
        self.labels = labels

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one image's prediction."""
        ids = self.labels.decode(outputs[0].cpu().numpy().astype(np.uint8))
        write_mask(self.folder / f"{batch['name'][0]}.png", ids, self.labels.id_palette())

    on_validation_batch_end = on_test_batch_end


class RecordImages(pl.Callback):
    """Collect the confusion matrix of each image of an evaluation, from all devices."""

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.rows: list[tuple[str, np.ndarray]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one batch, image by image."""
        for name, pred, mask in zip(batch["name"], outputs, batch["mask"], strict=True):
            valid = mask != IGNORE_INDEX
            matrix = confusion_counts(mask[valid], pred[valid], self.labels.num_classes)
            self.rows.append((name, matrix.cpu().numpy()))

    on_test_batch_end = on_validation_batch_end

    def records(self, model: str) -> ImageRecords:
        """Return the records of all devices; every device must call it."""
        rows = merge_ranks(_from_all_devices(self.rows))
        count = self.labels.num_classes
        matrices = np.array([matrix for _, matrix in rows]).reshape(-1, count, count)  # (N, K, K)
        names = tuple(name for name, _ in rows)
        return ImageRecords(names, tuple(self.labels.names), matrices, model)


class CollectStatistics(pl.Callback):
    """Collect the statistics of each image of an evaluation, and the worst images.

    Args:
        settings: Widths, distances and bins; None takes the defaults.
        worst: How many of the worst images are stored.
    """

    def __init__(self, settings: EvaluationSettings | None = None, worst: int = WORST) -> None:
        self.settings = settings or EvaluationSettings()
        self.rows: dict[str, dict[str, np.ndarray]] = {}
        self.worst: list[WorstImage] = []
        self.is_first = True
        """Whether this is the first of several devices."""
        self._worst = WorstImages(worst)
        self._task: Any = None
        self._pixels = 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Register for the task's logits."""
        self._task = pl_module
        self._task.observe = self._observe
        loaders: Any = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        self._pixels = pixels_per_image(len(loaders.dataset), self._task.labels.num_classes)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Merge the images of all devices."""
        self._task.observe = None
        self.is_first = trainer.is_global_zero
        ranks = _from_all_devices((self.rows, self._worst.sorted()))
        self.rows = {name: row for rows, _ in ranks for name, row in rows.items()}
        self.worst = worst_of([images for _, images in ranks], self._worst.count)

    on_test_start = on_validation_start
    on_test_end = on_validation_end

    def statistics(self, model: str, metadata: Mapping[str, str] | None = None) -> Statistics:
        """Return the statistics of all images.

        Args:
            model: Name of the evaluated model.
            metadata: Further entries of the report, such as the split.

        Raises:
            DataError: No image has a mask.
        """
        labels, protocol = self._task.labels, self._task.protocol.describe()
        return collect(self.rows, labels.names, labels.palette, self.settings, model, protocol, metadata)

    def _observe(self, batch: dict[str, Any], logits: torch.Tensor) -> None:
        card = self._task.card
        mean, std = card.get("mean", IMAGENET_MEAN), card.get("std", IMAGENET_STD)
        for image, mask, name, values in zip(batch["image"], batch["mask"], batch["name"], logits, strict=True):
            if not (mask != IGNORE_INDEX).any():  # no mask, or the padding of a shard
                continue
            row = self.rows[name] = measure(values, mask, name, self.settings, self._pixels)
            if self._worst.admits(row["matrices"]):
                multiband = card.get("bands") is not None
                photo = denormalize(image, tuple(mean), tuple(std), stretch=multiband)
                pred = values.argmax(dim=0).cpu().numpy()  # (H, W)
                self._worst.add(name, row["matrices"], photo, mask.cpu().numpy(), pred)


def _from_all_devices(own: Any) -> list[Any]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    ranks: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(ranks, own)
    return ranks

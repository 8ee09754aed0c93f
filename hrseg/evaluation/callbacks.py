"""What an evaluation leaves behind: the predictions as files, the ledger of all images, and the evidence of them.

Callbacks of validation and test; nothing here knows of training.
"""

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
from hrseg.metrics.records import Ledger, join
from hrseg.metrics.scores import image_scores
from hrseg.metrics.statistics import EvaluationSettings, Evidence, gathered, measure, quota

SIDE = 640
"""Longest side of what is kept, in pixels."""
WORST = 24


@dataclass(frozen=True)
class Exhibit:
    """One image as it is shown.

    Attributes:
        name: Of the image.
        score: Its mean IoU over the classes of its mask.
        matrix: Its confusion matrix, (K, K).
        image: uint8 RGB (h, w, 3), reduced.
        truth: The mask, uint8 (h, w), reduced.
        found: The prediction, uint8 (h, w), reduced.
    """

    name: str
    score: float
    matrix: np.ndarray
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray


class Worst:
    """The images with the lowest scores so far.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int = WORST) -> None:
        self.most = most
        self._heap: list[tuple[float, str, Exhibit]] = []

    def wants(self, matrix: np.ndarray) -> bool:
        """Tell whether an image of this confusion matrix is among the worst so far."""
        full = len(self._heap) >= self.most
        return self.most > 0 and (not full or -_score(matrix) > self._heap[0][0])

    def add(
        self, name: str, matrix: np.ndarray, image: np.ndarray, truth: np.ndarray, found: np.ndarray
    ) -> None:
        """Keep one image, reduced, and let the best of the others go where there are too many.

        Shape:
            image uint8 (H, W, 3), truth and found (H, W)
        """
        score = _score(matrix)
        exhibit = Exhibit(name, score, matrix, *reduced(image, truth, found))
        heapq.heappush(self._heap, (-score, name, exhibit))
        if len(self._heap) > self.most:
            heapq.heappop(self._heap)

    def exhibits(self) -> list[Exhibit]:
        """Return them, lowest score first."""
        return sorted((row[2] for row in self._heap), key=lambda one: (one.score, one.name))


def worst_of(shards: list[list[Exhibit]], most: int) -> list[Exhibit]:
    """Choose among the worst of several devices."""
    every = [exhibit for shard in shards for exhibit in shard]
    return sorted(every, key=lambda one: (one.score, one.name))[:most]


def reduced(
    image: np.ndarray, truth: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bring image and masks to the size in which they are shown."""
    height, width = truth.shape
    factor = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = np.ascontiguousarray(image)
    masks = (
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        for mask in (truth, found)
    )
    small: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return (small, *masks)  # type: ignore[return-value]


def _score(matrix: np.ndarray) -> float:
    return float(image_scores(matrix[None])[0])


class WritePredictions(pl.Callback):
    """Write each prediction of a test as a PNG in the dataset's ids, as evaluation servers want it.

    Args:
        folder: Where the files go, each under its image's name, in the same subfolders.
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


class KeepLedger(pl.Callback):
    """Keep the confusion matrix of each image of an evaluation, from all devices.

    Args:
        labels: The classes.
    """

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
        count = self.labels.num_classes
        for name, pred, mask in zip(batch["name"], outputs, batch["mask"], strict=True):
            valid = mask != IGNORE_INDEX
            cells = torch.bincount(mask[valid] * count + pred[valid], minlength=count**2)
            self.rows.append((name, cells.reshape(count, count).cpu().numpy()))

    on_test_batch_end = on_validation_batch_end

    def ledger(self, model: str) -> Ledger:
        """Put the images of all devices together; every device must call it."""
        rows = join(_from_all(self.rows))
        count = self.labels.num_classes
        matrices = np.array([matrix for _, matrix in rows]).reshape(-1, count, count)
        names = tuple(name for name, _ in rows)
        return Ledger(names, tuple(self.labels.names), matrices, model)


class KeepEvidence(pl.Callback):
    """Keep what each image of an evaluation counts besides its confusion matrix, and the worst of them.

    Args:
        rulers: What is measured with; None takes the defaults.
        worst: How many of the worst images are kept to be shown.
    """

    def __init__(self, rulers: EvaluationSettings | None = None, worst: int = WORST) -> None:
        self.rulers = rulers or EvaluationSettings()
        self.rows: dict[str, dict[str, np.ndarray]] = {}
        self.exhibits: list[Exhibit] = []
        self.is_first = True
        """Whether this is the first of several devices."""
        self._worst = Worst(worst)
        self._task: Any = None
        self._quota = 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask the task for its logits."""
        self._task = pl_module
        self._task.observe = self._observe
        loaders: Any = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        self._quota = quota(len(loaders.dataset), self._task.labels.num_classes)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the images of all devices together."""
        self._task.observe = None
        self.is_first = trainer.is_global_zero
        shards = _from_all((self.rows, self._worst.exhibits()))
        self.rows = {name: row for rows, _ in shards for name, row in rows.items()}
        self.exhibits = worst_of([shown for _, shown in shards], self._worst.most)

    on_test_start = on_validation_start
    on_test_end = on_validation_end

    def evidence(self, model: str, facts: Mapping[str, str] | None = None) -> Evidence:
        """Return the evidence of all images.

        Args:
            model: What was evaluated.
            facts: What else a reader should know, such as the split.

        Raises:
            DataError: No image has a mask.
        """
        task = self._task
        labels, looked = task.labels, task.protocol.describe()
        return gathered(self.rows, labels.names, labels.palette, self.rulers, model, looked, facts)

    def _observe(self, batch: dict[str, Any], logits: torch.Tensor) -> None:
        card = self._task.card
        mean, std = card.get("mean", IMAGENET_MEAN), card.get("std", IMAGENET_STD)
        for image, mask, name, values in zip(
            batch["image"], batch["mask"], batch["name"], logits, strict=True
        ):
            if not (mask != IGNORE_INDEX).any():  # no mask, or the filler of a shard
                continue
            row = self.rows[name] = measure(values, mask, name, self.rulers, self._quota)
            if self._worst.wants(row["matrices"]):
                banded = card.get("bands") is not None
                photo = denormalize(image, tuple(mean), tuple(std), stretch=banded)
                found = values.argmax(dim=0).cpu().numpy()
                self._worst.add(name, row["matrices"], photo, mask.cpu().numpy(), found)


def _from_all(mine: Any) -> list[Any]:
    """Collect an object of every device."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    shards: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shards, mine)
    return shards

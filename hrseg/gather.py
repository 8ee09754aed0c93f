"""What an evaluation leaves behind: the predictions as files, the ledger of all images, and the evidence of them.

Callbacks of validation and test; nothing here knows of training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.evaluation.evidence import Evidence, Rulers, gathered, measure, quota
from hrseg.evaluation.exhibits import WORST, Exhibit, Worst, worst_of
from hrseg.evaluation.ledger import Ledger, join
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD, denormalise, write_mask


class WritePredictions(pl.Callback):
    """Write each prediction of a test as a PNG in the dataset's ids, as evaluation servers want it.

    Args:
        folder: Where the files go, each under its image's name, in the same subfolders.
        labels: The classes, for ids and colours.
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

    def __init__(self, rulers: Rulers | None = None, worst: int = WORST) -> None:
        self.rulers = rulers or Rulers()
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
        labels, looked = task.labels, task.protocol.says()
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
                photo = denormalise(image, tuple(mean), tuple(std), stretch=banded)
                found = values.argmax(dim=0).cpu().numpy()
                self._worst.add(name, row["matrices"], photo, mask.cpu().numpy(), found)


def _from_all(mine: Any) -> list[Any]:
    """Collect an object of every device."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    shards: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shards, mine)
    return shards

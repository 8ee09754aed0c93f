"""What an evaluation leaves behind: the predictions as files, and the ledger of all images.

Callbacks of validation and test; nothing here knows of training.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.evaluation.ledger import Ledger, join
from hrseg.imaging import write_mask


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
        shards = [self.rows]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shards = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(shards, self.rows)
        rows = join(shards)
        count = self.labels.num_classes
        matrices = np.array([matrix for _, matrix in rows]).reshape(-1, count, count)
        names = tuple(name for name, _ in rows)
        return Ledger(names, tuple(self.labels.names), matrices, model)

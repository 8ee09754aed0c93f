"""Atomic writing of a run's checkpoints: best.ckpt, last.ckpt and previous.ckpt.

best.ckpt has the best score (trainer.best_by, by default mIoU on the validation split), last.ckpt the newest
weights, previous.ckpt those before them. All hold tensors and plain types only, so
`torch.load(..., weights_only=True)` opens them.
"""

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from hrseg.errors import DataError, TrainingError
from hrseg.imaging import write_atomic, write_text
from hrseg.metrics.confusion import table

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are written to a temporary file, synced, and renamed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: It cannot be written, for example on a full disk; an older file is untouched.
        """
        try:
            with write_atomic(Path(path)) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, DataError, RuntimeError) as error:
            # For a full disk torch raises a RuntimeError about positions; the OSError is in its chain.
            there = "The one from before is whole." if Path(path).exists() else "Nothing was kept."
            raise TrainingError(
                f"The checkpoint {path} could not be written: {_reason(error)}. {there} Make room, "
                "or choose another disk with run.dir; then go on with --resume last."
            ) from error

    def load_checkpoint(
        self,
        path: Any,
        map_location: Any = lambda storage, location: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint, tensors and plain types only."""
        return super().load_checkpoint(path, map_location, weights_only=True)


def _reason(error: BaseException) -> str:
    """Return the first OSError's message in the chain of errors, or the first line of the last error."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    return str(error).split("\n", 1)[0].rstrip(".") or type(error).__name__


class BestAndLastCheckpoints(Checkpoint):
    """Write best.ckpt after a new best score, and last.ckpt after every epoch.

    per_class.txt has the scores of best.ckpt. An interrupted run writes last.ckpt too, within its
    epoch. The older last.ckpt is renamed to previous.ckpt.

    Args:
        folder: The run's folder.
        every_steps: Write last.ckpt also after each this many optimizer steps.
        best_by: Name of the logged number that is compared.
    """

    def __init__(self, folder: Path, every_steps: int | None = None, best_by: str = "val/miou") -> None:
        self.folder = folder
        self.every_steps = every_steps
        self.best_by = best_by
        self._saved_step: int | None = None
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.scored_step: int | None = None
        self._stopped = False

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints; fixed, so that older checkpoints resume whatever the class is called."""
        return "KeepBestAndLast"

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, for a resumed run."""
        return {
            "best": self.best,
            "epoch": self.best_epoch,
            "scored_step": self.scored_step,
            "best_by": self.best_by,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the best score of the resumed run, unless it was of another kind."""
        if state_dict.get("best_by", "val/miou") == self.best_by:
            self.best, self.best_epoch = state_dict["best"], state_dict["epoch"]
        self.scored_step = state_dict["scored_step"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write best.ckpt if a score of the validation is a new best."""
        if not trainer.sanity_checking:
            self.scored_step = trainer.global_step
            if mode_of(self.best_by) == "max":
                self._compare(trainer, pl_module)

    def _compare(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write best.ckpt if the number is a new best; a set without labels logs none."""
        score = float(trainer.callback_metrics.get(self.best_by, math.nan))
        sign = 1 if mode_of(self.best_by) == "max" else -1
        if not math.isnan(score) and (self.best is None or sign * (score - self.best) > 0):
            self.best, self.best_epoch = score, trainer.current_epoch
            trainer.save_checkpoint(self.folder / BEST)
            if trainer.is_global_zero and pl_module.result is not None:
                text = table(pl_module.result, pl_module.labels.names)
                write_text(self.folder / "per_class.txt", f"{text}\n")

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Write last.ckpt every `every_steps` steps."""
        step = trainer.global_step
        if self.every_steps and step % self.every_steps == 0 and step != self._saved_step:
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write last.ckpt, and best.ckpt if the epoch's loss is a new best."""
        if mode_of(self.best_by) == "min":
            self._compare(trainer, pl_module)
        self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt; the older one becomes previous.ckpt, and last.ckpt exists all the time."""
        last = self.folder / LAST
        if trainer.is_global_zero and last.is_file():
            with write_atomic(self.folder / PREVIOUS) as temporary:
                temporary.unlink()
                _link_or_copy(last, temporary)
        self._saved_step = trainer.global_step
        trainer.save_checkpoint(last)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write last.ckpt when the run is interrupted; a failed run keeps its older one."""
        stopped = isinstance(exception, (KeyboardInterrupt, SIGTERMException))
        if stopped and trainer.state.fn == "fit" and trainer.global_step > 0:
            self._stopped = True
            self._save_last(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restart the validation of a run that was interrupted before or in it.

        Lightning would skip it, or continue in its middle with an empty confusion matrix.
        """
        if self._stopped:
            due = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
            _rewind_validation(checkpoint["loops"]["fit_loop"], due)


def mode_of(name: str) -> Literal["min", "max"]:
    """Return whether the lowest or the highest value of a logged number is the best.

    Example:
        >>> mode_of("val/miou"), mode_of("train/epoch_loss")
        ('max', 'min')
    """
    return "min" if name.endswith("loss") else "max"


def _link_or_copy(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, name)


def _rewind_validation(loops: dict[str, Any], due: bool) -> None:
    epochs, batches = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]
    trained = batches["is_last_batch"] and batches["current"]["processed"] == batches["current"]["ready"]
    if not (due and trained and epochs["processed"] < epochs["ready"]):
        return
    for count in (batches["total"], batches["current"]):
        count["completed"] = count["processed"]
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    loops["epoch_loop.val_loop.batch_progress"].update(total=begun, current=dict(begun))

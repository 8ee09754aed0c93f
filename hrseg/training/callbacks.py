"""Training callbacks: progress as lines or a bar, the step limit, and pictures of fixed validation images."""

import logging
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hrseg.errors import format_duration, printable
from hrseg.imaging import denormalize, write_image
from hrseg.labels import LabelSet
from hrseg.viz import grid, overlay

log = logging.getLogger(__name__)


def _peak_memory() -> int:
    """Return the most bytes that this process held: on its GPU, else in memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource  # which Windows does not have

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def epoch_of(trainer: pl.Trainer) -> int:
    """Return the number of the epoch that runs, or of the last one after a run, counted from 1."""
    return trainer.current_epoch + int(trainer.state.fn == TrainerFn.FITTING)


class ProgressLines(pl.Callback):
    """One log line per epoch, and one a minute within it.

    The remaining time is estimated from the steps of this process, validation included.
    """

    EVERY = 60.0
    """Seconds between two lines within an epoch."""

    def __init__(self) -> None:
        self._printed = 0.0
        self.best: float | None = None
        self.losses: list[torch.Tensor] = []
        self._images = 0
        self._training_seconds = 0.0
        self._started = self._epoch_started = 0.0
        self._first_step = 0
        self._validated = False

    # Timing and averages

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; a run resumed inside an epoch has no `on_train_epoch_start`."""
        self._started, self._first_step = time.monotonic(), trainer.global_step
        self._printed = self._started
        self._begin_epoch()
        folders = [logger.save_dir for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.is_global_zero and folders and folders[0]:
            self.print_out(f"curves: tensorboard --logdir {shlex.quote(str(Path(folders[0]).parent))}")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._begin_epoch()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Store the loss on its device; it is read once an epoch."""
        if outputs and outputs.get("loss") is not None:  # else the batch was skipped
            self.losses.append(outputs["loss"] * trainer.accumulate_grad_batches)
        self._images += len(batch["image"]) * trainer.world_size
        self._training_seconds = time.monotonic() - self._epoch_started
        if trainer.is_global_zero and time.monotonic() - self._printed > self.EVERY:
            self.print_step(trainer, pl_module)

    def print_step(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print step, mean loss of the epoch so far, memory and remaining time."""
        self._printed = time.monotonic()
        loss = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        steps = pl_module.total_steps
        self.print_out(
            f"step {trainer.global_step:,}/{steps:,}  loss {loss:.4f}  {_peak_memory() / 2**30:.1f} GiB  "
            f"{format_duration(self._seconds_left(trainer, steps))} left"
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the epoch's line."""
        self._printed = time.monotonic()
        if not self.losses:
            return
        rate = self._images / max(self._training_seconds, 1e-9)
        loss = float(torch.stack(self.losses).mean())
        pl_module.log("train/epoch_loss", loss, sync_dist=True, batch_size=1)
        pl_module.log("train/images_per_second", rate, sync_dist=True, batch_size=1)
        # on every device: reading a score synchronizes
        line = self._line(trainer, pl_module.total_steps, loss, rate)
        if trainer.is_global_zero:
            self.print_out(line)

    def _begin_epoch(self) -> None:
        self.losses, self._images, self._training_seconds = [], 0, 0.0
        self._epoch_started = time.monotonic()
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the score as new."""
        self._validated = True

    def print_out(self, text: str) -> None:
        """Log a line."""
        log.info(text)

    def _line(self, trainer: pl.Trainer, steps: int, loss: float, rate: float) -> str:
        total = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        epoch = trainer.current_epoch + 1
        parts = [
            f"epoch {epoch:>{len(str(total))}}/{total}" if total else f"epoch {epoch}",
            f"loss {loss:.4f}",
        ]
        score = self._new_score(trainer)
        if score is not None:
            self.best = max(score, self.best or 0.0)
            parts.append(f"mIoU {100 * score:.2f} (best {100 * self.best:.2f})")
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        parts += [f"lr {min(rates):.3g}", f"{rate:.1f} images/s"]
        left = self._seconds_left(trainer, steps)
        elapsed = time.monotonic() - self._started
        parts.append(f"{format_duration(left)} left" if left > 0 else f"done in {format_duration(elapsed)}")
        return "  ".join(parts)

    def _new_score(self, trainer: pl.Trainer) -> float | None:
        score = trainer.callback_metrics.get("val/miou")
        return float(score) if score is not None and self._validated else None

    def _seconds_left(self, trainer: pl.Trainer, steps: int) -> float:
        done = trainer.global_step - self._first_step
        elapsed = time.monotonic() - self._started
        return elapsed / max(done, 1) * max(steps - trainer.global_step, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, so that a resumed run shows it."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score."""
        self.best = state_dict["best"]


class StopAtStep(pl.Callback):
    """End a run after a number of optimizer steps.

    Lightning's own limit resumes a finished epoch as if it were open, and trains on other images then.

    Args:
        steps: Optimizer steps of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop a resumed run that was complete."""
        self._stop_if_done(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Stop after the last step."""
        self._stop_if_done(trainer)

    def _stop_if_done(self, trainer: pl.Trainer) -> None:
        if trainer.global_step >= self.steps:
            trainer.should_stop = True


class ProgressBar(ProgressLines):
    """A Rich bar, with the line of each epoch above it; on standard error unless a console is given."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._loss_shown = 0.0

    @property
    def state_key(self) -> str:
        """Shared with `ProgressLines`: a run may be resumed with or without a terminal."""
        return "ProgressLines"

    def print_out(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(printable(text, lines=True), highlight=False, markup=False, soft_wrap=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a bar of the epoch's batches."""
        super().on_train_epoch_start(trainer, pl_module)
        self._open(trainer, f"epoch {trainer.current_epoch + 1}", trainer.num_training_batches)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance, and refresh the loss twice a second."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._bar is None:
            return
        task = self._bar.task_ids[-1]
        self._bar.update(task, completed=batch_idx + 1)
        if time.monotonic() - self._loss_shown > 0.5:  # reading the loss waits for the device
            self._loss_shown = time.monotonic()
            self._bar.update(task, note=f"loss {float(self.losses[-1]):.4f}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a bar of the validation images."""
        sanity = trainer.sanity_checking
        batches = trainer.num_sanity_val_batches if sanity else trainer.num_val_batches
        self._open(trainer, "validating", sum(batches))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Advance."""
        self._advance()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        super().on_validation_end(trainer, pl_module)
        self._close()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a bar of the test images."""
        self._open(trainer, "testing", sum(trainer.num_test_batches))

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Advance."""
        self._advance()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self._close()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the bar before the error message."""
        self._close()

    def _open(self, trainer: pl.Trainer, text: str, total: float) -> None:
        self._close()
        if not trainer.is_global_zero:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self._bar.add_task(text, total=total, note="")
        self._bar.start()

    def _advance(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[-1])

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class ValidationImages(pl.Callback):
    """Draw image, mask and prediction of a fixed set of validation images every few epochs.

    Args:
        folder: Where epoch_0010.png and its like go.
        labels: The classes, for their colors.
        every: Epochs between two pictures. The last epoch is always drawn.
        count: Images in a picture, spread evenly over the validation split.
        mean: Mean that was subtracted from the images.
        std: Standard deviation they were divided by.
        stretch: Whether the images are bands that are not RGB; see `denormalize`.
    """

    def __init__(
        self,
        folder: Path,
        labels: LabelSet,
        *,
        every: int,
        count: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        stretch: bool = False,
    ) -> None:
        self.stretch = stretch
        self.folder = folder
        self.labels = labels
        self.every = every
        self.count = count
        self.mean, self.std = mean, std
        self._rows: list[tuple[str, list[np.ndarray]]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the image if it is one of the chosen."""
        if self._due(trainer) and batch_idx in self._chosen(int(sum(map(float, trainer.num_val_batches)))):
            image = denormalize(batch["image"][0].cpu(), self.mean, self.std, stretch=self.stretch)
            mask, pred = batch["mask"][0].cpu().numpy(), outputs[0].cpu().numpy()
            drawn = [overlay(image, trainids, self.labels, legend=False) for trainids in (mask, pred)]
            self._rows.append((str(batch["name"][0]), [image, *drawn]))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the picture."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        titles = [title for name, _ in rows for title in (name, "mask", "prediction")]
        picture = grid([image for _, images in rows for image in images], titles, columns=3)
        epoch = epoch_of(trainer)
        write_image(self.folder / f"epoch_{epoch:04d}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/pictures", picture, trainer.global_step, dataformats="HWC")

    def _due(self, trainer: pl.Trainer) -> bool:
        if trainer.sanity_checking or not trainer.is_global_zero or not self.every:
            return False
        epoch = epoch_of(trainer)
        # Validation may come at other epochs than pictures: draw at the first one that is due.
        between = trainer.check_val_every_n_epoch or 1
        return (epoch % self.every) < between or epoch == trainer.max_epochs

    def _chosen(self, total: int) -> set[int]:
        wanted = min(self.count, total)
        return {index * total // wanted for index in range(wanted)}

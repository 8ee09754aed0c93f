"""Detection of non-finite losses and of crops without labels, reported with image names and step."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from hrseg.errors import TrainingError
from hrseg.labels import IGNORE_INDEX

log = logging.getLogger(__name__)

NonFinite = Literal["stop", "skip"]
MAX_SKIPPED_IN_A_ROW = 20
"""A run that skips more consecutive batches than this stops."""
MAX_WARNINGS = 5  # skipped batches that are logged one by one


class NonFiniteGuard:
    """Checks the batches of one run on one device.

    On a GPU and with "stop", the loss is read one step late: reading it at once would synchronize the device with
    the host at every step. `check_pending` reads it before anything is scored or saved.

    Args:
        network: Its buffers are restored when a batch is skipped.
        non_finite: "stop" the run, or "skip" the batch and count it.
    """

    def __init__(self, network: nn.Module, non_finite: NonFinite = "stop") -> None:
        self.non_finite = non_finite
        self.network = network
        self._waiting: _PendingLoss | None = None
        self.skipped = 0
        self._in_a_row = 0
        self._before: list[torch.Tensor] = []
        self._crops = 0
        self._ignored: torch.Tensor | None = None  # on the device; read once an epoch

    def before_step(self, mask: torch.Tensor) -> None:
        """Count crops that hold only ignored pixels, and copy the batch statistics.

        Shape:
            mask (N, H, W)
        """
        empty = (mask == IGNORE_INDEX).flatten(1).all(dim=1).sum()
        self._ignored = empty if self._ignored is None else self._ignored + empty
        self._crops += len(mask)
        if self.non_finite == "skip":
            self._before = [buffer.clone() for buffer in self.network.buffers()]

    def passes(self, loss: torch.Tensor, names: Sequence[str], step: int, lr: float) -> bool:
        """Return whether this loss may be used for a step; on several devices all skip a batch together.

        Args:
            loss: Loss of this device's batch.
            names: Its images.
            step: Optimizer step.
            lr: Learning rate, for the message.

        Raises:
            TrainingError: The loss is not finite and the policy is "stop", or too many batches in a row were skipped.
        """
        if self.non_finite == "stop" and self.is_asynchronous(loss):
            self.check_pending()
            self._waiting = _PendingLoss.of(loss, list(names), step, lr)
            return True
        finite = torch.isfinite(loss.detach()).all()
        if self.non_finite == "skip" and _distributed():
            everywhere = finite.to(torch.int32)
            torch.distributed.all_reduce(everywhere, torch.distributed.ReduceOp.MIN)
            ours, finite = finite, everywhere.bool()
        else:
            ours = finite
        if finite:
            self._in_a_row = 0
            return True
        shown = _listed(names)
        if self.non_finite == "stop" or self._in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(self._lost(loss, shown, step, lr))
        self.skipped += 1
        self._in_a_row += 1
        for buffer, before in zip(self.network.buffers(), self._before, strict=False):
            buffer.copy_(before)
        if not ours and self.skipped <= MAX_WARNINGS:
            last = " Further ones are only counted." if self.skipped == MAX_WARNINGS else ""
            log.warning("Skipped step %d: loss %s on %s.%s", step, loss.item(), shown, last)
        return False

    def is_asynchronous(self, loss: torch.Tensor) -> bool:
        """Return whether reading a loss would synchronize its device."""
        return loss.is_cuda

    def check_pending(self) -> None:
        """Read the pending loss, and raise TrainingError if it is not finite."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        loss = waiting.read()
        if not torch.isfinite(loss):
            shown = _listed(waiting.names)
            raise TrainingError(self._lost(loss, shown, waiting.step, waiting.lr))

    def epoch_notes(self) -> list[str]:
        """Return warnings about the finished epoch, and reset its counters."""
        notes = []
        ignored = 0 if self._ignored is None else int(self._ignored)
        if ignored:
            notes.append(
                f"{ignored} of {self._crops} crops held only ignored pixels and taught nothing. Look at the label "
                "table, or choose a larger data.crop."
            )
        if self.skipped:
            notes.append(f"{self.skipped} batches skipped so far, their loss was no finite number.")
        self._ignored, self._crops = None, 0
        return notes

    def _lost(self, loss: torch.Tensor, shown: str, step: int, lr: float) -> str:
        first = f"The loss is {loss.item()} at step {step}, on {shown}. A finite number was expected."
        if self._in_a_row:
            first = f"{self._in_a_row} batches in a row were skipped. {first}"
        return (
            f"{first} Lower optim.lr (now {lr:g}), add optim.warmup_steps or trainer.clip_norm, or set "
            "trainer.precision=fp32; the last checkpoint is from before."
        )


@dataclass(frozen=True)
class _PendingLoss:
    """A loss on its way to the host, with the facts for its error message."""

    loss: torch.Tensor
    arrived: torch.cuda.Event | None
    names: list[str]
    step: int
    lr: float

    @classmethod
    def of(cls, loss: torch.Tensor, names: list[str], step: int, lr: float) -> "_PendingLoss":
        copied = loss.detach().to("cpu", non_blocking=True)
        arrived = torch.cuda.Event() if loss.is_cuda else None
        if arrived is not None:
            arrived.record()
        return cls(copied, arrived, names, step, lr)

    def read(self) -> torch.Tensor:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.loss


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()

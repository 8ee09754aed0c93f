"""Interrupts of a trainer, and readable messages for errors of torch and Lightning."""

import contextlib
import errno
import logging
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from hrseg.errors import ConfigError, HrsegError, TrainingError, os_error_text
from hrseg.training.checkpoints import LAST

log = logging.getLogger(__name__)

_PEER_GONE = re.compile(r"Connection (closed|reset) by peer|remote process exited")
"""Messages of gloo and NCCL after the exit of a peer process."""


@contextlib.contextmanager
def interruptible(trainer: pl.Trainer, folder: Path | None = None) -> Iterator[None]:
    """Raise KeyboardInterrupt where Lightning ends quietly on Ctrl-C, and log how to resume."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main else None
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as stop:
        if trainer.state.status != TrainerStatus.INTERRUPTED:
            raise
        last = folder / LAST if folder else None
        if last and last.exists() and trainer.is_global_zero:
            log.warning(
                "Stopped at step %d; %s has everything so far. Go on with the same command and "
                "--resume last.",
                trainer.global_step,
                last,
            )
        if isinstance(stop, SIGTERMException):
            raise SystemExit(128 + signal.SIGTERM) from stop
        raise KeyboardInterrupt from stop
    finally:
        if in_main:  # Lightning leaves SIGINT ignored
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def convert_errors() -> Iterator[None]:
    """Raise errors of torch and Lightning that the user can correct as HrsegError; others pass unchanged."""
    try:
        yield
    except HrsegError as error:
        message = str(error)
        marker = f"{type(error).__name__}: "
        if "Original Traceback" not in message or marker not in message:
            raise
        # A loader process sends its traceback as text, with the message at its end.
        raise type(error)(message.rsplit(marker, 1)[1].strip()) from None
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "The device ran out of memory. Make data.batch_size smaller (trainer.accumulate makes up "
            "for it), or data.crop, or set evaluation.window if it happened in validation. "
            f"hrseg fit --dry-run estimates the need. {str(error).splitlines()[0]}"
        ) from error
    except OSError as error:
        if isinstance(error, (ConnectionError, TimeoutError)):
            raise
        full = "The disk is full. " * (error.errno in (errno.ENOSPC, errno.EDQUOT))
        raise TrainingError(
            f"{full}{os_error_text(error)} Checkpoints written so far are whole; --resume last goes on from them."
        ) from error
    except MisconfigurationException as error:
        raise ConfigError(
            f"Lightning cannot run with these trainer options: {' '.join(str(error).split())}"
        ) from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "Batch norm has one value per channel on the coarsest branch, and learns nothing from "
            "that. Raise data.batch_size above 1, or data.crop above 32x32."
        ) from error
    except RuntimeError as error:
        if _PEER_GONE.search(str(error)):
            raise TrainingError(
                "Another process of this run ended, so this one stops too. The reason is in the output "
                "of that process. Go on with --resume last."
            ) from error
        if "DataLoader worker" not in str(error):
            raise
        if "signal: Terminated" in str(error):
            raise TrainingError(
                "A loader process was told to stop (SIGTERM), as batch systems tell all processes when time is up. The "
                "checkpoints written so far are whole. Go on with --resume last."
            ) from error
        raise TrainingError(
            "A loader process died, most often because memory (or /dev/shm in a container) ran out. "
            "Use fewer data.workers; data.workers=0 loads in the main process and shows any error."
        ) from error

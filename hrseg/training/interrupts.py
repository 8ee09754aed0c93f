"""Interrupts of a trainer, and readable messages for errors of torch and Lightning."""

import contextlib
import datetime
import errno
import logging
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from hrseg.errors import EXIT_USAGE, ConfigError, HrsegError, TrainingError, os_error_text
from hrseg.training.checkpoints import LAST

log = logging.getLogger(__name__)

_PEER_GONE = re.compile(r"Connection (closed|reset) by peer|remote process exited")
"""Messages of gloo and NCCL after the exit of a peer process."""
GRACE = 10
"""Seconds that other processes get to end by themselves."""
_ERROR_KEY = "hrseg/error"


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
                "Stopped at step %d; %s has everything so far. Go on with the same command and --resume last.",
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
def report_once(trainer: pl.Trainer) -> Iterator[None]:
    """Let one of several processes say what all of them met, name one that was killed, and let none outlive the rest.

    Raises:
        SystemExit: In a process whose error the first one says.
    """
    over, named = threading.Event(), threading.Event()
    if trainer.world_size > 1:
        arguments = (trainer, over, named)
        threading.Thread(target=_name_the_killed, args=arguments, daemon=True).start()
    try:
        yield
    except HrsegError as error:
        children = _children(trainer)
        alive = list(children)
        children.clear()  # else Lightning's observer kills this process before it has said anything
        if _said_by_the_first(error):
            raise SystemExit(EXIT_USAGE) from error
        for child in alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
        text = None if named.is_set() else _killed(alive)
        for child in alive:
            child.kill()
        if text is not None:
            raise TrainingError(text) from error
        raise
    finally:
        over.set()


def _children(trainer: pl.Trainer) -> "list[subprocess.Popen[bytes]]":
    """Return the processes that Lightning has started beside this one, in the order of their ranks."""
    started: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
    return started


def _name_the_killed(trainer: pl.Trainer, over: threading.Event, named: threading.Event) -> None:
    """Log that a process was killed, before Lightning kills this one for it."""
    while not over.wait(0.2):
        if text := _killed(_children(trainer)):
            named.set()
            log.error("%s", text)
            return


def _killed(children: "Sequence[subprocess.Popen[bytes]]") -> str | None:
    """Return a sentence about the first process that a signal has ended."""
    for rank, child in enumerate(children, start=1):
        code = child.poll()
        if code is not None and code < 0:
            return (
                f"Process {rank} of this run was killed ({signal.Signals(-code).name}), most often because memory ran "
                "out. All stop. The checkpoints written so far are whole: go on with --resume last, and a smaller "
                "data.batch_size or fewer data.workers if it was memory."
            )
    return None


def _said_by_the_first(error: HrsegError) -> bool:
    """Return whether the process of rank 0 has met the same error, and says it."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    store = distributed.distributed_c10d._get_default_store()
    if distributed.get_rank() == 0:
        store.set(_ERROR_KEY, str(error))
        return False
    try:
        store.wait([_ERROR_KEY], datetime.timedelta(seconds=GRACE / 2))
        return bool(store.get(_ERROR_KEY).decode() == str(error))
    except RuntimeError:  # it has met none, or has ended
        return False


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
        raise ConfigError(f"Lightning cannot run with these trainer options: {' '.join(str(error).split())}") from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "Batch norm has one value per channel on the coarsest map, and learns nothing from that. Set "
            "data.batch_size=2 or more. With one image, an HRNet can also take a data.crop above 32x32; heads that "
            "average the whole image, such as deeplabv3, always need two."
        ) from error
    except RuntimeError as error:
        if _PEER_GONE.search(str(error)):
            raise TrainingError(
                "Another process of this run ended, so this one stops too. The reason is in the output "
                "of that process; without one it was killed, most often because memory ran out. Go on with "
                "--resume last."
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

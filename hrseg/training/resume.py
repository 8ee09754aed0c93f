"""Resuming a run: its checkpoint is checked before anything of it is used or anything in its folder changes."""

import contextlib
import logging
import math
import shlex
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy
from torch.optim.lr_scheduler import LambdaLR

from hrseg.config import OPTIONS, Config, config_to_dict
from hrseg.errors import ConfigError, HrsegError, WeightsError
from hrseg.labels import LabelSet
from hrseg.training.checkpoints import LAST, PREVIOUS
from hrseg.training.run_dir import CSVMetricsLogger
from hrseg.training.task import rescale_batches
from hrseg.weights import check_card, read_checkpoint

log = logging.getLogger(__name__)


def readable_checkpoint(checkpoint: Path) -> Path:
    """Fall back to previous.ckpt, with a warning, where last.ckpt is damaged.

    Raises:
        WeightsError: Neither can be read.
    """
    try:
        read_checkpoint(checkpoint)
    except WeightsError as error:
        before = checkpoint.with_name(PREVIOUS)
        if checkpoint.name != LAST or not before.is_file():
            raise
        read_checkpoint(before)
        log.warning("%s Going on from %s, the one before it.", error, before)
        return before
    return checkpoint


def prepare_resume(trainer: pl.Trainer, checkpoint: Path, config: Config, labels: LabelSet) -> None:
    """Check a checkpoint against the config that resumes from it, and restore the loops' progress.

    Raises:
        ConfigError: It is no checkpoint of a run, or one of another network, other classes or a longer run.
        WeightsError: A part of it has another form than in a checkpoint of a run.
    """
    content = read_checkpoint(checkpoint)
    if not {"hrseg", "loops"} <= content.keys():
        raise ConfigError(
            f"{checkpoint} holds weights but not the state of a run, so it cannot be resumed. Start "
            f"from it with {shlex.quote(f'model.weights={checkpoint}')} instead."
        )
    card = check_card(content["hrseg"], checkpoint)
    _check_forms(trainer, checkpoint, content, card)
    defaults = {key: option.default for key, option in OPTIONS.items()}  # of options since then
    before, now = {**defaults, **flatten(card["config"])}, flatten(config_to_dict(config))
    changed = [key for key in now if before.get(key) != now[key] and key not in _CHANGEABLE]
    network = [key for key in changed if key in ("model.backbone", "model.head", "model.freeze")]
    if network or card["labels"] != labels.to_dict():
        what = network[0] if network else "the label table"
        raise ConfigError(
            f"{checkpoint} was trained with another network or other classes or frozen weights ({what} differs), so it "
            f"cannot be resumed. Start a new run with {shlex.quote(f'model.weights={checkpoint}')}."
        )
    if changed and trainer.is_global_zero:
        listed = ", ".join(f"{key} {str(before.get(key))[:200]} → {now[key]}" for key in changed)
        log.warning(
            "Resuming with other settings than before: %s. Rates and decays of the optimizer stay "
            "as they are in the checkpoint.",
            listed,
        )
    # The first epoch's loader is made before Lightning restores the loops, and asks them where to begin.
    rescale_batches(content, config.data.batch_size, trainer.world_size)
    trainer.fit_loop.load_state_dict(content["loops"]["fit_loop"])
    done = {
        "max_epochs": int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]),
        "max_steps": int(content["global_step"]),
    }
    for name, count in done.items():
        limit = getattr(config.trainer, name)
        if limit is not None and count > limit:
            unit = name.removeprefix("max_")
            raise ConfigError(
                f"{checkpoint} has {count} {unit} behind it, and trainer.{name} is {limit}. To train on, set "
                f"trainer.{name} above {count}; to train fewer, start a new run."
            )
        if limit is not None and count == limit and trainer.is_global_zero:
            log.warning(
                "%s is the end of its run, so nothing is left to train. To train on, raise trainer.%s above %s.",
                *(checkpoint, name, limit),
            )
    callbacks: Any = trainer
    callbacks.callbacks.insert(0, _RestoredState(checkpoint, content["global_step"]))


_CHANGEABLE = {
    *("run.name", "run.dir", "data.root", "data.workers", "model.weights"),
    "trainer.checkpointing",
}
"""Options that may change on resume without a warning."""


def flatten(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return section.option → value."""
    return {f"{s}.{name}": value for s, values in config.items() for name, value in values.items()}


MAX_COUNT = 1 << 40
"""Of epochs, batches and steps in a checkpoint."""


def _fits(value: Any, form: Any) -> bool:
    """Return whether a value of a checkpoint has the form of one that this run would write.

    Mappings may hold more than the form; None and bools stand for each other and for numbers, since an option or a
    score may be unset.
    """
    if isinstance(form, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and _fits(value[key], part) for key, part in form.items()
        )
    if isinstance(form, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(form) and all(map(_fits, value, form))
    if isinstance(form, str):
        return isinstance(value, str)
    if form is None or isinstance(form, bool):
        return value is None or (isinstance(value, int | float) and abs(value) < MAX_COUNT)
    if isinstance(form, int):
        return type(value) is int and 0 <= value < MAX_COUNT
    return type(value) in (int, float) and math.isfinite(value)


def _check_forms(trainer: pl.Trainer, checkpoint: Path, content: dict[str, Any], card: dict[str, Any]) -> None:
    """Raise if a part of a checkpoint has another form than this run would write."""
    size = (card.get("config") or {}).get("data", {}).get("batch_size", 1)
    parts = {
        "hrseg": (card, {"config": {}, "labels": {}}),
        "batch_size and world": ([size, card.get("world", 1)], [1, 1]),
        "global_step": (content.get("global_step"), 0),
        "loops": (content["loops"], {"fit_loop": trainer.fit_loop.state_dict()}),
        "state_dict": (content.get("state_dict"), {}),
        "optimizer_states": (content.get("optimizer_states"), [{}]),
        "lr_schedulers": (content.get("lr_schedulers"), [{}]),
        "callbacks": (content.get("callbacks"), {}),
    }
    for name, (value, form) in parts.items():
        if not _fits(value, form):
            raise _misfit(checkpoint, f"its part '{name}' has another form")
    if size < 1 or card.get("world", 1) < 1:
        raise _misfit(checkpoint, "it counts no images or no devices")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        form, state = callback.state_dict(), content["callbacks"].get(callback.state_key)
        if state is None or not form:
            continue
        # older checkpoints lack some
        if not isinstance(state, Mapping) or not _fits({**form, **state}, form):
            raise _misfit(checkpoint, f"its part '{callback.state_key}' has another form")


def _misfit(checkpoint: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{checkpoint} cannot be resumed: {reason} than in a checkpoint of this run. It is damaged, was edited or is "
        f"of another program; nothing in the run's folder was changed. Go on from another one, such as {PREVIOUS}, or "
        f"start a new run with {shlex.quote(f'model.weights={checkpoint}')}."
    )


class _RestoredState(Callback):
    """Check schedule and optimizer once Lightning has restored them, then trim the metrics file."""

    def __init__(self, checkpoint: Path, step: int) -> None:
        self.checkpoint, self.step = checkpoint, step
        self._before: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the attributes of the schedules: restoring can replace any of them."""
        self._before = [dict(vars(config.scheduler)) for config in trainer.lr_scheduler_configs]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check what was restored, and drop the rows that the run writes again."""
        for config, before in zip(trainer.lr_scheduler_configs, self._before, strict=True):
            now: dict[str, Any] = vars(config.scheduler)
            kept = ("optimizer", "lr_lambdas")
            form = {key: value for key, value in before.items() if key not in kept}
            hidden = [key for key in now.keys() - before.keys() if hasattr(LambdaLR, key)]
            if hidden or any(now[key] is not before[key] for key in kept) or not _fits(now, form):
                raise _misfit(self.checkpoint, "its schedule has another form")
            if min(now["base_lrs"]) <= 0:
                raise _misfit(self.checkpoint, "its schedule has other rates")
        if not isinstance(trainer.strategy, FSDPStrategy):  # which has forms of its own
            for optimizer in trainer.optimizers:
                self._check_optimizer(optimizer)
        for logger in trainer.loggers:
            if isinstance(logger, CSVMetricsLogger):
                logger.truncate(self.step)

    def _check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for name, default in optimizer.defaults.items():
                # a rate may be written as 1 and a flag as unset
                form = float(default) if type(default) is int else default
                if not _fits(group.get(name), form):
                    raise _misfit(self.checkpoint, f"its optimizer has another {name}")
            for weight in group["params"]:
                state = optimizer.state.get(weight, {})
                if not isinstance(state, Mapping) or not all(
                    _is_average(name, value, weight) for name, value in state.items()
                ):
                    raise _misfit(self.checkpoint, "its optimizer has averages of other shapes")
                if isinstance(optimizer, torch.optim.AdamW) and state and not state.keys() >= _ADAM:
                    raise _misfit(self.checkpoint, "its optimizer has fewer averages")


_ADAM = {"step", "exp_avg", "exp_avg_sq"}


def _is_average(name: Any, value: Any, weight: torch.Tensor) -> bool:
    """Return whether an entry of an optimizer's state belongs to a weight."""
    if name == "step":
        return isinstance(value, torch.Tensor) and value.numel() == 1
    if value is None:
        return name == "momentum_buffer"
    return isinstance(value, torch.Tensor) and value.shape == weight.shape


@contextlib.contextmanager
def restoring(checkpoint: Path | None) -> Iterator[None]:
    """Raise what Lightning and torch say of a checkpoint that does not fit as one error of that file.

    Raises:
        WeightsError: An exception came from the restoring of weights, callbacks, optimizer or schedule.
    """
    try:
        yield
    except (HrsegError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch and Lightning raise errors of any type
        names = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
        if checkpoint is None or names.isdisjoint(_RESTORING):
            raise
        reason = next(iter(str(error).strip().splitlines()), "").strip(" :.")[:200]
        raise _misfit(checkpoint, f"its content ({type(error).__name__}: {reason}) has another form") from error


_RESTORING = {"resume_start", "_restore_modules_and_callbacks", "restore_training_state"}
"""Functions of Lightning's trainer that read and use a checkpoint."""

"""Search for a learning rate or a batch size by Lightning's Tuner; nothing of the run is kept."""

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.tuner import Tuner

from hrseg.config import Config
from hrseg.errors import ConfigError, TrainingError
from hrseg.training.build import Run, build_run, resolve_statistics
from hrseg.training.interrupts import convert_errors, interruptible
from hrseg.training.trainer import choose_devices

LOWEST = 1e-6
"""The learning rate that a search begins with."""
HIGHEST = (1.0, 0.1, 0.01)
"""Upper ends of the search; the next lower one is used after a loss that was not finite."""
STEPS = 100
"""Optimizer steps of the search for a rate; each has a higher one."""


def find(config: Config, what: Literal["lr", "batch"]) -> str:
    """Propose optim.lr or data.batch_size for a recipe, as a sentence that names the option.

    The rate is the one at which the loss falls fastest while it rises from step to step. The batch size doubles until
    the device's memory, or the training set, is full.

    Raises:
        ConfigError: Several devices, a single image, or a loss that says nothing about rates.
        HrsegError: Any error that would stop the run at its start.
    """
    if (devices := choose_devices(config)[1] * config.trainer.num_nodes) > 1:
        raise ConfigError(
            f"--find {what} searches on one device, and this run has {devices}. Add trainer.devices=1 "
            "trainer.num_nodes=1; a rate for several devices grows with the total batch."
        )
    changed = dataclasses.replace(
        config.trainer, loggers=[], early_stop_patience=None, max_epochs=None, max_steps=10**6
    )
    optim = dataclasses.replace(config.optim, warmup_steps=0, min_lr=0.0)
    with convert_errors():
        config = dataclasses.replace(resolve_statistics(config), trainer=changed, optim=optim)
        return _batch_size(config) if what == "batch" else _rate(config)


def _batch_size(config: Config) -> str:
    with tempfile.TemporaryDirectory() as folder:
        run, tuner = _tuner(config, folder)
        images = len(run.data.train_pairs)
        if images < 2:
            raise ConfigError("One training image fills no larger batch than data.batch_size=1.")
        trials = int(math.log2(images))
        with interruptible(run.trainer):
            size = tuner.scale_batch_size(run.task, datamodule=run.data, init_val=2, max_trials=trials)
    last = f" {images} images fill no batch twice as large." * (2 * (size or 0) > images)
    crop = "x".join(map(str, config.data.crop))
    return f"data.batch_size={size} fits on this device with crops of {crop}.{last}"


def _rate(config: Config) -> str:
    for highest in HIGHEST:
        with tempfile.TemporaryDirectory() as folder:
            run, tuner = _tuner(config, folder)
            try:
                with interruptible(run.trainer):
                    found = tuner.lr_find(
                        run.task,
                        datamodule=run.data,
                        min_lr=LOWEST,
                        max_lr=highest,
                        num_training=STEPS,
                        update_attr=False,
                    )
            except TrainingError:  # the loss was not finite
                continue
        if found and (rate := found.suggestion()) is not None:
            return f"optim.lr={rate:.2g} is where the loss falls fastest, at data.batch_size={config.data.batch_size}."
    raise ConfigError(
        f"The losses of {STEPS} steps at rising rates do not show one at which they fall. Raise data.batch_size, so "
        "that they vary less from step to step, or set trainer.precision=fp32."
    )


def _tuner(config: Config, folder: str) -> tuple[Run, Tuner]:
    run = build_run(config, Path(folder))
    trainer: Any = run.trainer
    trainer.callbacks = []  # no folder, no checkpoint, no lines
    return run, Tuner(trainer)

"""Lightning's Trainer with its callbacks, as the trainer section asks."""

import inspect
import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import FSDPStrategy
from rich.console import Console

from hrseg.building.devices import build_strategy, choose_devices, choose_precision
from hrseg.building.loggers import build_loggers
from hrseg.callbacks import Pictures, ProgressBar, ProgressLines, StopAtStep
from hrseg.checkpoints import AtomicCheckpointIO, KeepBestAndLast
from hrseg.config import Config, check_trainer_options
from hrseg.data.labels import LabelSet
from hrseg.errors import ConfigError

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our word → Lightning's."""


def build_trainer(config: Config, folder: Path | None, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Build Lightning's Trainer.

    Args:
        config: The run.
        folder: The run's folder; None where nothing is written.
        callbacks: All of them; Lightning adds none.

    Raises:
        ConfigError: Devices this machine lacks, or options Lightning does not know.
        MissingExtraError: A logger whose package is not installed.
    """
    trainer = config.trainer
    check_trainer_options(trainer.options, inspect.signature(pl.Trainer.__init__).parameters)
    device, devices = choose_devices(config)
    many = devices * trainer.num_nodes > 1
    strategy = build_strategy(config, device, many)
    if isinstance(strategy, FSDPStrategy) and config.optim.ema_decay is not None:
        raise ConfigError(
            "optim.ema_decay needs whole weights on each device, trainer.strategy=fsdp shards them. "
            "Set optim.ema_decay=null, or trainer.strategy=ddp."
        )
    if many and trainer.sync_batchnorm and device != "cuda":
        log_once("Batch norm statistics stay per process: SyncBatchNorm runs on CUDA devices only.")
    settings: dict[str, Any] = {
        "accelerator": device,
        "devices": devices,
        "num_nodes": trainer.num_nodes,
        "strategy": strategy,
        "precision": PRECISIONS[choose_precision(trainer.precision, device)],
        "sync_batchnorm": many and trainer.sync_batchnorm and device == "cuda",
        "max_epochs": trainer.max_epochs or -1,
        "max_steps": -1,  # StopAtStep
        "accumulate_grad_batches": trainer.accumulate,
        "gradient_clip_val": trainer.clip_norm,
        "check_val_every_n_epoch": trainer.val_every_epochs,
        "log_every_n_steps": trainer.log_every_steps,
        "deterministic": trainer.deterministic,
        "default_root_dir": folder,
        "logger": build_loggers(config, folder) if folder else False,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpointIO()],
        "enable_checkpointing": any(isinstance(c, KeepBestAndLast) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 1,  # a broken validation should show before an hour of training
        "use_distributed_sampler": False,  # SegmentationData shards, each image counted once
    }
    return pl.Trainer(**{**settings, **trainer.options})


@pl.utilities.rank_zero_only
def log_once(text: str) -> None:
    """Log on the first of several processes only."""
    log.info(text)


def build_callbacks(config: Config, folder: Path, labels: LabelSet) -> list[pl.Callback]:
    """Build progress, pictures and what ends a run early, as the trainer section asks."""
    trainer = config.trainer
    callbacks: list[pl.Callback] = [build_progress()]
    if trainer.max_steps:
        callbacks.append(StopAtStep(trainer.max_steps))
    if trainer.pictures and trainer.picture_every_epochs:
        callbacks.append(
            Pictures(
                folder / "pictures",
                labels,
                every=trainer.picture_every_epochs,
                count=trainer.pictures,
                mean=config.data.mean,
                std=config.data.std,
                stretch=config.data.bands is not None,
            )
        )
    if trainer.early_stop_patience:
        callbacks.append(
            EarlyStopping(
                "val/miou",
                mode="max",
                patience=trainer.early_stop_patience,
                check_on_train_epoch_end=False,
            )
        )
    return callbacks


def build_progress() -> ProgressLines:
    """Choose a bar where somebody is looking, lines otherwise."""
    return ProgressBar() if Console(stderr=True).is_terminal else ProgressLines()

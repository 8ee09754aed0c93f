"""Lightning's Trainer with strategy, loggers and callbacks, from the trainer section of the config."""

import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy
from rich.console import Console
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel

from hrseg.config import Config, check_trainer_options
from hrseg.errors import ConfigError, MissingExtraError, did_you_mean, install_command, unknown_choice
from hrseg.inference.prepare import resolve_precision
from hrseg.labels import LabelSet
from hrseg.models.blocks import BasicBlock, Bottleneck
from hrseg.models.hrnet import Module
from hrseg.training.callbacks import ProgressBar, ProgressLines, StopAtStep, ValidationImages
from hrseg.training.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoints, mode_of
from hrseg.training.run_dir import CSVMetricsLogger

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Name in configs → name in Lightning."""


def build_trainer(config: Config, folder: Path | None, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Build Lightning's Trainer.

    Args:
        config: The run.
        folder: The run's folder; None where nothing is written.
        callbacks: All of them; Lightning adds none.

    Raises:
        ConfigError: Devices that are missing, or options unknown to Lightning.
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
    precision = choose_precision(trainer.precision, device)
    if isinstance(strategy, FSDPStrategy) and config.evaluation.precision not in (
        "auto",
        precision,
    ):
        raise ConfigError(
            f"evaluation.precision is {config.evaluation.precision}, but weights that trainer.strategy=fsdp "
            f"shards are validated as they are trained, in {precision}. Set evaluation.precision=auto, or "
            "trainer.strategy=ddp."
        )
    if trainer.deterministic and config.model.resize == "nearest" and device == "cuda":
        raise ConfigError(
            "trainer.deterministic needs gradients in a fixed order, which CUDA does not have for "
            "model.resize=nearest. Set model.resize=bilinear, or trainer.deterministic=false."
        )
    if many and trainer.sync_batchnorm and device != "cuda":
        log_once("Batch norm statistics stay per process: SyncBatchNorm runs on CUDA devices only.")
    settings: dict[str, Any] = {
        "accelerator": device,
        "devices": devices,
        "num_nodes": trainer.num_nodes,
        "strategy": strategy,
        "precision": PRECISIONS[precision],
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
        "enable_checkpointing": any(isinstance(c, BestAndLastCheckpoints) for c in callbacks),
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
    """Build callbacks for progress, step limit, pictures and early stopping."""
    trainer = config.trainer
    callbacks: list[pl.Callback] = [build_progress()]
    if trainer.max_steps:
        callbacks.append(StopAtStep(trainer.max_steps))
    if trainer.pictures and trainer.picture_every_epochs:
        callbacks.append(
            ValidationImages(
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
                trainer.best_by,
                mode=mode_of(trainer.best_by),
                patience=trainer.early_stop_patience,
                check_on_train_epoch_end=mode_of(trainer.best_by) == "min",
                strict=False,  # a validation without a labeled pixel logs no score
            )
        )
    return callbacks


def build_progress() -> ProgressLines:
    """Return a bar on a terminal, lines otherwise."""
    return ProgressBar() if Console(stderr=True).is_terminal else ProgressLines()


STRATEGIES: dict[str, tuple[type[Strategy], type]] = {
    "ddp": (DDPStrategy, DistributedDataParallel),
    "fsdp": (FSDPStrategy, FullyShardedDataParallel),
}
"""Strategy → Lightning's class, and torch's class that takes its remaining options."""


def choose_devices(config: Config) -> tuple[str, int]:
    """Return kind and number of devices on this node, or raise ConfigError where they are missing."""
    wanted, number = config.trainer.accelerator, config.trainer.devices
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind = {"gpu": "mps" if here["mps"] else "cuda"}.get(wanted, wanted)
    if kind == "auto":
        kind = next((name for name, count in here.items() if count), "cpu")
    if kind in here and not here[kind]:
        raise ConfigError(
            f"trainer.accelerator is {wanted}, but torch {torch.__version__} sees no such device "
            "here. Set trainer.accelerator=cpu, or install a torch build for your GPU."
        )
    if number == "auto":
        return kind, here.get(kind, 1)
    if kind in here and int(number) > here[kind]:
        raise ConfigError(
            f"trainer.devices is {number}, this machine has {here[kind]}. Set "
            f"trainer.devices={here[kind]}; trainer.accumulate makes up for the smaller batch."
        )
    return kind, int(number)


def choose_precision(wanted: str, device: str) -> str:
    """Resolve "auto": bf16 where the device has fast bf16, else fp32. Training also has fp16."""
    return wanted if wanted == "fp16" else resolve_precision(wanted, torch.device(device))


def build_strategy(config: Config, device: str, many: bool) -> Strategy | str:
    """Build the Lightning strategy with trainer.strategy_options.

    Args:
        config: The run.
        device: Kind of device.
        many: Whether there is more than one.

    Raises:
        ConfigError: An unknown strategy or option.
    """
    name, options = config.trainer.strategy, config.trainer.strategy_options
    if name != "auto" and name not in STRATEGIES:
        raise ConfigError(unknown_choice("strategy", name, ["auto", *STRATEGIES]))
    if name == "auto" and not many:
        if options:
            raise ConfigError(
                f"trainer.strategy_options has {', '.join(options)}, but one device needs no "
                "strategy. Set trainer.strategy=ddp or fsdp, or remove the options."
            )
        return "auto"
    name = "ddp" if name == "auto" else name
    if name == "fsdp" and device != "cuda":
        raise ConfigError(
            f"trainer.strategy is fsdp, which needs CUDA devices; this run is on {device}. Set trainer.strategy=ddp."
        )
    made, inner = STRATEGIES[name]
    allowed = _arguments(made) | _arguments(inner)
    for option in options:
        if option not in allowed:
            raise ConfigError(
                f"trainer.strategy_options.{option} is not an argument of {made.__name__}."
                f"{did_you_mean(option, allowed)}"
            )
    sharded = sharding(choose_precision(config.trainer.precision, device)) if name == "fsdp" else {}
    return made(**{**sharded, **options})


def sharding(precision: str) -> dict[str, Any]:
    """Return what hrseg asks of FSDP beside the user's options.

    One unit for each module of HRNet: without a policy the whole network is a single unit, which saves little
    memory. With one, torch leaves batch norm in float32, and its statistics are buffers, which stay so too: in
    bfloat16 a momentum of 0.1 stops moving them a few per cent from their goal.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    options: dict[str, Any] = {"auto_wrap_policy": ModuleWrapPolicy({Module, BasicBlock, Bottleneck})}
    if dtype is not None:
        options["mixed_precision"] = MixedPrecision(
            param_dtype=dtype, reduce_dtype=torch.float32, buffer_dtype=torch.float32
        )
    return options


def _arguments(made: type) -> set[str]:
    hidden = {"module", "kwargs", "accelerator", "checkpoint_io", "precision_plugin"}
    return set(inspect.signature(made).parameters) - hidden


def build_loggers(config: Config, folder: Path) -> list[Logger]:
    """Build the loggers of trainer.loggers; raise ConfigError or MissingExtraError for those there are not."""
    names = config.trainer.loggers
    for name in names:
        if name not in LOGGERS:
            raise ConfigError(unknown_choice("logger", name, LOGGERS))
    return [LOGGERS[name](config, folder) for name in names]


def _wandb(config: Config, folder: Path) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    try:
        return WandbLogger(project="hrseg", name=folder.name, save_dir=folder)
    except ModuleNotFoundError as error:
        raise _missing("wandb") from error


def _mlflow(config: Config, folder: Path) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    try:
        return MLFlowLogger(experiment_name="hrseg", run_name=folder.name)
    except ModuleNotFoundError as error:
        raise _missing("mlflow") from error


def _missing(name: str) -> MissingExtraError:
    return MissingExtraError(
        f"trainer.loggers has {name}, which is not installed. Run: {install_command(name)}, or leave it out."
    )


LOGGERS: Mapping[str, Callable[[Config, Path], Logger]] = {
    "csv": lambda config, folder: CSVMetricsLogger(folder / "metrics.csv"),
    "tensorboard": lambda config, folder: TensorBoardLogger(
        folder, name="", version="tensorboard", default_hp_metric=False
    ),
    "wandb": _wandb,
    "mlflow": _mlflow,
}
"""Logger name → function that builds it for a run's folder."""


_EXPECTED_WARNINGS = (
    r".*does not have many workers",  # data.workers decides, and null looks at the machine
    r"The number of training batches .* is smaller than the logging interval",
    r"Found \d+ module\(s\) in eval mode",  # the moving average stays in eval mode
    r"GPU available but not used",  # trainer.accelerator=cpu said so
    r"You're resuming from a checkpoint that ended before the epoch",  # the sampler goes on there
    r"`training_step` returned `None`",  # the guard skipped a batch and logged it
    r"Early stopping conditioned on metric",  # the validation has no label, which the task says
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own, with newer torch
)


def quiet_lightning() -> None:
    """Silence advertisements of Lightning and warnings about intended settings."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=text)

"""From one Config to the objects of a run: labels, data, network, loss, task and trainer.

The only file that knows every table. Each function reads its section of the config and hands plain
arguments to the layers below, which know nothing of configs.
"""

import dataclasses
import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy
from rich.console import Console
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from hrseg.callbacks import Pictures, ProgressBar, ProgressLines, StopAtStep
from hrseg.checkpoints import AtomicCheckpointIO, KeepBestAndLast
from hrseg.config import Config, ModelConfig, check_trainer_options, config_to_dict, to_yaml
from hrseg.data.datamodule import SegmentationData
from hrseg.data.labels import LabelSet
from hrseg.errors import ConfigError, MissingExtraError, did_you_mean, unknown_choice
from hrseg.inference.prepare import resolve_precision
from hrseg.losses import WeightedSum
from hrseg.losses.class_weights import class_weights_from_counts
from hrseg.models import FORM, HEADS, create_model
from hrseg.runs import MetricsFile, StartFolder, version_of
from hrseg.task import SegmentationTask
from hrseg.weights import load_weights

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our word → Lightning's."""
GIVES = {"pyramid": "a pyramid of feature maps", "image": "classes of whole images"}


@dataclass(frozen=True)
class Run:
    """Everything one run needs."""

    data: SegmentationData
    task: SegmentationTask
    trainer: pl.Trainer
    keeper: KeepBestAndLast


def build_run(
    config: Config, folder: Path, config_text: str | None = None, *, load: bool = True
) -> Run:
    """Build everything `fit` needs; only the trainer will write into the folder, and only later.

    Args:
        config: The run.
        folder: Its folder.
        config_text: Content of its config.yaml; None writes the config.
        load: See `build_network`; a resumed run has its weights already.

    Raises:
        HrsegError: Whatever does not fit together.
    """
    quiet_lightning()
    pl.seed_everything(config.run.seed, workers=True, verbose=False)
    data = build_data(config)
    data.setup("fit")  # a missing folder is named before anything is downloaded
    task = build_task(config, data, load=load)
    keeper = KeepBestAndLast(folder, every_steps=config.trainer.save_every_steps)
    start = StartFolder(folder, config_text or to_yaml(config), resumed=not load)
    watching = build_callbacks(config, folder, data.labels)
    trainer = build_trainer(config, folder, [start, *watching, keeper])
    return Run(data, task, trainer, keeper)


def build_data(config: Config) -> SegmentationData:
    """Build the datamodule from the data section."""
    return SegmentationData(
        layout=config.data.layout,
        root=config.data.root,
        labels=config.data.labels,
        train_split=config.data.train_split,
        val_split=config.data.val_split,
        test_split=config.data.test_split,
        crop=config.data.crop,
        base_size=config.data.base_size,
        base_short_side=config.data.base_short_side,
        first_resize=config.data.first_resize,
        scale_min=config.data.scale_min,
        scale_max=config.data.scale_max,
        scale_step=config.data.scale_step,
        pad=config.data.pad,
        flip=config.data.flip,
        flip_first=config.data.flip_first,
        brightness_shift=config.data.brightness_shift,
        photometric=config.data.photometric,
        photometric_rule=config.data.photometric_rule,
        max_class_share=config.data.max_class_share,
        sampling=config.data.sampling,
        batch_size=config.data.batch_size,
        workers=config.data.workers,
        cache=config.data.cache,
        cache_gb=config.data.cache_gb,
        bands=config.data.bands,
        value_range=config.data.value_range,
        mean=_of_all_bands(config, config.data.mean, 0.0),
        std=_of_all_bands(config, config.data.std, 1.0),
        seed=config.run.seed,
        scenes=config.data.scenes,
        scene_size=config.data.scene_size,
    )


def _of_all_bands(config: Config, values: tuple[float, ...], unknown: float) -> tuple[float, ...]:
    """Return mean or deviation; what is still to be computed counts as unknown."""
    return (unknown,) * bands_of(config) if config.data.statistics == "compute" else values


def bands_of(config: Config) -> int:
    """Return how many bands the network sees."""
    return 3 if config.data.bands is None else len(config.data.bands)


def settle_statistics(config: Config) -> Config:
    """Compute data.mean and data.std where the config asks for it, and return it with them as given.

    Raises:
        DataError: The training images cannot be read, or a band never changes.
    """
    if config.data.statistics == "given":
        return config
    mean, std = build_data(config).compute_statistics()
    mean, std = (tuple(round(value, 7) for value in values) for values in (mean, std))
    log.info("data.mean=%s data.std=%s", list(mean), list(std))
    data = dataclasses.replace(config.data, mean=mean, std=std, statistics="given")
    return dataclasses.replace(config, data=data)


def build_network(config: Config, labels: LabelSet, *, load: bool = True) -> torch.nn.Module:
    """Build the network of the model section, with its first weights.

    Args:
        config: The run.
        labels: Gives the number of classes.
        load: Whether model.weights is loaded, which may download; a dry run does not.

    Raises:
        ConfigError: A name that is in no table, a head that gives no pixels, or options that exclude each other.
        WeightsError: The weights do not fit.
    """
    model = config.model
    init = model.init
    if init == "auto":
        init = "kaiming" if model.weights is None else "official"
    _check_head(model)
    network: torch.nn.Module = create_model(
        model.backbone,
        model.head,
        labels.num_classes,
        model.resize,
        in_channels=bands_of(config),
        **{name: getattr(model, name) for name in FORM},
        init=init,
        encoder_weights=model.encoder_weights if load else None,
    )
    if model.weights is not None and load:
        report = load_weights(
            network,
            model.weights,
            new_head=model.new_head,
            inflate_stem=config.data.bands is not None,
        )
        log.info("%s", report)
    return network


def _check_head(model: ModelConfig) -> None:
    row = HEADS.get(model.head)
    if row is None:
        return  # create_model names the heads there are
    if row.gives != "pixels":
        pixels = ", ".join(name for name, other in HEADS.items() if other.gives == "pixels")
        raise ConfigError(
            f"model.head={model.head} gives {GIVES[row.gives]}, no logits per pixel, so it cannot learn masks. Heads "
            f"that can: {pixels}. To use it by itself: hrseg.create_model(backbone, '{model.head}')."
        )
    if model.encoder_weights is not None and row.family == "hrnet":
        raise ConfigError(
            f"model.encoder_weights={model.encoder_weights} is for baselines, and head {model.head} stands on an "
            f"HRNet. Set model.weights instead, such as model.weights={model.backbone}.ms_in1k."
        )
    if model.encoder_weights is not None and model.weights is not None:
        raise ConfigError(
            f"Both model.encoder_weights={model.encoder_weights} and model.weights={model.weights} say what the "
            "encoder starts from. Keep one of them."
        )


def build_loss(config: Config, data: SegmentationData) -> WeightedSum:
    """Build the loss; class weights by formula count the pixels of the training masks once."""
    loss = config.loss
    return WeightedSum(
        loss.terms,
        class_weights=_class_weights(config, data),
        average=loss.average,
        ohem_threshold=loss.ohem_threshold,
        ohem_min_kept=loss.ohem_min_kept,
        focal_gamma=loss.focal_gamma,
        aux_weight=loss.aux_weight,
    )


def _class_weights(config: Config, data: SegmentationData) -> torch.Tensor | None:
    loss, classes = config.loss, data.labels.num_classes
    if loss.class_weight_values:
        if len(loss.class_weight_values) != classes:
            raise ConfigError(
                f"loss.class_weight_values has {len(loss.class_weight_values)} numbers, the label "
                f"table has {classes} classes. Give one weight per class, in trainId order."
            )
        return torch.tensor(loss.class_weight_values)
    if loss.class_weights == "none":
        return None
    if loss.class_weights == "official":
        return class_weights_from_counts(torch.zeros(classes), "official")
    weights = class_weights_from_counts(torch.as_tensor(data.count_classes()), loss.class_weights)
    shown = ", ".join(f"{n} {w:.2f}" for n, w in zip(data.labels.names, weights, strict=True))
    log.info("class weights (%s): %s", loss.class_weights, shown)
    return weights


def build_task(config: Config, data: SegmentationData, *, load: bool = True) -> SegmentationTask:
    """Build network, loss and optimiser settings as one LightningModule.

    Args:
        config: The run.
        data: Gives labels and, where the loss asks, pixel counts.
        load: See `build_network`.
    """
    return SegmentationTask(
        build_network(config, data.labels, load=load),
        data.labels,
        build_loss(config, data),
        optim=config.optim,
        evaluation=config.evaluation,
        card={
            "version": version_of("hrseg"),
            "config": config_to_dict(config),
            "mean": [float(value) for value in config.data.mean],
            "std": [float(value) for value in config.data.std],
            **_banded(config),
        },
        max_steps=config.trainer.max_steps,
        channels_last=config.trainer.channels_last,
        non_finite=config.trainer.non_finite,
        compiled=config.trainer.compile,
        checkpointing=config.trainer.checkpointing,
        autotune=not config.trainer.deterministic and "benchmark" not in config.trainer.options,
    )


def _banded(config: Config) -> dict[str, Any]:
    """Say in the card how image files become the network's bands, where that is not RGB."""
    if config.data.bands is None:
        return {}
    return {"bands": list(config.data.bands), "value_range": config.data.value_range}


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


def build_trainer(
    config: Config, folder: Path | None, callbacks: list[pl.Callback], *, logging: bool = True
) -> pl.Trainer:
    """Build Lightning's Trainer.

    Args:
        config: The run.
        folder: The run's folder; None where nothing is written.
        callbacks: All of them; Lightning adds none.
        logging: Whether the loggers of the config are set up.

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
        "logger": build_loggers(config, folder) if logging and folder else False,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpointIO()],
        "enable_checkpointing": any(isinstance(c, KeepBestAndLast) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 1,  # a broken validation should show before an hour of training
        "use_distributed_sampler": False,  # SegmentationData shards, each image counted once
    }
    return pl.Trainer(**{**settings, **trainer.options})


def choose_devices(config: Config) -> tuple[str, int]:
    """Turn accelerator and devices into a kind of device and a number on this node.

    Raises:
        ConfigError: The machine lacks them.
    """
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
    """Resolve "auto": bf16 where the device is quick at it, else fp32. Training knows fp16 besides."""
    return wanted if wanted == "fp16" else resolve_precision(wanted, torch.device(device))


STRATEGIES: dict[str, tuple[type[Strategy], type]] = {
    "ddp": (DDPStrategy, DistributedDataParallel),
    "fsdp": (FSDPStrategy, FullyShardedDataParallel),
}
"""Strategy → Lightning's class, and torch's class that gets the rest of its options."""


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
            f"trainer.strategy is fsdp, which needs CUDA devices; this run is on {device}. Set "
            "trainer.strategy=ddp."
        )
    made, inner = STRATEGIES[name]
    allowed = _arguments(made) | _arguments(inner)
    for option in options:
        if option not in allowed:
            raise ConfigError(
                f"trainer.strategy_options.{option} is not an argument of {made.__name__}."
                f"{did_you_mean(option, allowed)}"
            )
    return made(**options)


def _arguments(made: type) -> set[str]:
    hidden = {"module", "kwargs", "accelerator", "checkpoint_io", "precision_plugin"}
    return set(inspect.signature(made).parameters) - hidden


def build_loggers(config: Config, folder: Path) -> list[Logger]:
    """Build the loggers by name.

    Raises:
        ConfigError: An unknown name.
        MissingExtraError: Its package is not installed.
    """
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
        f"trainer.loggers has {name}, which is not installed. Run: pip install 'hrseg[{name}]', or "
        "leave it out."
    )


LOGGERS: Mapping[str, Callable[[Config, Path], Logger]] = {
    "csv": lambda config, folder: MetricsFile(folder / "metrics.csv"),
    "tensorboard": lambda config, folder: TensorBoardLogger(
        folder, name="", version="tensorboard", default_hp_metric=False
    ),
    "wandb": _wandb,
    "mlflow": _mlflow,
}
"""Logger name → how it is made for a run's folder."""


@pl.utilities.rank_zero_only
def log_once(text: str) -> None:
    """Log on the first of several processes only."""
    log.info(text)


def quiet_lightning() -> None:
    """Silence Lightning where it advertises or comments on what hrseg does on purpose."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in _ON_PURPOSE:
        warnings.filterwarnings("ignore", message=text)


_ON_PURPOSE = (
    r".*does not have many workers",  # data.workers decides, and null looks at the machine
    r"The number of training batches .* is smaller than the logging interval",
    r"Found \d+ module\(s\) in eval mode",  # the moving average stays in eval mode
    r"GPU available but not used",  # trainer.accelerator=cpu said so
    r"You're resuming from a checkpoint that ended before the epoch",  # the sampler goes on there
    r"`training_step` returned `None`",  # the guard skipped a batch, and told so
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own, with newer torch
)

"""Data, network, loss, task and trainer of a run, built from its Config.

Each function reads its section of the config and passes plain arguments to the layers below.
"""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from hrseg.config import Config, ModelConfig, config_to_dict, to_yaml
from hrseg.data.datamodule import SegmentationData
from hrseg.errors import ConfigError
from hrseg.labels import LabelSet
from hrseg.losses import WeightedSum, class_weights_from_counts
from hrseg.models import FORM, HEADS, create_model
from hrseg.training.checkpoints import BestAndLastCheckpoints
from hrseg.training.optim import freeze_backbone
from hrseg.training.run_dir import RunFolderWriter, version_of
from hrseg.training.task import SegmentationTask
from hrseg.training.trainer import build_callbacks, build_trainer, quiet_lightning
from hrseg.weights import load_weights


def build_loss(config: Config, data: SegmentationData) -> WeightedSum:
    """Build the loss; computed class weights need one pass over the training masks."""
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


OUTPUT_OF_HEAD = {"pyramid": "a pyramid of feature maps", "image": "classes of whole images"}


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
        in_channels=config.data.num_bands,
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
        return  # create_model lists the valid heads
    if row.gives != "pixels":
        pixels = ", ".join(name for name, other in HEADS.items() if other.gives == "pixels")
        raise ConfigError(
            f"model.head={model.head} gives {OUTPUT_OF_HEAD[row.gives]}, no logits per pixel, so it cannot learn "
            f"masks. Heads that can: {pixels}. To use it by itself: hrseg.create_model(backbone, '{model.head}')."
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


@dataclass(frozen=True)
class Run:
    """Everything one run needs."""

    data: SegmentationData
    task: SegmentationTask
    trainer: pl.Trainer
    checkpoints: BestAndLastCheckpoints


def build_run(config: Config, folder: Path, config_text: str | None = None, *, load: bool = True) -> Run:
    """Build everything `fit` needs; nothing is written yet.

    Args:
        config: The run.
        folder: Its folder.
        config_text: Content of its config.yaml; None writes the config.
        load: See `build_network`; False for a resumed run.
    """
    quiet_lightning()
    pl.seed_everything(config.run.seed, workers=True, verbose=False)
    data = build_data(config)
    data.setup("fit")  # reports a missing folder before anything is downloaded
    task = build_task(config, data, load=load)
    checkpoints = BestAndLastCheckpoints(folder, config.trainer.save_every_steps, config.trainer.best_by)
    start = RunFolderWriter(folder, config_text or to_yaml(config), resumed=not load)
    watching = build_callbacks(config, folder, data.labels)
    trainer = build_trainer(config, folder, [start, *watching, checkpoints])
    data.check_batch(trainer.world_size)  # before other processes start and say the same
    return Run(data, task, trainer, checkpoints)


def build_task(config: Config, data: SegmentationData, *, load: bool = True) -> SegmentationTask:
    """Build the LightningModule; `data` gives labels and pixel counts; for `load` see `build_network`."""
    network = build_network(config, data.labels, load=load)
    freeze_backbone(network, config.model.freeze)
    return SegmentationTask(
        network,
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
    """Return the card entries for input bands other than RGB."""
    if config.data.bands is None:
        return {}
    return {"bands": list(config.data.bands), "value_range": config.data.value_range}


log = logging.getLogger(__name__)


def build_data(config: Config) -> SegmentationData:
    """Build the datamodule from the data section."""
    return SegmentationData(config.data, seed=config.run.seed)


def resolve_statistics(config: Config) -> Config:
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

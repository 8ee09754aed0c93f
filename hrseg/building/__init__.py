"""From one Config to the objects of a run: labels, data, network, loss, task and trainer.

The only package that knows every table. Each function reads its section of the config and hands plain
arguments to the layers below, which know nothing of configs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from hrseg.building.data import build_data
from hrseg.building.loss import build_loss
from hrseg.building.network import build_network
from hrseg.building.quiet import quiet_lightning
from hrseg.building.trainer import build_callbacks, build_trainer
from hrseg.checkpoints import KeepBestAndLast
from hrseg.config import Config, config_to_dict, to_yaml
from hrseg.data.datamodule import SegmentationData
from hrseg.runs import StartFolder, version_of
from hrseg.task import SegmentationTask


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

"""Scoring of a model on a split: the verbs validate and test."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from hrseg.config import Config, config_from_dict, config_to_dict, load_config
from hrseg.data.datamodule import SegmentationData, warn_of_learned
from hrseg.data.layouts import LAYOUTS, find_pairs
from hrseg.errors import ConfigError, DataError, TrainingError, first_few
from hrseg.evaluation.callbacks import RecordImages, WritePredictions
from hrseg.inference.load_model import OpenedModel, open_model
from hrseg.labels import LabelSet
from hrseg.metrics.confusion import Scores, table
from hrseg.metrics.records import ImageRecords
from hrseg.training.build import build_data
from hrseg.training.interrupts import convert_errors, interruptible
from hrseg.training.task import SegmentationTask
from hrseg.training.trainer import build_progress, build_trainer, quiet_lightning


@dataclass(frozen=True)
class EvaluationResult:
    """The score of a model on one split.

    Attributes:
        metrics: Result of `ConfusionMatrix.compute`.
        labels: The classes.
        text: Table of the scores.
        records: Confusion matrix of each image.
    """

    metrics: Scores
    labels: LabelSet
    text: str
    records: ImageRecords


def evaluation_config(model: str | None, overrides: Sequence[str] = (), recipe: str | None = None) -> Config:
    """Return the config for scoring a model: its own or a recipe's, on this machine's devices, with overrides.

    Args:
        model: A checkpoint, a .safetensors file or a tag; None is the packaged model.
        overrides: Such as "data.root=/data/camvid".
        recipe: File or name of a recipe, for models without a config or other data.

    Raises:
        HrsegError: The model cannot be read, or an override is wrong.
    """
    return _evaluation_config(open_model(model), overrides, recipe)


def _evaluation_config(opened: OpenedModel, overrides: Sequence[str], recipe: str | None = None) -> Config:
    given = config_to_dict(load_config(recipe, overrides)) if recipe else opened.config
    values = {section: dict(options) for section, options in given.items()}
    # Devices, workers and loggers belong to the machine that trained.
    values["trainer"] = {"max_epochs": 1}
    data = values.setdefault("data", {})
    data.pop("workers", None)
    data |= {"mean": list(opened.mean), "std": list(opened.std), "statistics": "given"}
    data |= opened.banded or {"bands": None, "value_range": None}
    return config_from_dict(values, overrides, source=recipe or str(opened.source))


def evaluate(
    model: str | None,
    split: str = "val",
    overrides: Sequence[str] = (),
    out: Path | None = None,
    recipe: str | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> EvaluationResult:
    """Score a model by its evaluation protocol, at the size that the masks have on disk.

    Args:
        model: A checkpoint, a .safetensors file or a tag; None is the packaged model.
        split: "val" or "test".
        overrides: Such as "data.root=/data/camvid".
        out: With "test", a folder for the predictions in dataset ids.
        recipe: Takes data and options from this recipe instead of the model's own config.
        callbacks: Further callbacks, such as `CollectStatistics`.

    Raises:
        HrsegError: The model or the data cannot be read, or their classes differ.
    """
    quiet_lightning()
    opened = open_model(model)
    config = _evaluation_config(opened, overrides, recipe)
    data = build_data(config)
    _check_classes(opened.source, opened.labels, data.labels)
    _warn_of_learned(opened, data, split)
    card = {"mean": config.data.mean, "std": config.data.std, **opened.banded}
    task = SegmentationTask(opened.network, data.labels, evaluation=config.evaluation, card=card)
    recorder = RecordImages(data.labels)
    writers = [] if out is None else [WritePredictions(out, data.labels)]
    with convert_errors():
        trainer = build_trainer(config, None, [build_progress(), recorder, *callbacks, *writers])
        run = trainer.validate if split == "val" else trainer.test
        with interruptible(trainer):
            run(task, datamodule=data, verbose=False)
        records = recorder.records(opened.name)
    if task.result is None:  # several processes, and this one was interrupted
        raise TrainingError(f"Nothing was scored: split '{split}' gave no image.")
    count = len(records.names)
    text = table(task.result, data.labels.names)
    unit = "All in per cent, over" if task.result["matrix"].any() else "Read"
    text += f"\n{unit} {count:,} image{'s' * (count != 1)} of the split '{split}'"
    if not task.protocol.plain:
        text += f"\nProtocol {task.protocol.name}: {task.protocol.describe()}"
    return EvaluationResult(task.result, data.labels, text, records)


def _warn_of_learned(opened: OpenedModel, data: SegmentationData, split: str) -> None:
    """Warn where the model's own training split holds images of the split; where it is not here nothing is known."""
    own, here = opened.config.get("data") or {}, data.config
    if own.get("layout") == here.layout in LAYOUTS and own.get("train_split"):
        with contextlib.suppress(DataError):
            learned = find_pairs(here.layout, here.root, own["train_split"], masks=here.masks, bare=True)
            warn_of_learned(data.val_pairs if split == "val" else data.test_pairs, learned)


def _check_classes(name: Path, learned: LabelSet, given: LabelSet) -> None:
    if learned.names == given.names:
        return
    if learned.num_classes == given.num_classes:
        pairs = zip(learned.names, given.names, strict=True)
        renamed = [f"'{own}' there is '{other}' here" for own, other in pairs if own != other]
        raise ConfigError(
            f"{name} and the table of data.labels name their {learned.num_classes} classes differently: "
            f"{', '.join(renamed[:3])}{f', and {len(renamed) - 3} more' * (len(renamed) > 3)}. If it is the same class "
            "by another name, give it the old one in that table; else choose the data that the model was trained for "
            "with data.layout, data.labels and data.root."
        )
    raise ConfigError(
        f"{name} has {learned.num_classes} classes ({first_few(learned.names, 3)}), the data have {given.num_classes} "
        f"({first_few(given.names, 3)}). Choose the data it was trained for with data.layout, data.labels and "
        "data.root."
    )

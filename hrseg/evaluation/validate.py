"""Scoring a model on a split of some data: the verbs validate and test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from hrseg.config import Config, config_from_dict, config_to_dict, load_config
from hrseg.errors import ConfigError, TrainingError
from hrseg.evaluation.callbacks import KeepLedger, WritePredictions
from hrseg.inference.load_model import OpenedModel, open_model
from hrseg.labels import LabelSet
from hrseg.metrics.confusion import Scores, table
from hrseg.metrics.records import Ledger
from hrseg.training.build import build_data
from hrseg.training.interrupts import clear_errors, stoppable
from hrseg.training.task import SegmentationTask
from hrseg.training.trainer import build_progress, build_trainer, quiet_lightning


@dataclass(frozen=True)
class EvaluationResult:
    """The score of a model on one split.

    Attributes:
        metrics: What `ConfusionMatrix.compute` gave.
        labels: The classes.
        text: The table of scores.
        ledger: The confusion matrix of each image.
    """

    metrics: Scores
    labels: LabelSet
    text: str
    ledger: Ledger


def evaluation_config(
    model: str | None, overrides: Sequence[str] = (), recipe: str | None = None
) -> Config:
    """Return the config a model is scored with: its own or a recipe's, on this machine's devices, plus words.

    Args:
        model: A checkpoint, a .safetensors file or a tag; None is the model that ships.
        overrides: Words such as "data.root=/data/camvid".
        recipe: File or name of a recipe, for models that bring no config or shall be scored on other data.

    Raises:
        HrsegError: The model cannot be read, or a word is wrong.
    """
    return _evaluation_config(open_model(model), overrides, recipe)


def _evaluation_config(
    opened: OpenedModel, overrides: Sequence[str], recipe: str | None = None
) -> Config:
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
    watch: Sequence[pl.Callback] = (),
) -> EvaluationResult:
    """Score a model by its evaluation protocol, at the size that the masks have on disk.

    Args:
        model: A checkpoint, a .safetensors file or a tag; None is the model that ships.
        split: "val" or "test".
        overrides: Words such as "data.root=/data/camvid".
        out: With "test", a folder for the predictions in dataset ids.
        recipe: Takes data and options from this recipe instead of the model's own config.
        watch: Callbacks that look on, such as `gather.KeepEvidence`.

    Raises:
        HrsegError: The model or the data cannot be read, or they do not belong together.
    """
    quiet_lightning()
    opened = open_model(model)
    config = _evaluation_config(opened, overrides, recipe)
    data = build_data(config)
    _check_classes(opened.source, opened.labels, data.labels)
    card = {"mean": config.data.mean, "std": config.data.std, **opened.banded}
    task = SegmentationTask(opened.network, data.labels, evaluation=config.evaluation, card=card)
    keeper = KeepLedger(data.labels)
    callbacks: list[pl.Callback] = [build_progress(), keeper, *watch]
    if out is not None:
        callbacks.append(WritePredictions(out, data.labels))
    with clear_errors():
        trainer = build_trainer(config, None, callbacks)
        run = trainer.validate if split == "val" else trainer.test
        with stoppable(trainer):
            run(task, datamodule=data, verbose=False)
        ledger = keeper.ledger(opened.name)
    if task.result is None:  # several processes, and this one was told to stop
        raise TrainingError(f"Nothing was scored: split '{split}' gave no image.")
    count = len(ledger.names)
    text = table(task.result, data.labels.names)
    text += f"\nAll in per cent, over {count:,} image{'s' * (count != 1)} of the split '{split}'"
    if not task.protocol.plain:
        text += f"\nLooked at by {task.protocol.name}: {task.protocol.describe()}"
    return EvaluationResult(task.result, data.labels, text, ledger)


def _check_classes(name: Path, mine: LabelSet, theirs: LabelSet) -> None:
    if mine.names == theirs.names:
        return
    if mine.num_classes == theirs.num_classes:
        pairs = zip(mine.names, theirs.names, strict=True)
        odd = [f"'{own}' there is '{other}' here" for own, other in pairs if own != other]
        raise ConfigError(
            f"{name} and the table of data.labels name their {mine.num_classes} classes differently: "
            f"{', '.join(odd[:3])}{f', and {len(odd) - 3} more' * (len(odd) > 3)}. If it is the same class by another "
            "name, give it the old one in that table; else choose the data that the model was trained for with "
            "data.layout, data.labels and data.root."
        )
    raise ConfigError(
        f"{name} knows {mine.num_classes} classes ({_some(mine)}), the data have {theirs.num_classes} "
        f"({_some(theirs)}). Choose the data it was trained for with data.layout, data.labels and data.root."
    )


def _some(labels: LabelSet) -> str:
    return ", ".join((*labels.names[:3], *("…" for _ in labels.names[3:4])))

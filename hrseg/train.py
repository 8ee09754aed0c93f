"""The verbs that need a trainer: fit, validate, test, and the dry run that only counts.

Each builds what it needs, runs it, and says what came out as plain text; nothing is printed here.
"""

import contextlib
import errno
import logging
import math
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from hrseg.build import (
    build_callbacks,
    build_data,
    build_loggers,
    build_progress,
    build_run,
    build_task,
    build_trainer,
    choose_devices,
    choose_precision,
    quiet_lightning,
    settle_statistics,
)
from hrseg.checkpoints import LAST, PREVIOUS, digest
from hrseg.config import Config, config_from_dict, config_to_dict, load_config, to_yaml
from hrseg.data.labels import LabelSet
from hrseg.errors import ConfigError, HrsegError, TrainingError, WeightsError
from hrseg.evaluation.ledger import Ledger
from hrseg.gather import KeepLedger, WritePredictions
from hrseg.inference.opening import OpenedModel, open_model
from hrseg.losses.terms import LOSSES
from hrseg.metrics import Scores, table
from hrseg.models.memory import Memory, training_memory
from hrseg.models.summary import Summary, summary
from hrseg.runs import MetricsFile, find_checkpoint, new_run_folder
from hrseg.task import SegmentationTask
from hrseg.weights import read_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """What a run left.

    Attributes:
        run_dir: The run's folder.
        best_score: Highest mIoU on the validation split, a fraction.
        table: Scores of each class at that moment, as text.
        digest: sha256 of the last weights.
    """

    run_dir: Path
    best_score: float
    table: str
    digest: str


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


@dataclass(frozen=True)
class Plan:
    """What a run would do and cost.

    Attributes:
        config: The run.
        labels: The classes.
        images: Training and validation images.
        shapes: Name → shape of one batch.
        cost: Parameters and multiply-adds of one crop.
        memory: Of one training step on one device.
        device: Kind of device.
        devices: How many in all.
        precision: Arithmetic of the forward pass.
        steps: Optimiser steps of an epoch and of the run.
    """

    config: Config
    labels: LabelSet
    images: tuple[int, int]
    shapes: Mapping[str, tuple[int, ...]]
    cost: Summary
    memory: Memory
    device: str
    devices: int
    precision: str
    steps: tuple[int, int]

    def text(self) -> str:
        """Say it in lines for a reader."""
        config, memory = self.config, self.memory
        batch = config.data.batch_size
        total = self.devices * batch * config.trainer.accumulate
        shapes = ", ".join(f"{name} {tuple(shape)}" for name, shape in self.shapes.items())
        height, width = config.data.crop
        gib = {
            name: getattr(memory, name) / 2**30
            for name in ("total", "weights", "optimiser", "activations", "transient")
        }
        rows = {
            "network": f"{config.model.backbone}, head {config.model.head}, "
            f"resize {config.model.resize}, {self.labels.num_classes} classes",
            "weights": config.model.weights or "none, trained from scratch",
            "parameters": f"{self.cost.parameters:,}",
            "multiply-adds": f"{self.cost.multiply_adds / 1e9:.2f} G for one {height}x{width} crop",
            "data": f"{self.images[0]:,} training images ({config.data.train_split}), "
            f"{self.images[1]:,} for validation ({config.data.val_split})",
            "one batch": shapes,
            "device": f"{self.devices} x {self.device}, {self.precision}",
            "images a step": f"{total} = {self.devices} devices x {batch} x {config.trainer.accumulate}"
            " accumulated",
            "steps": f"{self.steps[0]:,} an epoch, {self.steps[1]:,} in all",
            "memory": f"about {gib['total']:.2f} GiB on each device: weights and gradients "
            f"{gib['weights']:.2f}, optimiser {gib['optimiser']:.2f}, activations "
            f"{gib['activations']:.2f}, transient {gib['transient']:.2f}; "
            "the libraries add their own",
        }
        return "\n".join(f"{name:<14} {value}" for name, value in rows.items())


def fit(config: Config, *, resume: str | None = None, config_text: str | None = None) -> FitResult:
    """Train a network, from the start or from where a run stopped.

    Args:
        config: The run.
        resume: "last" for the newest run of this name, a run's folder, or a checkpoint.
        config_text: What config.yaml in the run's folder shall hold; None writes the config.

    Raises:
        HrsegError: A mistake in config or data, or a run that cannot go on.
        KeyboardInterrupt: Somebody stopped the run; last.ckpt has been written.
    """
    name, parent = config.run.name or config.data.layout, Path(config.run.dir)
    checkpoint = _readable(find_checkpoint(resume, parent, name)) if resume else None
    folder = checkpoint.parent if checkpoint else new_run_folder(parent, name)
    with clear_errors():
        config, config_text = _settled(config, config_text)
        run = build_run(config, folder, config_text, load=checkpoint is None)
        if checkpoint:
            _prepare_resume(run.trainer, checkpoint, config, run.data.labels)
        with _stoppable(run.trainer, folder):
            run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
            if run.keeper.scored_step != run.trainer.global_step:
                # val_every_epochs or max_steps left the last weights without a score.
                run.trainer.validate(run.task, datamodule=run.data, verbose=False)
    file = folder / "per_class.txt"
    text = file.read_text(encoding="utf-8").rstrip() if file.exists() else ""
    weights = run.task.evaluated.state_dict()
    return FitResult(folder, run.keeper.best or 0.0, text, digest(weights))


def _settled(config: Config, text: str | None) -> tuple[Config, str | None]:
    """Compute what the config leaves to the images; its text says the numbers too."""
    settled = settle_statistics(config)
    if settled is config or text is None:
        return settled, text
    head = [line for line in text.splitlines()[:1] if line.startswith("#")]
    return settled, "\n".join([*head, to_yaml(settled)])


def _readable(checkpoint: Path) -> Path:
    """Take the checkpoint from before where the last one is damaged, and say so."""
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


def _prepare_resume(
    trainer: pl.Trainer, checkpoint: Path, config: Config, labels: LabelSet
) -> None:
    """Compare a checkpoint with the config that shall go on from it, and trim the metrics file."""
    content = read_checkpoint(checkpoint)
    card = content.get("hrseg")
    if not isinstance(card, dict) or "loops" not in content:
        raise ConfigError(
            f"{checkpoint} holds weights but not the state of a run, so it cannot be resumed. Start "
            f"from it with model.weights={checkpoint} instead."
        )
    before, now = _flat(card["config"]), _flat(config_to_dict(config))
    changed = [key for key in now if before.get(key) != now[key] and key not in _FREE]
    network = [key for key in changed if key in ("model.backbone", "model.head")]
    if network or card["labels"] != labels.to_dict():
        what = network[0] if network else "the label table"
        raise ConfigError(
            f"{checkpoint} was trained with another network or other classes ({what} differs), so it "
            f"cannot be resumed. Start a new run with model.weights={checkpoint}."
        )
    if changed and trainer.is_global_zero:
        listed = ", ".join(f"{key} {before.get(key)} → {now[key]}" for key in changed)
        log.warning(
            "Resuming with other settings than before: %s. Rates and decays of the optimiser stay "
            "as they are in the checkpoint.",
            listed,
        )
    # The first epoch's loader is made before Lightning restores the loops, and asks them where to begin.
    trainer.fit_loop.load_state_dict(content["loops"]["fit_loop"])
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            logger.go_back_to(int(content["global_step"]))


_FREE = {
    *("run.name", "run.dir", "data.root", "data.workers", "model.weights"),
    "trainer.checkpointing",
}
"""Options that may differ between a run and its continuation without a word."""


def _flat(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{s}.{name}": value for s, values in config.items() for name, value in values.items()}


@contextlib.contextmanager
def _stoppable(trainer: pl.Trainer, folder: Path | None = None) -> Iterator[None]:
    """Turn Lightning's way of ending on Ctrl-C into a KeyboardInterrupt, and say how to go on."""
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
                "Stopped at step %d; %s has everything so far. Go on with the same command and "
                "--resume last.",
                trainer.global_step,
                last,
            )
        if isinstance(stop, SIGTERMException):
            raise SystemExit(128 + signal.SIGTERM) from stop
        raise KeyboardInterrupt from stop
    finally:
        if in_main:  # Lightning leaves SIGINT ignored
            signal.signal(signal.SIGINT, handler)


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
        with _stoppable(trainer):
            run(task, datamodule=data, verbose=False)
        ledger = keeper.ledger(opened.name)
    if task.result is None:  # several processes, and this one was told to stop
        raise TrainingError(f"Nothing was scored: split '{split}' gave no image.")
    text = table(task.result, data.labels.names)
    if not task.protocol.plain:
        text += f"\nLooked at by {task.protocol.name}: {task.protocol.says()}"
    return EvaluationResult(task.result, data.labels, text, ledger)


def _check_classes(name: Path, mine: LabelSet, theirs: LabelSet) -> None:
    if mine.names != theirs.names:
        raise ConfigError(
            f"{name} knows {mine.num_classes} classes ({', '.join(mine.names[:3])}, …), the data "
            f"have {theirs.num_classes} ({', '.join(theirs.names[:3])}, …). Choose the data it was "
            "trained for with data.layout, data.labels and data.root."
        )


def plan(config: Config) -> Plan:
    """Build everything a run needs without starting or downloading it, and count.

    Args:
        config: The run.

    Raises:
        HrsegError: Whatever would stop the run at its start.
    """
    quiet_lightning()
    with clear_errors():
        data = build_data(config)
        data.setup("fit")
        task = build_task(config, data, load=False)
        folder = new_run_folder(Path(config.run.dir), config.run.name or config.data.layout)
        build_loggers(config, folder)
        build_trainer(config, None, build_callbacks(config, folder, data.labels))
        kind, number = choose_devices(config)
        devices = number * config.trainer.num_nodes
        precision = choose_precision(config.trainer.precision, kind)
        batch = data.sample_batch()
        images = (len(data.train_pairs), len(data.val_pairs))
    slots = (2 if config.optim.name == "adamw" else 1) + (config.optim.ema_decay is not None)
    count, _, height, width = batch["image"].shape
    batches = images[0] // (devices * config.data.batch_size)
    epoch = math.ceil(batches / config.trainer.accumulate)
    limits = [config.trainer.max_steps or math.inf, epoch * (config.trainer.max_epochs or math.inf)]
    return Plan(
        config=config,
        labels=data.labels,
        images=images,
        shapes={name: tuple(batch[name].shape) for name in ("image", "mask")},
        cost=summary(task.network, (height, width)),
        memory=training_memory(
            task.network,
            (count, height, width),
            bf16=precision != "fp32",
            slots=slots,
            blocked=all(LOSSES[name].of_surprise for name in task.loss.terms),
        ),
        device=kind,
        devices=devices,
        precision=precision,
        steps=(epoch, int(min(limits))),
    )


_PEER_GONE = re.compile(r"Connection (closed|reset) by peer|remote process exited")
"""How gloo and NCCL say that the process at the other end is gone."""


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what torch and Lightning say about the user's mistakes into one clear paragraph.

    Raises:
        HrsegError: The paragraph. Other exceptions pass as they are.
    """
    try:
        yield
    except HrsegError as error:
        message = str(error)
        marker = f"{type(error).__name__}: "
        if "Original Traceback" not in message or marker not in message:
            raise
        # A loader process sends its traceback as text; the sentence is at its end.
        raise type(error)(message.rsplit(marker, 1)[1].strip()) from None
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "The device ran out of memory. Make data.batch_size smaller (trainer.accumulate makes up "
            "for it), or data.crop, or set evaluation.window if it happened in validation. "
            f"hrseg fit --dry-run estimates the need. {str(error).splitlines()[0]}"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TrainingError(
            f"The disk is full{f' ({error.filename})' if error.filename else ''}. The checkpoints "
            "written so far are whole. Make room, then go on with --resume last."
        ) from error
    except MisconfigurationException as error:
        raise ConfigError(
            f"Lightning cannot run with these trainer options: {' '.join(str(error).split())}"
        ) from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "Batch norm has one value per channel on the coarsest branch, and learns nothing from "
            "that. Raise data.batch_size above 1, or data.crop above 32x32."
        ) from error
    except RuntimeError as error:
        if _PEER_GONE.search(str(error)):
            raise TrainingError(
                "Another process of this run ended, so this one stops too. What happened there is told "
                "by that process, in its own output. Go on with --resume last."
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

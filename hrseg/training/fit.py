"""Training of a network, from the start or resumed from a checkpoint."""

import contextlib
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from hrseg.config import OPTIONS, Config, config_to_dict, to_yaml
from hrseg.errors import ConfigError, DataError, WeightsError, first_process
from hrseg.labels import LabelSet
from hrseg.training.build import build_run, resolve_statistics
from hrseg.training.checkpoints import LAST, PREVIOUS
from hrseg.training.curves import draw_curves
from hrseg.training.interrupts import convert_errors, interruptible, report_once
from hrseg.training.run_dir import CSVMetricsLogger, find_checkpoint, run_folder
from hrseg.training.task import rescale_batches
from hrseg.training.trainer import choose_devices
from hrseg.weights import read_checkpoint
from hrseg.weights.checkpoint_io import weights_digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """Result of a run.

    Attributes:
        run_dir: The run's folder.
        best_score: Value of trainer.best_by for the best weights, mIoU on the validation split as a fraction unless
            chosen otherwise; None where no image has a label, so that there is no best.ckpt.
        table: Scores of each class for the best weights, as text.
        digest: sha256 of the last weights.
    """

    run_dir: Path
    best_score: float | None
    table: str
    digest: str


def fit(config: Config, *, resume: str | None = None, config_text: str | None = None) -> FitResult:
    """Train a network, from the start or from a checkpoint.

    Args:
        config: The run.
        resume: "last" for the newest run of this name, a run's folder, or a checkpoint.
        config_text: Content of config.yaml in the run's folder; None writes the config.

    Raises:
        HrsegError: An error in config or data, or a run that cannot be resumed.
        KeyboardInterrupt: The run was interrupted; last.ckpt has been written.
    """
    name, parent = config.run.name or config.data.layout, Path(config.run.dir)
    checkpoint = find_checkpoint(resume, parent, name) if resume else None
    resumed = checkpoint.parent if checkpoint else None
    many = choose_devices(config)[1] * config.trainer.num_nodes > 1
    with contextlib.ExitStack() as stack:
        stack.enter_context(convert_errors())
        folder = resumed or parent / name  # the others learn of the first one's folder below
        if first_process() or not many:
            folder = stack.enter_context(run_folder(parent, name, resumed))
        checkpoint = _readable_checkpoint(checkpoint) if checkpoint else None
        config, config_text = _with_statistics(config, config_text)
        run = build_run(config, folder, config_text, load=checkpoint is None)
        if checkpoint:
            _prepare_resume(run.trainer, checkpoint, config, run.data.labels)
        with report_once(run.trainer), interruptible(run.trainer, folder), convert_errors():
            try:
                run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
                if run.checkpoints.scored_step != run.trainer.global_step:
                    # val_every_epochs or max_steps left the last weights without a score.
                    run.trainer.validate(run.task, datamodule=run.data, verbose=False)
            finally:
                if run.trainer.is_global_zero:
                    # an error of the picture must not hide one of the run, such as a full disk
                    with contextlib.suppress(OSError, DataError):
                        draw_curves(folder)
        folder = run.trainer.strategy.broadcast(folder)
        file = folder / "per_class.txt"
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    weights = run.task.evaluated.state_dict()
    return FitResult(folder, run.checkpoints.best, text.rstrip(), weights_digest(weights))


def _with_statistics(config: Config, text: str | None) -> tuple[Config, str | None]:
    """Return config and text with the mean and deviation computed from the images, where that is asked for."""
    settled = resolve_statistics(config)
    if settled is config or text is None:
        return settled, text
    head = [line for line in text.splitlines()[:1] if line.startswith("#")]
    return settled, "\n".join([*head, to_yaml(settled)])


def _readable_checkpoint(checkpoint: Path) -> Path:
    """Fall back to previous.ckpt, with a warning, where last.ckpt is damaged."""
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


def _prepare_resume(trainer: pl.Trainer, checkpoint: Path, config: Config, labels: LabelSet) -> None:
    """Check a checkpoint against the config that resumes from it, and trim the metrics file."""
    content = read_checkpoint(checkpoint)
    card = content.get("hrseg")
    if not isinstance(card, dict) or "loops" not in content:
        raise ConfigError(
            f"{checkpoint} holds weights but not the state of a run, so it cannot be resumed. Start "
            f"from it with {shlex.quote(f'model.weights={checkpoint}')} instead."
        )
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
        listed = ", ".join(f"{key} {before.get(key)} → {now[key]}" for key in changed)
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
    for logger in trainer.loggers:
        if isinstance(logger, CSVMetricsLogger):
            logger.truncate(int(content["global_step"]))


_CHANGEABLE = {
    *("run.name", "run.dir", "data.root", "data.workers", "model.weights"),
    "trainer.checkpointing",
}
"""Options that may change on resume without a warning."""


def flatten(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return section.option → value."""
    return {f"{s}.{name}": value for s, values in config.items() for name, value in values.items()}

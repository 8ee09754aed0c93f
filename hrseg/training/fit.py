"""Training of a network, from the start or resumed from a checkpoint."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from hrseg.config import Config, to_yaml
from hrseg.errors import DataError, first_process
from hrseg.training.build import build_run, resolve_statistics
from hrseg.training.curves import draw_curves
from hrseg.training.interrupts import convert_errors, interruptible, report_once
from hrseg.training.resume import prepare_resume, readable_checkpoint, restoring
from hrseg.training.run_dir import find_checkpoint, run_folder
from hrseg.training.trainer import choose_devices
from hrseg.weights.checkpoint_io import weights_digest


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
        checkpoint = readable_checkpoint(checkpoint) if checkpoint else None
        config, config_text = _with_statistics(config, config_text)
        run = build_run(config, folder, config_text, load=checkpoint is None)
        if checkpoint:
            prepare_resume(run.trainer, checkpoint, config, run.data.labels)
        with (
            report_once(run.trainer),
            interruptible(run.trainer, folder),
            convert_errors(),
            restoring(checkpoint),
        ):
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

"""Where the numbers of a run go: the table of loggers, and how each is made for a run's folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from hrseg.config import Config
from hrseg.errors import ConfigError, MissingExtraError, unknown_choice
from hrseg.runs import MetricsFile


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

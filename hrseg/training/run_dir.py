"""Run folders: names, lookup of checkpoints, config and version files, and the metrics table.

runs/camvid_w18/config.yaml  versions.json  metrics.csv  per_class.txt  pictures/  best.ckpt  last.ckpt
"""

import contextlib
import csv
import errno
import io
import json
import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from hrseg.errors import ConfigError, did_you_mean
from hrseg.imaging import remove_abandoned, set_aside, write_atomic, write_text

log = logging.getLogger(__name__)

COLUMNS = (
    *("step", "epoch", "train/loss", "train/epoch_loss", "train/lr", "train/images_per_second"),
    *("val/miou", "val/pixel_accuracy", "val/mean_accuracy", "val/frequency_weighted_iou"),
)
PACKAGES = ("hrseg", "torch", "torchvision", "lightning", "albumentations", "numpy", "omegaconf")


@contextlib.contextmanager
def run_folder(parent: Path, name: str, resumed: Path | None = None) -> Iterator[Path]:
    """Give a run's folder, locked against other runs until the end; temporary files of killed runs are removed.

    The lock ends with its process, however that ends. Of several processes of one run, the first calls this.

    Args:
        parent: Folder of all runs.
        name: Name of the run.
        resumed: Folder of the run that is resumed; None makes a new one.

    Raises:
        ConfigError: A bad name, or another process trains in the folder.
        OSError: The folder cannot be made or written.
    """
    folder = resumed or _make_folder(parent, name)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"Another process is training in {folder}, so it cannot be resumed now. Wait for that process or stop it, "
            "or leave out --resume to start a run of its own."
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        log.warning("%s is on a file system without locks: start no second run in it.", folder)
    try:
        remove_abandoned(folder, locked=True)
        yield folder
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            (folder / LOCK).unlink(missing_ok=True)
            if not any(folder.iterdir()):  # the run failed before it began
                folder.rmdir()
        lock.release()


LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems, such as some NFS and Lustre mounts, that do not lock files."""


def _make_folder(parent: Path, name: str) -> Path:
    while True:
        folder = new_run_folder(parent, name)
        with contextlib.suppress(FileExistsError):  # another process was faster
            folder.mkdir(parents=True)
            return folder


def new_run_folder(parent: Path, name: str) -> Path:
    """Return an unused folder: `name`, then `name-2`, `name-3`. Nothing is created.

    Raises:
        ConfigError: The name is not that of a folder in `parent`.
    """
    if name in {"", ".", ".."} or Path(name).name != name:
        raise ConfigError(
            f"run.name is '{name}'. It must be the name of one folder. Choose the folder above it with run.dir."
        )
    folder, number = parent / name, 1
    while os.path.lexists(folder):
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def find_checkpoint(resume: str, parent: Path, name: str) -> Path:
    """Find the checkpoint that `--resume` means.

    Args:
        resume: "last" for the newest run of this name, a run's folder, or a checkpoint file.
        parent: Folder of all runs.
        name: Name of the run.

    Raises:
        ConfigError: There is nothing to resume.
    """
    if resume != "last":
        path = Path(resume)
        path = path / "last.ckpt" if path.is_dir() else path
        if not path.is_file():
            raise ConfigError(
                f"There is no checkpoint {path} to resume. Give 'last', a run's folder, or a file "
                "such as runs/NAME/last.ckpt."
            )
        return path
    pattern = re.compile(rf"{re.escape(name)}(-(\d+))?")
    found: dict[int, Path] = {}
    for path in parent.glob("*/last.ckpt"):
        match = pattern.fullmatch(path.parent.name)
        if match:
            found[int(match[2] or 1)] = path
    if not found:
        others = sorted(path.parent.name for path in parent.glob("*/last.ckpt"))
        known = f" Runs in {parent}: {', '.join(others[:10])}." if others else ""
        raise ConfigError(
            f"There is no run '{name}' with a last.ckpt in {parent}, so nothing can be resumed."
            f"{known}{did_you_mean(name, others)} Leave out --resume to start anew, or set run.name."
        )
    return found[max(found)]


def describe_machine() -> dict[str, Any]:
    """Return versions, commit and command of a run, for versions.json."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "git": _git_state(),
        "command": sys.argv,
    }


def version_of(name: str) -> str | None:
    """Return the version of a package, or None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Return the commit of the checkout hrseg runs from, and whether files changed; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # site-packages may be inside another checkout
        return None
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(here), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(status)}


class RunFolderWriter(Callback):
    """Write config.yaml and versions.json into the run's folder."""

    def __init__(self, folder: Path, config_text: str, *, resumed: bool = False) -> None:
        self.folder = folder
        self.config_text = config_text
        self.resumed = resumed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the files of a new run."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        log.info("%s in %s", "resuming" if self.resumed else "training", self.folder)
        if not self.resumed:
            self._write()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files of a resumed run, whose checkpoint has been found sound."""
        if self.resumed and trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        machine = json.dumps(describe_machine(), indent=2)
        for name, text in (("config.yaml", self.config_text), ("versions.json", f"{machine}\n")):
            write_text(self.folder / name, text)


class CSVMetricsLogger(Logger):
    """Metrics of a run as one CSV table: a row per logged step, a column per metric.

    A resumed run continues the file. Rows after the resumed step are dropped first, since the run
    writes them again.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        self._last: tuple[dict[str, str], int] = ({}, 0)  # newest row and its byte offset

    @property
    def name(self) -> str:
        """Required by Lightning."""
        return "csv"

    @property
    def version(self) -> str:
        """Required by Lightning."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignore them: config.yaml has them all."""

    @rank_zero_only
    def truncate(self, step: int) -> None:
        """Drop the rows from `step` on, which a resumed run writes again."""
        if self.path.exists():
            columns, rows = self.read()
            self._write(columns, [row for row in rows if int(row["step"]) < step])

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write one row, or add to the newest one if it is of the same step."""
        if not self._columns:
            columns, rows = self.read() if self.path.exists() else (list(COLUMNS), [])
            self._write(columns, rows)
        row = {"step": str(step or 0), **{name: f"{value:.6g}" for name, value in metrics.items()}}
        if "epoch" in metrics:
            row["epoch"] = str(int(metrics["epoch"]) + 1)  # counted from 1, as everywhere else
        newest, start = self._last
        if newest.get("step") == row["step"]:  # a validation after the run is of the epoch before it
            row = {**newest, **row, "epoch": newest.get("epoch") or row.get("epoch", "")}
        else:
            start = self.path.stat().st_size
        new = [name for name in row if name not in self._columns]
        if new:
            _, rows = self.read()
            kept = rows[:-1] if newest.get("step") == row["step"] else rows
            self._write([*self._columns, *new], [*kept, row])
            return
        with self.path.open("r+", newline="", encoding="utf-8") as file:
            file.truncate(start)
            file.seek(start)
            csv.DictWriter(file, self._columns, restval="").writerow(row)
        self._last = (row, start)

    def read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Read columns and rows; a damaged file is set aside, and its whole rows are kept."""
        text = self.path.read_bytes().decode(errors="replace").replace("\0", "\ufffd")
        text = "\n".join(line[:MAX_LINE] for line in text.split("\n"))  # whatever csv's limit, which is global, is
        try:
            header, *cells = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
        except csv.Error:
            header, *cells = [[]]
        columns = header if _is_header(header) else list(COLUMNS)
        rows = [dict(zip(columns, row, strict=True)) for row in cells if _is_row(columns, row)]
        steps = [int(row["step"]) for row in rows]
        if columns is not header or len(rows) < len(cells) or steps != sorted(set(steps)):
            set_aside(self.path, f"{len(rows)} of its {len(cells)} rows are whole and kept.")
            rows = [row for _, row in sorted(dict(zip(steps, rows, strict=True)).items())]
            self._write(columns, rows)
        return columns, rows

    def _write(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        with (
            write_atomic(self.path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows[:-1])
            start = file.tell()
            writer.writerows(rows[-1:])
        self._columns, self._last = columns, (rows[-1] if rows else {}, start)


MAX_LINE = 100_000
MAX_NUMBER = 40
"""Characters of a line, and of a cell, that metrics.csv may have."""


def _is_header(names: list[str]) -> bool:
    """Return whether a row can be the header: different printable names, the step among them."""
    plain = all(name.isprintable() and name and "\ufffd" not in name for name in names)
    return plain and "step" in names and len(set(names)) == len(names)


def _is_row(columns: list[str], cells: list[str]) -> bool:
    """Return whether cells are numbers or empty, as many as there are columns, with a step."""
    if len(cells) != len(columns) or max(map(len, cells)) > MAX_NUMBER:
        return False
    try:
        numbers = {name: float(cell) for name, cell in zip(columns, cells, strict=True) if cell}
    except ValueError:
        return False
    step = cells[columns.index("step")]
    return "step" in numbers and step.isdecimal() and len(step) < 16

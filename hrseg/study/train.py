"""Training of a study's unfinished runs, each in its own process.

A separate process frees its memory, depends on nothing but its seed, may use several devices, and may be killed without
ending the study.
"""

import collections
import contextlib
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

from hrseg.errors import ConfigError, HrsegError, TrainingError, exit_text
from hrseg.evaluation.validate import evaluate
from hrseg.study.study import Plan, Record, StudyRun
from hrseg.study.table import Table
from hrseg.training.run_dir import find_checkpoint
from hrseg.weights import read_checkpoint

log = logging.getLogger(__name__)

MAX_LINES = 50


def train_study(plan: Plan) -> Table:
    """Train every run that is not finished, and write the table after each.

    A failed run is recorded in the table and does not stop the others. An interrupted run is resumed the next time.

    Raises:
        ConfigError: Another process trains this study.
        KeyboardInterrupt: The study was interrupted; the run has written its checkpoint.
    """
    with _exclusive(plan.folder) as lock, _terminable():
        for number, run in enumerate(plan.runs, start=1):
            label = f"[{number}/{len(plan.runs)}] {run.label}"
            if run.state == "finished":
                log.info("%s: finished before, %.2f", label, 100 * (run.record.miou or 0))
                continue
            log.info("%s: %s", label, "goes on" if run.started else "starts")
            record = _train(run, label, lock)
            if record.error is not None:
                log.warning("%s: failed. %s", label, record.error)
            Table.of(plan).write()
        table = Table.of(plan)
        table.write()
    return table


def _train(run: StudyRun, label: str, lock: IO[bytes] | None) -> Record:
    """Train one run, and write its record even after an error."""
    before, started = run.record, time.monotonic()
    if not run.started:
        before = Record()
    if not run.started or not run.config_file.exists():
        run.write_config()
    record = replace(before, finished=False, error=None)
    try:
        error = _fit(run, label, lock)
        if error is None:
            folder = find_checkpoint("last", run.parent, run.name).parent
            record = replace(record, finished=True, miou=_score(run, folder), folder=str(folder))
        else:
            record = replace(record, error=error)
    except HrsegError as error:  # exit code 0, but without a readable result
        record = replace(record, error=str(error))
    finally:
        record = replace(record, seconds=before.seconds + time.monotonic() - started)
        run.write_record(record)
    return record


def _score(run: StudyRun, folder: Path) -> float:
    """Return the best score of the training; on a fold, which chooses nothing, that of the last step."""
    if run.fold:
        records = evaluate(str(folder / "last.ckpt")).records
        records.save(run.ledger_file)
        return float(records.scores()["miou"])
    best = folder / "best.ckpt"
    score = read_checkpoint(best)["hrseg"]["miou"] if best.is_file() else None
    if score is None:
        raise TrainingError(
            f"{folder} holds no score. The validation split must have images with masks; see its metrics.csv."
        )
    return float(score)


def _fit(run: StudyRun, label: str, lock: IO[bytes] | None) -> str | None:
    """Run `hrseg fit`, forward its log, and return its error."""
    words = [sys.executable, "-m", "hrseg", "fit", "--config", str(run.config_file)]
    if run.started:
        words += ["--resume", "last"]
    lines: collections.deque[str] = collections.deque(maxlen=MAX_LINES)
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C does not reach it, only what is sent from here
        # it holds the lock even if this process is killed
        pass_fds=(lock.fileno(),) if lock else (),
    )
    with process:
        try:
            _forward_output(process, label, lines)
        except (KeyboardInterrupt, SystemExit):
            _stop(process, label, lines)
            raise
    return None if process.returncode == 0 else _reason(list(lines), process.returncode)


def _forward_output(process: "subprocess.Popen[str]", label: str, lines: "collections.deque[str]") -> None:
    for line in process.stderr or ():
        lines.append(line.rstrip())
        log.info("%s: %s", label, line.rstrip())
    process.wait()


def _stop(process: "subprocess.Popen[str]", label: str, lines: "collections.deque[str]") -> None:
    """Let the run end its step and write its checkpoint; a second interruption does not wait for it."""
    process.terminate()  # SIGINT would end it inside a step, when half of the norms have counted the batch
    try:
        _forward_output(process, label, lines)
    except (KeyboardInterrupt, SystemExit):
        process.kill()


def _reason(lines: list[str], code: int) -> str:
    """Return the error from the last lines of a process.

    Example:
        >>> _reason(["epoch 1", "hrseg: There is no file", "gone.ckpt."], 2)
        'There is no file gone.ckpt.'
        >>> _reason(["epoch 1"], -9)
        'Its process was ended by signal SIGKILL; unless a user did that, memory ran out.'
    """
    starts = [number for number, line in enumerate(lines) if line.startswith("hrseg: ")]
    if starts:
        return " ".join(lines[starts[-1] :]).removeprefix("hrseg: ")
    if code < 0:
        return f"Its process {exit_text(code)}."
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return f"Its process {exit_text(code)}: {last.strip()}"


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[IO[bytes] | None]:
    """Lock the study's folder against a second process.

    Raises:
        ConfigError: Another process holds it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"Another process is training the study in {folder}. Wait for it, or give this one another --name."
            ) from error
        yield lock


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that the running process can save."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

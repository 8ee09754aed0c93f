import errno
import shutil
import signal

import lightning.pytorch as pl
import pytest
import torch

import hrseg.training.build
from hrseg.cli import EXIT_USAGE, main
from hrseg.errors import DataError, TrainingError
from hrseg.training.fit import fit
from hrseg.training.interrupts import convert_errors
from tests.small import WORDS, small
from tests.training.conftest import last, stop_at


def test_stopped_run_says_how_to_go_on(tmp_path, monkeypatch, caplog):
    stop_at(monkeypatch, 1, signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(small(tmp_path))
    assert "Stopped at step 1" in caplog.text
    assert "--resume last" in caplog.text
    assert signal.getsignal(signal.SIGINT) == before


def test_terminated_run_saves_too(tmp_path, monkeypatch):
    stop_at(monkeypatch, 2, signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        fit(small(tmp_path))
    assert stop.value.code == 143
    assert last(tmp_path / "small")["global_step"] == 2


def test_error_of_a_loader_process_is_one_sentence(tmp_path):
    text = (
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        'last):\n  File "x.py"\nhrseg.errors.DataError: a.png has another size. Mend it.\n'
    )
    with pytest.raises(DataError) as caught, convert_errors():
        raise DataError(text)
    assert str(caught.value) == "a.png has another size. Mend it."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "Make data.batch_size smaller"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "runs/a"), "The disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "runs"), "Read-only.*can be written to"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file", "runs/m.csv"), "removed or renamed"),
        (
            OSError("Original Traceback\nOSError: [Errno 5] Input/output error"),
            "Input/output error",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "data.workers=0"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated."), "resume last"),
    ],
)
def test_exhausted_machine_gives_advice(error, message):
    with pytest.raises(TrainingError, match=message), convert_errors():
        raise error


def test_deleted_run_folder_is_one_paragraph(tmp_path, monkeypatch, capsys):
    def vanish(self, trainer, *args):
        shutil.rmtree(tmp_path / "small")

    Vanish = type("Vanish", (pl.Callback,), {"on_train_batch_start": vanish})
    usual = hrseg.training.build.build_callbacks
    monkeypatch.setattr(hrseg.training.build, "build_callbacks", lambda *a: [*usual(*a), Vanish()])
    words = [*WORDS, f"run.dir={tmp_path}", "trainer.log_every_steps=1", "optim.warmup_steps=0"]
    assert main(["fit", "--config", "demo", *words]) == EXIT_USAGE
    assert "removed or renamed meanwhile" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("verb", ["fit", "study"])
def test_folder_of_runs_that_is_a_file_is_one_paragraph(tmp_path, capsys, verb):
    (tmp_path / "runs").touch()
    words = ["fit", "--config", "demo"] if verb == "fit" else ["study", "demo", "--variant", "x"]
    words += [word for word in WORDS if verb == "fit" or not word.startswith("run.name")]
    assert main([*words, f"run.dir={tmp_path}/runs"]) == EXIT_USAGE
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("hrseg: ")
    assert "Not a directory" in said


def test_bugs_keep_their_traceback():
    with pytest.raises(RuntimeError, match="a bug"), convert_errors():
        raise RuntimeError("a bug")

import errno
import signal

import pytest
import torch

from hrseg.errors import DataError, TrainingError
from hrseg.training.fit import fit
from hrseg.training.interrupts import convert_errors
from tests.small import small
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
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "data.workers=0"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated."), "resume last"),
    ],
)
def test_exhausted_machine_gives_advice(error, message):
    with pytest.raises(TrainingError, match=message), convert_errors():
        raise error


def test_bugs_keep_their_traceback():
    with pytest.raises(RuntimeError, match="a bug"), convert_errors():
        raise RuntimeError("a bug")

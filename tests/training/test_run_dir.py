import contextlib
import csv
import errno
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hrseg
from hrseg.errors import ConfigError
from hrseg.training import run_dir
from hrseg.training.run_dir import (
    COLUMNS,
    CSVMetricsLogger,
    RunFolderWriter,
    describe_machine,
    find_checkpoint,
    new_run_folder,
    run_folder,
)


def checkpoint(folder):
    folder.mkdir(parents=True)
    (folder / "last.ckpt").touch()
    return folder / "last.ckpt"


def rows(file):
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def test_names_of_runs_are_numbered(tmp_path):
    names = []
    for _ in range(3):
        folder = new_run_folder(tmp_path, "road")
        folder.mkdir()
        names.append(folder.name)
    assert names == ["road", "road-2", "road-3"]


def test_runs_that_begin_at_once_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool, contextlib.ExitStack() as stack:
        begin = lambda _: stack.enter_context(run_folder(tmp_path / "runs", "road"))  # noqa: E731
        made = list(pool.map(begin, range(16)))
    assert len(set(made)) == 16


def test_folder_in_use_is_not_resumed(tmp_path):
    with run_folder(tmp_path, "road") as folder:
        (folder / "last.ckpt").touch()
        with (
            pytest.raises(ConfigError, match="Another process is training in"),
            run_folder(tmp_path, "road", folder),
        ):
            pass
    with run_folder(tmp_path, "road", folder) as again:
        assert again == folder
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]


def test_run_that_fails_before_it_began_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no data"), run_folder(tmp_path, "road"):
        raise ValueError("no data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_lock_ends_with_its_process_although_a_forked_one_lives_on(tmp_path):
    code = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from hrseg.training.run_dir import run_folder\n"
        "with run_folder(Path('.'), 'road') as folder:\n"
        "    (folder / 'last.ckpt').touch()\n"
        "    child = os.fork()\n"
        "    if child:\n"
        "        print(child, flush=True)\n"
        "    time.sleep(60)\n"
    )
    root = str(Path(run_dir.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    child = int(process.stdout.readline())
    try:
        with (
            pytest.raises(ConfigError, match="Another process"),
            run_folder(tmp_path, "road", tmp_path / "road"),
        ):
            pass
        process.kill()
        process.wait()
        with run_folder(tmp_path, "road", tmp_path / "road"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def refuse(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_dir.FileLock, "acquire", refuse)
    with run_folder(tmp_path, "road") as folder:
        (folder / "config.yaml").touch()
    assert "without locks" in caplog.text


def test_temporary_files_of_killed_runs_go_at_the_next_start(tmp_path):
    folder = tmp_path / "road"
    checkpoint(folder)
    (folder / "pictures").mkdir()
    for name in (".last-0123456789ab.ckpt", "pictures/.epoch_0001-0123456789ab.png"):
        (folder / name).touch()
    (folder / ".mine").touch()
    with run_folder(tmp_path, "road", folder):
        pass
    names = {path.name for path in folder.rglob("*")}
    assert names == {"last.ckpt", ".mine", "pictures"}


@pytest.mark.parametrize("name", ["", "..", "a/b", "../up"])
def test_name_that_is_no_folder(tmp_path, name):
    with pytest.raises(ConfigError, match="must be the name of one folder"):
        new_run_folder(tmp_path, name)


def test_last_is_the_newest_run_of_the_name(tmp_path):
    checkpoint(tmp_path / "road-9")
    newest = checkpoint(tmp_path / "road-10")
    checkpoint(tmp_path / "road-more")
    (tmp_path / "road-11").mkdir()  # started, never saved
    assert find_checkpoint("last", tmp_path, "road") == newest


def test_resume_from_a_folder_or_a_file(tmp_path):
    file = checkpoint(tmp_path / "road")
    assert find_checkpoint(str(file.parent), tmp_path, "x") == file
    assert find_checkpoint(str(file), tmp_path, "x") == file


def test_nothing_to_resume(tmp_path):
    checkpoint(tmp_path / "road")
    with pytest.raises(ConfigError, match=r"no run 'raod' .* Did you mean 'road'\?"):
        find_checkpoint("last", tmp_path, "raod")
    with pytest.raises(ConfigError, match="There is no checkpoint"):
        find_checkpoint("gone.ckpt", tmp_path, "road")


def test_machine_is_plain_json():
    machine = describe_machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["packages"]["torch"]


def test_folder_holds_config_and_versions(tmp_path):
    class Trainer:
        is_global_zero = True

    RunFolderWriter(tmp_path / "run", "model: {}\n").setup(Trainer(), None, "fit")
    assert (tmp_path / "run" / "config.yaml").read_text() == "model: {}\n"
    versions = json.loads((tmp_path / "run" / "versions.json").read_text())
    assert "python" in versions
    root = Path(hrseg.__file__).parents[1]
    if (root / ".git").exists():
        head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert versions["git"]["commit"] == head.stdout.strip()
    else:  # installed
        assert versions["git"] is None


def test_numbers_of_one_step_share_a_row(tmp_path):
    log = CSVMetricsLogger(tmp_path / "metrics.csv")
    log.log_metrics({"train/loss": 0.5}, 3)
    log.log_metrics({"val/miou": 0.25, "epoch": 0}, 3)
    log.log_metrics({"train/loss": 0.4}, 7)
    table = rows(log.path)
    assert [row["step"] for row in table] == ["3", "7"]
    assert (table[0]["train/loss"], table[0]["val/miou"], table[0]["epoch"]) == ("0.5", "0.25", "1")
    assert tuple(table[0]) == COLUMNS


def test_new_number_adds_a_column(tmp_path):
    log = CSVMetricsLogger(tmp_path / "metrics.csv")
    log.log_metrics({"train/loss": 0.5}, 1)
    log.log_metrics({"mine": 2.0}, 1)
    log.log_metrics({"mine": 3.0}, 2)
    assert [(row["train/loss"], row["mine"]) for row in rows(log.path)] == [("0.5", "2"), ("", "3")]


def test_resumed_run_goes_on_in_the_same_file(tmp_path):
    old = CSVMetricsLogger(tmp_path / "metrics.csv")
    for step in range(6):
        old.log_metrics({"train/loss": step, "mine": 1.0}, step)
    new = CSVMetricsLogger(tmp_path / "metrics.csv")
    new.truncate(4)
    new.log_metrics({"train/loss": 40.0}, 4)
    assert [row["train/loss"] for row in rows(new.path)] == ["0", "1", "2", "3", "40"]
    assert rows(new.path)[0]["mine"] == "1"


TABLE = "step,epoch,train/loss\n1,0,0.5\n3,0,0.25\n"


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (TABLE + "9,1,3.7,4.3,0.001,1,3.7\n11,1,0.2\n", [1, 3, 11]),  # two rows torn into one
        (TABLE + "3,0,0.25\n1,0,0.5\n", [1, 3]),  # two runs wrote
        (TABLE + "5,0", [1, 3]),
        (TABLE + "5,0,0.1\0\n", [1, 3]),
        (TABLE + "\u00b2,0,0.1\n", [1, 3]),
        (TABLE + f"{'9' * 5000},0,0.1\n", [1, 3]),
        (TABLE + '5,0,"0.1\n6,0,0.1\n', [1, 3]),
        (TABLE + "5,0," + "1" * 200_000 + "\n", [1, 3]),
        ("epoch,loss\n1,2\n", []),
        ("step,step\n1,2\n", []),
        ("", []),
        (b"\xff\xfe\x00\x81" * 50, []),
    ],
)
def test_damaged_metrics_are_set_aside_and_their_whole_rows_kept(tmp_path, caplog, text, steps):
    file = tmp_path / "metrics.csv"
    content = text if isinstance(text, bytes) else text.encode()
    file.write_bytes(content)
    log = CSVMetricsLogger(file)
    log.truncate(20)
    log.log_metrics({"train/loss": 0.125}, 20)
    assert [int(row["step"]) for row in rows(file)] == [*steps, 20]
    assert (tmp_path / "metrics.csv.damaged").read_bytes() == content
    assert caplog.text.count("was damaged") == 1


def test_metrics_that_are_whole_stay_where_they_are(tmp_path, caplog):
    file = tmp_path / "metrics.csv"
    file.write_text(TABLE)
    CSVMetricsLogger(file).truncate(3)
    assert file.read_text().splitlines() == TABLE.splitlines()[:2]
    assert caplog.text == ""

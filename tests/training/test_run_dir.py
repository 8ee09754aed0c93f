import csv
import json

import pytest

from hrseg.errors import ConfigError
from hrseg.training.run_dir import (
    COLUMNS,
    CSVMetricsLogger,
    RunFolderWriter,
    describe_machine,
    find_checkpoint,
    new_run_folder,
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
    assert "python" in json.loads((tmp_path / "run" / "versions.json").read_text())


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

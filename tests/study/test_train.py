import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hrseg.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, main
from hrseg.config import load_config
from hrseg.data.synthetic import write_scenes
from hrseg.errors import ConfigError, TrainingError
from hrseg.evaluation.validate import evaluate
from hrseg.metrics.records import read_records
from hrseg.study import Study, plan_study, train, train_study
from hrseg.study.study import Record
from hrseg.training.fit import fit


@pytest.mark.slow
def test_removed_run_is_trained_again(recipe, trained, tmp_path):
    study = Study("s", recipe, {"plain": ()})
    train_study(plan_study(study))
    folder = tmp_path / "runs/s/plain/seed_0"
    (folder / "last.ckpt").unlink()
    folder.rmdir()
    assert plan_study(study).runs[0].state == "to do"
    train_study(plan_study(study))
    assert len(trained) == 2


def test_time_adds_up_over_attempts(recipe, monkeypatch):
    run = plan_study(Study("s", recipe, {"plain": ()})).runs[0]
    (run.parent / run.name).mkdir(parents=True)
    (run.parent / run.name / "last.ckpt").touch()
    run.write_config()
    run.write_record(Record(seconds=100.0))
    assert run.state == "half done"
    monkeypatch.setattr(train, "_fit", lambda *_: "no")
    assert 100 < train._train(run, "", None).seconds < 160


def test_run_without_a_score_is_a_failure(recipe, trained, monkeypatch):
    def none(run, folder):
        raise TrainingError("holds no score")

    monkeypatch.setattr(train, "_score", none)
    table = train_study(plan_study(Study("s", recipe, {"plain": ()})))
    assert table.failures == {"plain (seed 0)": "holds no score"}


def test_two_processes_do_not_train_one_study(recipe, trained):
    plan = plan_study(Study("s", recipe, {"plain": ()}))
    with train._exclusive(plan.folder), pytest.raises(ConfigError, match="Another process"):
        train_study(plan)


@pytest.mark.slow
def test_variant_scores_the_same_alone_and_inside_a_study_and_one_failure_stops_nothing(recipe, tmp_path, capsys):
    variants = [
        *("--variant", "gone model.weights=gone.ckpt"),
        *("--variant", "plain"),
        *("--variant", "unet model.backbone=resnet18 model.head=unet"),
    ]
    assert main(["study", str(recipe), *variants, "--name", "s"]) == EXIT_PARTIAL
    printed = capsys.readouterr()
    assert printed.out.startswith("| variant")
    assert "gone (seed 0) failed: " in printed.out
    assert "1 of 3 runs failed" in printed.err
    assert (tmp_path / "runs/s/table.md").read_text() == printed.out
    config = load_config("runs/s/unet/seed_0.yaml", ["run.dir=alone"])
    alone = fit(config)  # after other networks of this process
    rows = {r["variant"]: r for r in json.loads(Path("runs/s/table.json").read_text())["rows"]}
    assert rows["unet"]["miou"] == pytest.approx(alone.best_score, rel=1e-6)  # float32 there
    assert rows["unet"]["miou"] != rows["plain"]["miou"]
    assert rows["gone"]["finished"] == 0


@pytest.mark.slow
def test_folds_are_trained_on_the_rest_and_scored_after_the_last_step(recipe, tmp_path, capsys, monkeypatch):
    def in_this_process(run, label, lock):
        assert main(["fit", "--config", str(run.config_file)]) == EXIT_OK

    monkeypatch.setattr(train, "_fit", in_this_process)
    write_scenes(tmp_path / "mine", "folder", {"train": 6, "val": 2}, (32, 64))
    assert main(["data", "split", "mine", "--from", "all", "--folds", "2"]) == EXIT_OK
    data = ["data.layout=folder", f"data.root={tmp_path / 'mine'}"]
    assert main(["study", str(recipe), "--variant", "plain", "--name", "s", "--folds", "2", *data]) == EXIT_OK
    assert "mean over 2 folds" in " ".join(capsys.readouterr().out.split())
    row = json.loads(Path("runs/s/table.json").read_text())["rows"][0]
    ledgers = [read_records(f"runs/s/plain/seed_0_fold_{fold}.npz") for fold in (1, 2)]
    assert sorted(name for each in ledgers for name in each.names) == sorted(
        str(path.relative_to(tmp_path / "mine").with_suffix("")) for path in (tmp_path / "mine").glob("images/*/*")
    )
    assert row["miou"] == pytest.approx(sum(each.scores()["miou"] for each in ledgers) / 2)
    again = evaluate("runs/s/plain/seed_0_fold_2/last.ckpt").records
    assert (again.matrices == ledgers[1].matrices).all()
    with pytest.raises(ConfigError, match="from its folds"):
        plan_study(Study("s", recipe, {"plain": ()}, folds=2), ["data.val_split=val"])

    (tmp_path / "s.yaml").write_text("recipe: tiny.yaml\nvariants: {plain: []}\nfolds: 2\n")
    for score, code in ((100 * row["miou"], EXIT_OK), (100 * row["miou"] + 1, EXIT_PARTIAL)):
        claim = {"extends": ["tiny.yaml"], "published": {"study": "s.yaml", "scores": {"whole": score}}}
        (tmp_path / "plain.yaml").write_text(yaml.safe_dump(claim))
        capsys.readouterr()
        assert main(["reproduce", "plain.yaml", "--json", *data]) == code
        result = json.loads(capsys.readouterr().out)
        assert result["got"] == pytest.approx(100 * row["miou"])
        assert result["within_tolerance"] is (code == EXIT_OK)
    assert main(["reproduce", "plain.yaml", "--plan", *data]) == EXIT_OK
    assert "2 runs" in capsys.readouterr().out
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(claim))
    assert main(["reproduce", "other.yaml", *data]) == EXIT_USAGE
    assert "no variant 'other'" in capsys.readouterr().err


@pytest.mark.slow
def test_stopped_study_goes_on_where_it_was(recipe, tmp_path, caplog):
    command = [sys.executable, "-m", "hrseg", "study", str(recipe), "--name", "s"]
    command += ["--variant", "plain", "trainer.max_epochs=7"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = tmp_path / "runs/s/plain/seed_0/last.ckpt"
    ends = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, said
    assert "Stopped at step" in said
    record = json.loads((tmp_path / "runs/s/plain/seed_0.json").read_text())
    assert (record["finished"], record["error"]) == (False, None)
    caplog.set_level(logging.INFO, "hrseg")
    words = ["--variant", "plain", "trainer.max_epochs=7", "--name", "s"]
    assert main(["study", str(recipe), *words]) == EXIT_OK
    assert "goes on" in caplog.text
    unbroken = fit(load_config("runs/s/plain/seed_0.yaml", ["run.dir=alone"]))
    rows = json.loads((tmp_path / "runs/s/table.json").read_text())["rows"]
    assert rows[0]["miou"] == pytest.approx(unbroken.best_score, rel=1e-6)
    assert not (tmp_path / "runs/s/plain/seed_0-2").exists()


def test_killed_run_is_named_by_its_signal(recipe, monkeypatch):
    plan = plan_study(Study("s", recipe, {"plain": ()}))
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    original = subprocess.Popen

    def killed(words, **options):
        return original([sys.executable, "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", killed)
    table = train_study(plan)
    assert "signal SIGKILL" in table.failures["plain (seed 0)"]

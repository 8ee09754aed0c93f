import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import hrseg
from hrseg.cli import INTERRUPTED, OK, OURS, main
from hrseg.config import PACKAGED_CONFIGS, load_config
from hrseg.errors import ConfigError, TrainingError
from hrseg.study import Study, Table, find_study, plan_study, read_study, train, train_study
from hrseg.study.study import Record, list_studies, parse_variants
from hrseg.training.fit import fit
from tests.small import WORDS

TINY = tuple(word for word in WORDS if not word.startswith("run."))
PAIR = {"plain": (), "final": ("model.exchange=final",)}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(hrseg.__file__).parents[1]))  # for the runs
    return tmp_path


@pytest.fixture
def recipe(tmp_path):
    """A recipe file of the smallest run."""
    path = tmp_path / "tiny.yaml"
    tree: dict = {}
    for word in TINY:
        key, value = word.split("=")
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = yaml.safe_load(value)
    path.write_text(yaml.safe_dump(tree))
    return path


def write(path, **tree):
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def trained(monkeypatch):
    """Stand-in for training: notes what would run and gives a score that depends on the seed."""
    ran = []

    def pretend(run, label, lock):
        ran.append((run.variant, run.seed))
        if run.variant == "broken":
            return "The disk is full."
        folder = run.parent / run.name
        folder.mkdir(parents=True)
        (folder / "last.ckpt").touch()
        return None

    monkeypatch.setattr(train, "_fit", pretend)
    monkeypatch.setattr(train, "_score", lambda folder: 0.5 + 0.1 * int(folder.name[-1]))
    return ran


# Definition


@pytest.mark.slow
def test_packaged_studies_load_and_build():
    for name, title in list_studies().items():
        plan = plan_study(read_study(name))
        assert title
        assert len(plan.runs) == len(plan.study.variants) > 3


def test_exchange_study_differs_between_all_its_variants():
    study = read_study("exchange")
    configs = {load_config(study.recipe, [*study.words, *w]).model for w in study.variants.values()}
    assert len(configs) == 4
    assert "small_v2" in next(iter(configs)).backbone  # more than one module in a stage


def test_headers_of_studies_are_letters_to_a_stranger():
    for file in PACKAGED_CONFIGS.glob("studies/*.yaml"):
        text = file.read_text(encoding="utf-8")
        assert all(f"# {word}:" in text for word in ("Source", "Expects", "Cost"))


def test_study_file_is_read(tmp_path, recipe):
    path = write(
        tmp_path / "s.yaml",
        recipe="tiny",
        seeds=[3, 1],
        words="data.flip=0",
        variants={"a": None, "b": ["optim.lr=0.1"]},
    )
    study = read_study(path)
    assert (study.name, study.seeds, study.words) == ("s", (3, 1), ("data.flip=0",))
    assert study.variants == {"a": (), "b": ("optim.lr=0.1",)}
    assert study.recipe.resolve() == recipe


def test_recipe_beside_the_file_comes_first(tmp_path, monkeypatch, recipe):
    path = write(tmp_path / "s.yaml", recipe="tiny.yaml", variants={"a": None})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert read_study(path).recipe == recipe


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"recipe": "demo"}, "needs 'recipe: NAME' and 'variants:'"),
        ({"recipe": "demo", "variants": {}}, "has no variants"),
        ({"recipe": "demo", "varaints": {"a": None}}, "Did you mean 'variants'?"),
        ({"recipe": "dmo", "variants": {"a": None}}, "Did you mean 'demo'?"),
        ({"recipe": "demo", "variants": {"a/b": None}}, "is not a folder name"),
        ({"recipe": "demo", "variants": {"a": ["model.head"]}}, "is not key=value"),
        ({"recipe": "demo", "variants": {"a": [{"x": 1}]}}, "in quotes"),
        ({"recipe": "demo", "variants": {"a": ["run.seed=3"]}}, "set by the study"),
        ({"recipe": "demo", "seeds": [1, 1], "variants": {"a": None}}, "different whole numbers"),
        ({"recipe": "demo", "seeds": ["x"], "variants": {"a": None}}, "a list of whole numbers"),
    ],
)
def test_mistakes_in_a_study_file_are_explained(tmp_path, tree, message):
    with pytest.raises(ConfigError, match=message):
        read_study(write(tmp_path / "s.yaml", **tree))


def test_unreadable_study_file(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("variants: [")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        read_study(path)
    path.write_text("- a")
    with pytest.raises(ConfigError, match="is not a study"):
        read_study(path)
    with pytest.raises(ConfigError, match="Did you mean 'family'"):
        find_study("famliy")


def test_variants_of_the_command_line():
    assert parse_variants(["a", "b 'loss.terms={ohem: 1}' x.y=2"]) == {
        "a": (),
        "b": ("loss.terms={ohem: 1}", "x.y=2"),
    }
    for text in ("a'", "", "model.head=v1"):
        with pytest.raises(ConfigError, match="Right would be: --variant"):
            parse_variants([text])
    with pytest.raises(ConfigError, match="is there twice"):
        parse_variants(["a", "a x.y=1"])


# Plan


def test_plan_gives_each_run_its_seed_and_folder_and_writes_nothing(tmp_path, recipe):
    study = Study("s", recipe, PAIR, words=("data.flip=0",), seeds=(0, 7))
    before = set(tmp_path.rglob("*"))
    plan = plan_study(study, ["optim.lr=0.5"])
    assert set(tmp_path.rglob("*")) == before
    assert [(run.variant, run.seed) for run in plan.runs] == [
        *(("plain", 0), ("final", 0)),
        *(("plain", 7), ("final", 7)),
    ]
    config = plan.runs[-1].config
    assert (config.run.dir, config.run.name, config.run.seed) == ("runs/s/final", "seed_7", 7)
    assert (config.data.flip, config.optim.lr, config.model.exchange) == (0, 0.5, "final")
    assert plan.costs["plain"].parameters > plan.costs["final"].parameters
    assert plan.costs["plain"].size == (32, 64)
    assert plan.text().count("to do") == 4


@pytest.mark.slow
def test_words_of_a_variant_win_over_those_for_all(recipe):
    study = Study("s", recipe, {"a": ("optim.lr=0.2",)}, words=("optim.lr=0.1",))
    assert plan_study(study).runs[0].config.optim.lr == 0.2
    assert plan_study(study, ["optim.lr=0.3"]).runs[0].config.optim.lr == 0.3


@pytest.mark.slow
def test_mistake_in_a_variant_names_it_before_anything_is_trained(recipe):
    for word in ("model.head=unt", "model.haed=v1"):
        with pytest.raises(ConfigError, match=r"Variant 'bad' of study 's': .*Did you mean"):
            plan_study(Study("s", recipe, {"good": (), "bad": (word,)}))
    with pytest.raises(ConfigError, match=r"run\.dir differently"):
        plan_study(Study("s", recipe, {"a": (), "b": ("run.dir=there",)}))


# Training, pretended


@pytest.mark.slow
def test_finished_runs_are_not_trained_again_and_failed_ones_are(recipe, trained):
    study = Study("s", recipe, {"broken": (), **PAIR})
    table = train_study(plan_study(study))
    assert trained == [("broken", 0), ("plain", 0), ("final", 0)]
    assert table.failures == {"broken (seed 0)": "The disk is full."}
    again = train_study(plan_study(study))
    assert trained[3:] == [("broken", 0)]
    assert [row.miou for row in again.rows] == [None, 0.5, 0.5]


def test_more_seeds_and_variants_train_only_what_is_new(recipe, trained):
    train_study(plan_study(Study("s", recipe, {"plain": ()})))
    train_study(plan_study(Study("s", recipe, PAIR, seeds=(0, 2))))
    assert trained == [("plain", 0), ("final", 0), ("plain", 2), ("final", 2)]


@pytest.mark.slow
def test_other_settings_do_not_join_a_finished_study(recipe, trained):
    study = Study("s", recipe, PAIR)
    train_study(plan_study(study))
    with pytest.raises(ConfigError, match=r"'plain' in runs/s was trained .*optim.lr 0.01 → 0.5"):
        plan_study(study, ["optim.lr=0.5"])
    plan_study(replace(study, name="other"), ["optim.lr=0.5"])
    plan_study(study, ["data.workers=1"])  # says how, not what


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
    def none(folder):
        raise TrainingError("holds no score")

    monkeypatch.setattr(train, "_score", none)
    table = train_study(plan_study(Study("s", recipe, {"plain": ()})))
    assert table.failures == {"plain (seed 0)": "holds no score"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text"),
    [
        *(("seed_0.json", text) for text in ("{", "[]", "\x00", '{"finished": 7}')),
        ("seed_0.json", '{"finished": true, "seconds": "x", "miou": 1, "folder": 3, "error": []}'),
        ("seed_0.yaml", "model: ["),
    ],
)
def test_damaged_files_of_a_study_are_set_aside(recipe, trained, caplog, file, text):
    study = Study("s", recipe, {"plain": ()})
    train_study(plan_study(study))
    path = plan_study(study).runs[0].parent / file
    path.write_text(text)
    assert train_study(plan_study(study)).failures == {}
    assert path.with_name(f"{file}.damaged").read_text() == text
    assert plan_study(study).runs[0].state == "finished"
    assert caplog.text.count("was damaged") == 1


def test_two_processes_do_not_train_one_study(recipe, trained):
    plan = plan_study(Study("s", recipe, {"plain": ()}))
    with train._exclusive(plan.folder), pytest.raises(ConfigError, match="Another process"):
        train_study(plan)


# Table


def test_table_gives_mean_and_spread_over_seeds(recipe):
    plan = plan_study(Study("s", recipe, {"a": (), "b": ()}, seeds=(0, 1, 2)))
    scores = {"a": [0.80, 0.84, 0.82], "b": [0.5, None, None]}
    records = tuple(
        Record(miou is not None, 60.0, miou, "x", None if miou else "no memory")
        for run in plan.runs
        for miou in [scores[run.variant][run.seed]]
    )
    table = Table(plan, records)
    first, second = table.rows
    assert (first.miou, first.spread, first.minutes) == pytest.approx((0.82, 0.02, 1.0))
    assert (second.miou, second.spread, second.finished) == (0.5, None, 1)
    text = table.text()
    assert "82.00 ± 2.00" in text
    assert "50.00 (1 of 3 runs)" in text
    assert "b (seed 1) failed: no memory" in text
    assert len({len(line) for line in text.splitlines()[:4]}) == 1  # aligned


@pytest.mark.slow
def test_table_is_kept_three_times(recipe, trained, tmp_path):
    train_study(plan_study(Study("s", recipe, {**PAIR, "broken": ()}, seeds=(0, 1))))
    folder = tmp_path / "runs" / "s"
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    content = json.loads((folder / "table.json").read_text())
    text = (folder / "table.md").read_text()
    assert [row["variant"] for row in rows] == ["plain", "final", "broken"]
    assert float(rows[0]["miou"]) == pytest.approx(0.55) == content["rows"][0]["miou"]
    assert content["rows"][1]["words"] == ["model.exchange=final"]
    assert [run["seed"] for run in content["rows"][0]["each_run"]] == [0, 1]
    assert text.count(" failed |") == 1
    assert not list(folder.glob(".*-*"))  # no temporary file


# Training, really


@pytest.mark.slow
def test_variant_scores_the_same_alone_and_inside_a_study_and_one_failure_stops_nothing(
    recipe, tmp_path, capsys
):
    variants = [
        *("--variant", "gone model.weights=gone.ckpt"),
        *("--variant", "plain"),
        *("--variant", "unet model.backbone=resnet18 model.head=unet"),
    ]
    assert main(["study", str(recipe), *variants, "--name", "s"]) == OURS
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
def test_stopped_study_goes_on_where_it_was(recipe, tmp_path, caplog):
    command = [sys.executable, "-m", "hrseg", "study", str(recipe), "--name", "s"]
    command += ["--variant", "plain", "trainer.max_epochs=14"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = tmp_path / "runs/s/plain/seed_0/last.ckpt"
    ends = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, said
    assert "Stopped at step" in said
    record = json.loads((tmp_path / "runs/s/plain/seed_0.json").read_text())
    assert (record["finished"], record["error"]) == (False, None)
    caplog.set_level(logging.INFO, "hrseg")
    words = ["--variant", "plain", "trainer.max_epochs=14", "--name", "s"]
    assert main(["study", str(recipe), *words]) == OK
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


@pytest.mark.slow
def test_dry_run_trains_nothing(recipe, capsys):
    words = ["--variant", "plain", "--variant", "v1 model.head=v1", "--seeds", "0,1", "--dry-run"]
    assert main(["study", str(recipe), *words]) == OK
    assert capsys.readouterr().out.count("to do") == 4
    assert not os.path.exists("runs")
    assert main(["study", str(recipe), "--variant", "plain", "--seeds", "0;1"]) == 2
    assert "--seeds is '0;1'" in capsys.readouterr().err

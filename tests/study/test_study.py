import os
from dataclasses import replace

import pytest
import yaml

from hrseg.cli import EXIT_OK, main
from hrseg.config import PACKAGED_CONFIGS, load_config
from hrseg.errors import ConfigError
from hrseg.study import Study, find_study, plan_study, read_study, train_study
from hrseg.study.study import list_studies, parse_variants
from tests.study.conftest import PAIR


def write(path, **tree):
    path.write_text(yaml.safe_dump(tree))
    return path


# Definition


@pytest.mark.slow
def test_packaged_studies_load_and_build():
    for name, title in list_studies().items():
        plan = plan_study(replace(read_study(name), folds=0))  # the lists of folds are the data's
        assert title
        assert len(plan.runs) == len(plan.study.variants) > 1


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
    write_hint = tmp_path / "elsewhere"
    write_hint.mkdir()
    monkeypatch.chdir(write_hint)
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
    with pytest.raises(ConfigError, match="not valid YAML"):
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_dry_run_trains_nothing(recipe, capsys):
    words = ["--variant", "plain", "--variant", "v1 model.head=v1", "--seeds", "0,1", "--dry-run"]
    assert main(["study", str(recipe), *words]) == EXIT_OK
    assert capsys.readouterr().out.count("to do") == 4
    assert not os.path.exists("runs")
    assert main(["study", str(recipe), "--variant", "plain", "--seeds", "0;1"]) == 2
    assert "--seeds is '0;1'" in capsys.readouterr().err


def test_folds_must_be_those_of_the_dataset(recipe, folds):
    words = folds(4)
    study = Study("s", recipe, {"a": ()}, folds=2)
    with pytest.raises(ConfigError, match=r"divided into 4 folds, and the study has 2.*--folds 2 --replace"):
        plan_study(study, words)
    with pytest.raises(ConfigError, match=r"data\.layout is synthetic"):
        plan_study(study)
    with pytest.raises(ConfigError, match="has 1 folds"):
        Study("s", recipe, {"a": ()}, folds=1)

"""Composition of recipes and overrides; errors name file, line, key and what would be right."""

import os
import time
from pathlib import Path

import pytest

from hrseg.config import (
    config_from_dict,
    config_to_dict,
    list_recipes,
    load_config,
    load_config_with_origins,
)
from hrseg.config.values import read_yaml
from hrseg.errors import ConfigError
from tests.config.conftest import BASE, refuse


def test_words_win_over_file_and_file_over_default(here: Path) -> None:
    config = load_config("run.yaml", ["data.batch_size=2", "data.batch_size=4"])
    assert (config.data.batch_size, config.data.flip, config.trainer.max_epochs) == (4, 0.5, 1)


def test_extended_files_merge_left_to_right_then_the_file(here: Path) -> None:
    (here / "a.yaml").write_text("optim: {lr: 1, momentum: 0.1, weight_decay: 0.1}")
    (here / "b.yaml").write_text("optim: {lr: 2, momentum: 0.2}")
    (here / "c.yaml").write_text("extends: [a.yaml, b]\noptim: {lr: 3}\n" + BASE)
    optim = load_config("c.yaml").optim
    assert (optim.lr, optim.momentum, optim.weight_decay) == (3, 0.2, 0.1)


def test_extends_looks_beside_the_file_then_among_the_packaged(here: Path) -> None:
    (here / "deep").mkdir()
    (here / "deep/near.yaml").write_text("run: {seed: 7}")
    (here / "deep/mine.yaml").write_text(f"extends: [near.yaml, base/optim_sgd_poly.yaml]\n{BASE}")
    config, origins = load_config_with_origins("deep/mine.yaml")
    assert config.run.seed == 7
    assert origins["optim.name"].startswith("packaged configs/base/optim_sgd_poly.yaml:")


def test_a_config_in_the_configs_folder_hides_the_packaged_one(here: Path) -> None:
    (here / "configs").mkdir()
    (here / "configs/demo.yaml").write_text("# Mine.\nrun: {seed: 5}\n" + BASE)
    assert load_config("demo").run.seed == 5
    assert list_recipes()["demo"] == "Mine."


def test_a_file_that_extends_itself_is_refused(here: Path) -> None:
    (here / "a.yaml").write_text("extends: b.yaml")
    (here / "b.yaml").write_text("extends: a.yaml")
    assert refuse("a.yaml") == "a.yaml extends itself through b.yaml."


def test_mappings_merge_and_lists_replace(here: Path) -> None:
    (here / "m.yaml").write_text(f"extends: run\nloss: {{terms: {{ohem: 1}}}}\n{BASE}")
    config = load_config("m.yaml", ["loss.terms.dice=0.5", "trainer.loggers=[csv]"])
    assert config.loss.terms == {"ohem": 1.0, "dice": 0.5}
    assert config.trainer.loggers == ["csv"]


def test_a_loss_of_weight_zero_is_removed(here: Path) -> None:
    config = load_config("run.yaml", ["loss.terms={ohem: 1, dice: 1}", "loss.terms.dice=0"])
    assert config.loss.terms == {"ohem": 1.0}
    assert "every weight is 0" in refuse("run.yaml", "loss.terms={dice: 0}")


def test_a_link_follows_the_command_line(here: Path) -> None:
    (here / "l.yaml").write_text(BASE + "run: {seed: '${data.batch_size}'}\n")
    assert load_config("l.yaml", ["data.batch_size=9"]).run.seed == 9


def test_run_is_named_after_its_file(here: Path) -> None:
    assert load_config("run.yaml").run.name == "run"
    assert load_config("run.yaml", ["run.name=other"]).run.name == "other"


def test_words_change_a_config_from_a_checkpoint(here: Path) -> None:
    values = config_to_dict(load_config("run.yaml"))
    assert config_from_dict(values, ["data.flip=0"]).data.flip == 0
    values["data"]["color"] = 1
    with pytest.raises(ConfigError, match=r"best\.ckpt: data\.color is not an option"):
        config_from_dict(values, source="best.ckpt")


def test_unknown_key_is_refused_with_file_line_and_suggestion(here: Path) -> None:
    (here / "bad.yaml").write_text("data:\n  layout: synthetic\n  bath_size: 3\n")
    message = refuse("bad.yaml")
    assert message == "bad.yaml:3: data.bath_size is not an option. Did you mean 'data.batch_size'?"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("batch_size=3", "batch_size is not an option. Did you mean 'data.batch_size'?"),
        ("modle.head=v2", "modle is not an option. Did you mean 'model'?"),
        ("data.zzz=1", "data.zzz is not an option. All there are: hrseg config explain data"),
        ("data=3", "data is a section, not a value. Set data.layout, for example."),
        ("optim.lr=high", "optim.lr is 'high'. It must be a number, such as 0.01."),
        ("data.workers=1.5", "data.workers is 1.5. It must be a whole number or null."),
        ("data.batch_size=true", "data.batch_size is true. It must be a whole number."),
        ("trainer.compile=perhaps", "trainer.compile is 'perhaps'. It must be true or false."),
        ("trainer.loggers=csv", "trainer.loggers is 'csv'. It must be a list of words."),
        ("loss.terms={a: b}", "loss.terms is {a: b}. It must be a mapping from names to numbers."),
        ("data.crop=[1,2,3]", "data.crop is [1, 2, 3]. It must be a list of 2 whole numbers"),
        ("data.crop=[a,2]", "data.crop is [a, 2]. It must be a list of 2 whole numbers"),
        ("data.crop=512", "data.crop is 512. It must be a list of 2 whole numbers"),
        ("data.crop=[0,512]", "data.crop is [0, 512]. It must be above 0."),
        ("data.flip=1.5", "data.flip is 1.5. It must be at least 0, at most 1."),
        ("optim.lr=.inf", "optim.lr is .inf. It must be above 0 and finite."),
        ("optim.lr=.nan", "optim.lr is .nan. It must be above 0 and finite."),
        ("model.resize=bilinaer", "Did you mean 'bilinear'?"),
        ("data.root=${oc.env:HOME}", "functions and environment variables are not read"),
        ("data.workers=${data.zzz}", "data.workers is '${data.zzz}', and that does not lead to"),
        ("data.workers=${optim.lr}", "that does not lead to a whole number or null"),
        ("optim.lr=${optim.lr}", "that does not lead to a number"),
    ],
)
def test_a_wrong_word_says_what_would_be_right(here: Path, word: str, message: str) -> None:
    text = refuse("run.yaml", word)
    assert text.startswith("command line: ")
    assert message in text


def test_a_missing_layout_is_named(here: Path) -> None:
    assert refuse(None, "trainer.max_epochs=1").startswith("data.layout is not set.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [", "bad.yaml:1: not valid YAML"),
        ("data:\n\tflip: 1", "bad.yaml:2: not valid YAML"),
        ("run: {seed: 1}\nrun: {seed: 2}", "bad.yaml:2: not valid YAML: found duplicate key run"),
        ("- 1", "holds no sections"),
        ("just words", "holds no sections"),
        ("extends: {a: 1}", "bad.yaml:1: extends must be a list of file names"),
        ("extends: nowhere.yaml", "There is no config 'nowhere.yaml'"),
        ("", "data.layout is not set"),
        ("# nothing yet\ndata:\n", "data.layout is not set"),
    ],
)
def test_a_file_that_is_not_a_recipe(here: Path, text: str, message: str) -> None:
    (here / "bad.yaml").write_text(text)
    assert message in refuse("bad.yaml")


def test_a_binary_file_is_not_a_recipe(here: Path) -> None:
    (here / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert "bad.yaml cannot be read" in refuse("bad.yaml")


def test_a_misspelt_recipe_is_suggested(here: Path) -> None:
    text = refuse("dmo")
    assert text.endswith("Did you mean 'demo'? To see all recipes: hrseg config list")
    assert "ade20k" not in text  # fifty names would hide the one


def test_a_word_without_equals_or_with_broken_yaml_is_refused(here: Path) -> None:
    assert "'demo' is not key=value" in refuse("run.yaml", "demo")
    assert "The value '[1' of data.crop is not valid YAML" in refuse("run.yaml", "data.crop=[1")


HOSTILE = {
    "aliases": "a0: &a0 [1]\n" + "\n".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]" for i in range(40)),
    "an alias of itself": "run: &a {name: [*a]}",
    "brackets": "data: " + "[" * 500 + "]" * 500,
    "many brackets": "data: " + "[" * 100_000,
    "a number of 5,000 digits": f"data: {{batch_size: {'9' * 5000}}}",
    "a number of 400 digits": f"data: {{batch_size: {'9' * 400}}}",
    "links that lead to each other": f"{BASE}run: {{name: '${{run.dir}}', dir: '${{run.name}}'}}",
    "a link to itself": f"{BASE}run: {{name: '${{run.name}}'}}",
    "a link to a section": f"{BASE}run: {{name: '${{data}}'}}",
    "a day that is none": "run: {name: 2026-99-99}",
    "a list as a key": "? [1, 2]\n: 3",
    "keys of one hash": "data:\n" + "".join(f"  {i * (2**61 - 1)}: 0\n" for i in range(1, 9000)),
    "a large file": f"# {'x' * 300_000}",
    "a tag": "run: {name: !!python/object/apply:os.system [ls]}",
    "a zero byte": "run: {name: a\0b}",
    "nothing but a tag": "!!set {a, b}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_recipe_is_one_paragraph_in_little_time(here: Path, kind: str) -> None:
    (here / "bad.yaml").write_text(f"{HOSTILE[kind]}\n")
    before = time.process_time()
    said = refuse("bad.yaml")
    assert time.process_time() - before < 5
    assert "\n" not in said.strip()
    assert len(said) <= 3000


def test_a_fan_of_extends_ends(here: Path) -> None:
    for level in range(8):
        (here / f"f{level}.yaml").write_text(f"extends: {[f'f{level + 1}.yaml'] * 40}\n")
    (here / "f8.yaml").write_text("run: {seed: 1}\n")
    assert "extends more than 100 files" in refuse("f0.yaml")


def test_a_recipe_that_is_a_pipe_is_not_waited_for(here: Path) -> None:
    os.mkfifo(here / "pipe.yaml")
    assert "There is no config 'pipe.yaml'" in refuse("pipe.yaml")
    with pytest.raises(ConfigError, match="is no file"):
        read_yaml(here / "pipe.yaml")

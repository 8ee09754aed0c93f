"""--json: every verb has it, the page names its keys, and what is printed has them."""

import argparse
import json
import re
from pathlib import Path

import pytest
import yaml

from hrseg.cli import EXIT_OK, main
from hrseg.cli.main import _parser
from tests.migrate.test_official import CITYSCAPES

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
TABLE = {
    verb: re.findall(r"`([^`]+)`", keys)
    for verbs, keys in re.findall(r"^\| (`[^|]+`) \| (.+) \|$", PAGE, re.MULTILINE)
    for verb in re.findall(r"`([^`]+)`", verbs)
}
WITHOUT = {"serve", "completion"}


def verbs(parser=None, before=()):
    for action in (parser or _parser(headings=False))._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                nested = list(verbs(verb, (*before, name)))
                yield from nested or [(" ".join((*before, name)), verb)]


def test_every_verb_prints_json_and_is_on_the_page():
    found = dict(verbs())
    assert {name for name, verb in found.items() if "--json" not in verb._option_string_actions} == WITHOUT
    assert set(found) - WITHOUT <= set(TABLE)
    assert {name.partition(" --")[0].removesuffix(" BACKBONE") for name in TABLE} == set(found) - WITHOUT


def printed(capsys, words):
    code = main([*words, "--json"])
    found = capsys.readouterr()
    assert code == EXIT_OK, (words, found.err)
    return found.out


SCENES = ["data", "demo", "scenes", "--train", "2", "--val", "1", "--size", "32", "64"]
TAG = "hrnet_w18_small_v1.camvid"
FAST = ["--architecture", "hrnet_w18_small_v1", "--size", "32", "64", "--seconds", "0.01"]
QUICK = {
    "version": ["version"],
    "models": ["models"],
    "models BACKBONE": ["models", "hrnet_w18_small_v1"],
    "config list": ["config", "list"],
    "config show": ["config", "show", "demo"],
    "config import": ["config", "import", "old.yaml"],
    "fit --dry-run": ["fit", "--config", "demo", "--dry-run", "data.crop=[32,64]", "data.scene_size=[32,64]"],
    "study --dry-run": ["study", "demo", "--variant", "plain", "--dry-run", "data.crop=[32,64]"],
    "reproduce --plan": ["reproduce", "camvid_w18_small_v1", "--plan"],
    "benchmark": ["benchmark", *FAST],
    "benchmark --compare": ["benchmark", *FAST, "--compare", "fp32", "bf16"],
    "weights info": ["weights", "info", TAG],
    "weights list": ["weights", "list", TAG],
    "weights verify": ["weights", "verify", TAG],
    "weights pull": ["weights", "pull", TAG],
    "weights import": ["weights", "import", TAG, "--out", "mine.safetensors"],
    "weights push": ["weights", "push", TAG, "--to", "me/mine", "--dry-run"],
    "data demo": SCENES,
    "data check": ["data", "check", "scenes"],
    "data stats": ["data", "stats", "scenes"],
    "data split": ["data", "split", "scenes", "--from", "all"],
    "data browse": ["data", "browse", "scenes", "data.crop=[32,64]"],
    "data rank": ["data", "rank", "scenes/images/train", "--model", TAG],
    "data convert --to": ["data", "convert", "scenes", "--to", "coco", "--out", "coco.json"],
    "data convert": ["data", "convert", "coco.json", "--images", "scenes/images", "--out", "back"],
}


@pytest.mark.slow
def test_what_is_printed_has_the_keys_of_the_page(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(CITYSCAPES))
    wrong = {}
    for verb, words in QUICK.items():
        result = json.loads(printed(capsys, words))
        documented = TABLE["weights info" if verb == "weights list" else verb]
        wrong |= {verb: list(result)} if list(result) != documented else {}
    assert wrong == {}


def test_an_option_is_explained_in_json(capsys):
    (option,) = json.loads(printed(capsys, ["config", "explain", "data.crop"]))["options"]
    assert (option["key"], option["default"]) == ("data.crop", [512, 1024])
    assert set(option) == {"key", "type", "range", "default", "doc"}


@pytest.mark.slow
def test_a_run_is_measured_in_json(capsys, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = str(finished.run_dir)
    for verb in ("validate", "test"):
        result = json.loads(printed(capsys, [verb, "--model", model]))
        assert list(result) == TABLE[verb]
        assert 0 <= result["miou"] <= 1
    measured = json.loads(printed(capsys, ["evaluate", model]))
    report = json.loads((tmp_path / "hrseg_report" / "report.json").read_text())
    assert set(measured) == {"files", *report}
    rows = json.loads(printed(capsys, ["compare", model, model]))
    assert set(rows[1]) == set(TABLE["compare"])
    assert main(["data", "demo", "scenes", "--train", "1", "--val", "1", "--size", "64", "96"]) == EXIT_OK
    capsys.readouterr()
    image = next((tmp_path / "scenes").rglob("*.png"))
    assert list(json.loads(printed(capsys, ["predict", str(image), "--model", model]))) == TABLE["predict"]
    assert list(json.loads(printed(capsys, ["explain", str(image), "--model", model]))) == TABLE["explain"]


@pytest.mark.slow
def test_a_training_ends_in_json(capsys, tmp_path):
    from tests.small import WORDS

    result = json.loads(
        printed(capsys, ["fit", "--config", "demo", *WORDS, "optim.warmup_steps=0", f"run.dir={tmp_path}"])
    )
    assert list(result) == TABLE["fit"]
    assert Path(result["checkpoint"]).is_file()

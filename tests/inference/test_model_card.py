import json
from pathlib import Path

import pytest

from hrseg.errors import WeightsError
from hrseg.inference.model_card import FORMAT, CardFields, Form, make_card, read_card
from hrseg.labels import load_labels

FILE = Path("m.onnx")
CONFIG = {
    "data": {"root": "/home/me/data", "crop": [64, 96]},
    "evaluation": {"precision": "bf16", "protocol": "tta"},
    "run": {"dir": "/home/me/runs"},
}


@pytest.fixture
def facts():
    labels = load_labels("camvid")
    return CardFields(labels, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), ("labels", "logits"), "fp16", CONFIG, {})


def test_what_is_needed_to_run_the_file_comes_back(facts):
    card = make_card("/home/me/runs/mine/best.ckpt", {"backbone": "hrnet_w18"}, facts)
    found = read_card(json.dumps(card), FILE)
    assert found.labels == facts.labels
    assert found[1:5] == facts[1:5]
    assert found.network == {"backbone": "hrnet_w18"}
    assert card["classes"][:2] == ["sky", "building"]
    assert card["palette"][0] == [128, 128, 128]
    assert card["outputs"]["logits"] == "float32 (N, 11, H, W)"


def test_older_versions_open_files_of_pixels_and_refuse_others(facts):
    assert make_card("m", {}, facts)["format"] == 1
    plain = facts._replace(form=Form("plain", (64, 96)))
    card = make_card("m", {}, plain)
    assert (card["format"], card["input"]) == (2, "image: float32 (N, 3, H, W), RGB, 0 to 1")
    assert read_card(json.dumps(card), FILE).form == Form("plain", (64, 96))


def test_no_folder_of_the_machine_is_in_a_card(facts):
    card = make_card("/home/me/runs/mine/best.ckpt", {}, facts)
    assert "/home" not in json.dumps(card)
    assert card["config"] == {"data": {"crop": [64, 96]}, "evaluation": {"protocol": "tta"}}
    assert facts.config["data"]["root"] == "/home/me/data"  # the model's own config stays


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: None, "was not written by hrseg export"),
        (lambda card: card | {"format": FORMAT + 1, "version": "9.9"}, r"hrseg 9\.9.*Update hrseg"),
        (lambda card: {"format": FORMAT}, "cannot be read"),
        (lambda card: card | {"mean": ["dark"]}, "dark"),
        (lambda card: card | {"labels": {"name": "x", "labels": [[0]]}}, "cannot be read"),
        (lambda card: [card], "is a list and should be"),
        (lambda card: card | {"profile": "wide"}, "it has no profile 'wide'"),
        (lambda card: card | {"size": [0, 64]}, "its size is 0 x 64"),
        (lambda card: card | {"size": [64]}, "cannot be read"),
    ],
)
def test_cards_that_cannot_be_used_are_refused(facts, change, words):
    changed = change(make_card("m", {}, facts))
    with pytest.raises(WeightsError, match=words) as error:
        read_card(None if changed is None else json.dumps(changed), FILE)
    assert "m.onnx" in str(error.value)

"""One benchmark and one comparison from end to end at small sizes; no test looks at how long anything took."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from hrseg.benchmark.models import (
    Choice,
    Settings,
    benchmark,
    compare,
    open_timed,
    pictures,
    timed,
)
from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.errors import ConfigError, WeightsError
from hrseg.inference.exported import ExportedNetwork
from hrseg.inference.model_card import CardFields
from hrseg.inference.predictor import Predictor
from hrseg.labels import Label, LabelSet

SMALL = "hrnet_w18_small_v1"
QUICK = Settings(seconds=0.001)


@pytest.mark.slow
def test_networks_and_recipes_have_the_same_random_weights_every_time():
    choices, sizes = [Choice(SMALL), Choice("demo", "config")], [(64, 96), (32, 32)]
    report = benchmark(choices, sizes, Settings(until="head", seconds=0.001))
    assert [(one.height, one.width) for one in report.rows] == [(64, 96), (32, 32)] * 2
    assert [one.model for one in report.rows] == [SMALL] * 2 + ["demo"] * 2
    assert json.loads(json.dumps(asdict(report)))["rows"][0]["runs"] >= 3
    images = pictures((40, 56))
    answers = []
    for _ in range(2):
        model = open_timed(Choice(SMALL))
        answers.append(model.labels(model.work(model.feed(images))))
    assert (answers[0] == answers[1]).all()
    assert answers[0].shape == (1, 40, 56)


def test_all_ends_give_the_same_classes_where_they_have_the_same_size():
    images = pictures((64, 64), 2)
    found = {}
    for until in ("labels", "logits", "head"):
        model = open_timed(Choice("hrnet_w18_small_v1.camvid", precision="fp32"), Settings(until=until))
        found[until] = model.labels(model.work(model.feed(images)))
    assert found["head"].shape == (2, 16, 16)
    assert np.mean(found["labels"] == found["logits"]) > 0.999


def test_two_forms_of_one_model_agree():
    pair = (Choice(SMALL, precision="fp32"), Choice(SMALL, precision="fp32", engine="torch"))
    found = compare(pair, (64, 64), QUICK)
    assert found.same_class == 1.0
    assert found.ratio.pairs >= 5


def test_models_of_other_classes_have_no_agreement():
    found = compare((Choice(SMALL), Choice(None)), (32, 64), QUICK)
    assert found.same_class is None


def test_drawn_pictures_are_the_same_for_every_size():
    large, small = pictures((300, 600), 5, 4), pictures((64, 64))
    assert large.shape == (5, 300, 600, 4)
    assert (large[0, :64, :64, :3] == small[0]).all()
    assert not (large[0] == large[1]).all()


class File:
    """Stands for an opened file: answers with the brightness of each pixel as its class."""

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"labels": images[..., 0] // 128}


def exported(spec: dict[str, object]) -> Predictor:
    labels = LabelSet("two", (Label(0, 0, "dark", (0, 0, 0)), Label(1, 1, "light", (9, 9, 9))))
    facts = CardFields(labels, (0.5,) * 3, (0.5,) * 3, ("labels",), "int8", {}, spec)
    return Predictor(ExportedNetwork(File(), facts, Path("m.onnx")), labels)


def test_an_exported_file_is_timed_as_it_is_and_counted_by_its_card():
    spec = {"backbone": SMALL, "head": "v2", "num_classes": 2}
    model = timed(exported(spec), "file")
    assert model.precision == "int8"
    images = pictures((32, 32))
    assert (model.labels(model.work(images)) == images[..., 0] // 128).all()
    same = open_timed(Choice(SMALL), Settings(classes=2))
    assert model.multiply_adds((64, 96), 3) == 3 * same.multiply_adds((64, 96))
    assert timed(exported({}), "file").multiply_adds((64, 96)) is None
    with pytest.raises(ConfigError, match="--outputs logits"):
        timed(exported(spec), "file", "logits")
    fixed = exported(spec)
    fixed.network.size = (64, 64)
    with pytest.raises(ConfigError, match="file takes images of 64 x 64 pixels only"):
        timed(fixed, "file").feed(images)


@pytest.mark.parametrize(
    ("choice", "options", "message"),
    [
        (Choice("hrnet_w19", "architecture"), {}, "Did you mean 'hrnet_w18'"),
        (Choice("hrnet_w48/ocrr"), {}, "Did you mean 'ocr'"),
        (Choice(None, precision="fp8"), {}, "Unknown precision 'fp8'"),
        (Choice(), {"until": "masks"}, "no end 'masks'. Use --until labels or logits or head"),
        (Choice("hrnet_w48/classification"), {}, "classification"),
        (Choice("hrnet_w48/unet"), {}, "unet"),
    ],
)
def test_mistakes_are_explained(choice, options, message):
    with pytest.raises(ConfigError, match=message):
        open_timed(choice, Settings(**options))


def test_an_unknown_model_is_refused():
    with pytest.raises(WeightsError, match="neither a file nor a tag"):
        open_timed(Choice("no/such/model"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "64"], "pairs of height and width"),
        (["--seconds", "0"], "not a number of seconds above 0"),
        (["--compare", "fp32", "bf16", "--size", "1", "2", "3", "4"], "takes one model"),
    ],
)
def test_wrong_words(words, message, capsys):
    assert main(["benchmark", *words]) == EXIT_USAGE
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
def test_the_verb_prints_a_table_and_json(capsys):
    words = ["benchmark", "--size", "32", "64", "--seconds", "0.001"]
    assert main(words) == EXIT_OK
    assert "the model that ships" in capsys.readouterr().out
    assert main([*words, "--compare", "fp32", "torch", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["ratio"]["pairs"] >= 5

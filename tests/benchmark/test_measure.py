"""One benchmark and one comparison from end to end at small sizes; no test looks at how long anything took."""

import json

import numpy as np
import pytest

from hrseg.benchmark.machine import Machine
from hrseg.benchmark.measure import benchmark, compare
from hrseg.benchmark.ratios import Ratio
from hrseg.benchmark.rows import Comparison, Report, Row
from hrseg.benchmark.subjects import Choice, open_subject, pictures, subject_of
from hrseg.cli import OK, YOURS, main
from hrseg.data.labels import Label, LabelSet
from hrseg.errors import ConfigError, WeightsError
from hrseg.export.card import Facts
from hrseg.export.network import ExportedNetwork
from hrseg.inference.predictor import Predictor

SMALL = "hrnet_w18_small_v1"
MACHINE = Machine("a processor", "cpu", 2, {"torch": "2"})


def row(**changes: object) -> Row:
    facts = {"name": "a", "precision": "fp32", "size": (100, 200), "batch": 2}
    facts |= {"first_seconds": 1.0, "seconds": (0.5, 0.25, 0.25), "memory": 3_000_000}
    facts |= {"multiply_adds": 10**9, "ceiling": 16e9, **changes}
    return Row(**facts)  # type: ignore[arg-type]


def test_what_follows_from_times():
    one = row()
    assert one.latency == {"p50": 0.25, "p90": 0.45, "p99": 0.495}
    assert one.images_per_second == 6.0
    assert one.megapixels_per_second == pytest.approx(0.12)
    assert one.share == 0.5  # 2e9 operations in a quarter of a second are half of 16e9 a second


def test_what_is_not_known_is_a_question_mark():
    text = Report(MACHINE, "labels", (row(memory=None, multiply_adds=None, ceiling=None),)).text()
    assert text.splitlines()[-1].split()[-4:] == ["?", "?", "?", "3"]


def test_a_table_and_a_comparison_in_words():
    text = Report(MACHINE, "labels", (row(),)).text()
    assert "Ceiling, one matrix product: 16.0 GFLOP/s in fp32." in text
    assert text.splitlines()[-1].split()[:4] == ["a", "100x200", "2", "fp32"]
    assert "50 %" in text
    told = Comparison(
        MACHINE, "head", (8, 8), 1, ("a, fp32", "b, bf16"), (0.2, 0.1), Ratio(2, 1.9, 2.1, 9), 0.5
    ).text()
    assert "A takes 2.00 x the time of B, 95 % interval 1.90 to 2.10, 9 pairs in turns." in told
    assert "50.000 % of the pixels get the same class." in told


def test_networks_and_recipes_have_the_same_random_weights_every_time():
    size = {"sizes": [(64, 96), (32, 32)], "seconds": 0.001}
    report = benchmark([Choice(SMALL), Choice("demo", "config")], until="head", **size)
    assert [one.size for one in report.rows] == [(64, 96), (32, 32)] * 2
    assert [one.name for one in report.rows] == [SMALL] * 2 + ["demo"] * 2
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["runs"] >= 3
    images = pictures((40, 56))
    answers = []
    for _ in range(2):
        subject = open_subject(Choice(SMALL))
        answers.append(subject.labels(subject.work(subject.feed(images))))
    assert (answers[0] == answers[1]).all()
    assert answers[0].shape == (1, 40, 56)


def test_all_ends_give_the_same_classes_where_they_have_the_same_size():
    images = pictures((64, 64), 2)
    found = {}
    for until in ("labels", "logits", "head"):
        subject = open_subject(Choice("hrnet_w18_small_v1.camvid", precision="fp32"), until=until)
        found[until] = subject.labels(subject.work(subject.feed(images)))
    assert found["head"].shape == (2, 16, 16)
    assert np.mean(found["labels"] == found["logits"]) > 0.999


def test_two_forms_of_one_model_agree():
    pair = (Choice(SMALL, precision="fp32"), Choice(SMALL, precision="fp32", engine="torch"))
    found = compare(pair, (64, 64), seconds=0.001)
    assert found.agreement == 1.0
    assert found.ratio.pairs >= 5


def test_models_of_other_classes_have_no_agreement():
    found = compare((Choice(SMALL), Choice(None)), (32, 64), seconds=0.001)
    assert found.agreement is None


def test_drawn_pictures_are_the_same_for_every_size():
    large, small = pictures((300, 600), 5, 4), pictures((64, 64))
    assert large.shape == (5, 300, 600, 4)
    assert (large[0, :64, :64, :3] == small[0]).all()
    assert not (large[0] == large[1]).all()


class File:
    """Stands for an opened file: answers with the brightness of each pixel as its class."""

    def __init__(self, spec: dict[str, object]) -> None:
        self.card = json.dumps({"network": spec})

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"labels": images[..., 0] // 128}


def exported(spec: dict[str, object]) -> Predictor:
    labels = LabelSet("two", (Label(0, 0, "dark", (0, 0, 0)), Label(1, 1, "light", (9, 9, 9))))
    facts = Facts(labels, (0.5,) * 3, (0.5,) * 3, ("labels",), "int8", {})
    return Predictor(ExportedNetwork(File(spec), facts), labels)


def test_an_exported_file_is_timed_as_it_is_and_counted_by_its_card():
    spec = {"backbone": SMALL, "head": "v2", "num_classes": 2}
    subject = subject_of(exported(spec), "file")
    assert subject.precision == "int8"
    images = pictures((32, 32))
    assert (subject.labels(subject.work(images)) == images[..., 0] // 128).all()
    same = open_subject(Choice(SMALL), classes=2)
    assert subject.multiply_adds((64, 96), 3) == 3 * same.multiply_adds((64, 96))
    assert subject_of(exported({}), "file").multiply_adds((64, 96)) is None
    with pytest.raises(ConfigError, match="--outputs logits"):
        subject_of(exported(spec), "file", "logits")


@pytest.mark.parametrize(
    ("choice", "options", "message"),
    [
        (Choice("hrnet_w19", "architecture"), {}, "Did you mean 'hrnet_w18'"),
        (Choice("hrnet_w48/ocrr"), {}, "Did you mean 'ocr'"),
        (Choice(None, precision="fp8"), {}, "Unknown precision 'fp8'"),
        (Choice(), {"until": "masks"}, "Unknown end 'masks'"),
    ],
)
def test_mistakes_are_explained(choice, options, message):
    with pytest.raises(ConfigError, match=message):
        open_subject(choice, **options)


def test_an_unknown_model_is_refused():
    with pytest.raises(WeightsError, match="neither a file nor a tag"):
        open_subject(Choice("no/such/model"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "64"], "pairs of height and width"),
        (["--seconds", "0"], "not a number of seconds above 0"),
        (["--compare", "fp32", "bf16", "--size", "1", "2", "3", "4"], "takes one model"),
    ],
)
def test_wrong_words(words, message, capsys):
    assert main(["benchmark", *words]) == YOURS
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_verb_prints_a_table_and_json(capsys):
    words = ["benchmark", "--size", "32", "64", "--seconds", "0.001"]
    assert main(words) == OK
    assert "the model that ships" in capsys.readouterr().out
    assert main([*words, "--compare", "fp32", "torch", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["ratio"]["pairs"] >= 5

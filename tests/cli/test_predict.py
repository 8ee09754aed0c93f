import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hrseg.cli import EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, main
from hrseg.cli.main import _parse
from hrseg.errors import DataError
from hrseg.inference.outputs import check_kinds
from tests.cli.conftest import fake


def test_save_takes_color_for_colour():
    kinds = _parse(["predict", "x.png", "--save", "color", "mask", "colour"]).save
    assert check_kinds(kinds) == ("colour", "mask")


class Result(SimpleNamespace):
    """What predict_files yields, reduced to what the command line uses."""

    def __str__(self) -> str:
        return f"{self.path}: road 60 %"

    def to_dict(self) -> dict[str, Any]:
        return {"image": self.path, "error": self.error and str(self.error)}


def prepare_predict(monkeypatch: pytest.MonkeyPatch, results: list[Result]) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def open_predictor(model: str | None, **options: Any) -> SimpleNamespace:
        seen.update(model=model, **options)
        return SimpleNamespace(name="m.ckpt", engine="torch", labels=SimpleNamespace(names=["road", "car"]))

    class Sources(list[Path]):
        def covers(self, path: Path) -> bool:
            return False

        def pixels(self) -> int:
            return 1000 * len(self)

    def open_sources(words: list[str], **options: Any) -> Sources:
        return Sources(map(Path, words))

    fake(monkeypatch, "inference.sources", open_sources=open_sources, Every=None)
    fake(
        monkeypatch,
        "inference.predict_files",
        open_predictor=open_predictor,
        predict_files=lambda *words, **options: iter(results),
    )
    return seen


def test_predict_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = prepare_predict(monkeypatch, [Result(path="ü b.png", error=None)])
    words = ["--model", "m.ckpt", "--device", "cpu", "--precision", "fp32"]
    words += ["--window", "64", "96", "--overlap", "0.25"]
    assert main(["predict", "ü b.png", *words]) == EXIT_OK
    assert seen == {
        "model": "m.ckpt",
        "device": "cpu",
        "precision": "fp32",
        "window": (64, 96),
        "overlap": 0.25,
        "protocol": "whole",
        "scales": (),
        "flip": None,
        "merge": None,
        "keep": (),
        "classes": (),
        "blend": None,
        "bits": None,
        "engine": "auto",
        "pixels": 1000,
    }
    assert capsys.readouterr().out == "ü b.png: road 60 %\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--tta"], {"protocol": "tta"}),
        (["--protocol", "lip"], {"protocol": "lip"}),
        (
            ["--scales", "0.5", "1", "1.5", "--flip", "--merge", "softmax"],
            {"scales": [0.5, 1.0, 1.5], "flip": True, "merge": "softmax", "protocol": "whole"},
        ),
        (["--tta", "--no-flip"], {"protocol": "tta", "flip": False}),
    ],
)
def test_predict_says_how_to_look(words, expected, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = prepare_predict(monkeypatch, [Result(path="x.png", error=None)])
    assert main(["predict", "x.png", *words]) == EXIT_OK
    assert {name: seen[name] for name in expected} == expected


def test_the_kinds_of_results_are_those_of_the_table() -> None:
    from hrseg.cli.predict import KINDS
    from hrseg.inference.outputs import OUTPUTS

    assert tuple(OUTPUTS) == KINDS


def test_predict_saves_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = prepare_predict(monkeypatch, [Result(path="x.png", error=None)])
    words = ["--save", "entropy", "probabilities", "geojson", "--classes", "road", "car"]
    assert main(["predict", "x.png", *words, "--tolerance", "1.5"]) == EXIT_OK
    assert (seen["keep"], seen["classes"]) == (
        ("entropy", "probabilities", "confidence"),
        ["road", "car"],
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--save", "masks"], "Did you mean 'mask"),
        (["--pixel-size", "0"], "is no length"),
        (["--tolerance", "-1"], "below 0"),
        (["--shard", "0/2"], "Of 8 shards the first is 1/8"),
        (["--save", "video", "--resume"], "A video cannot be resumed"),
    ],
)
def test_results_that_cannot_be(words, message, monkeypatch, capsys) -> None:
    prepare_predict(monkeypatch, [])
    assert main(["predict", "x.png", *words]) == EXIT_USAGE
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_image_is_reported_and_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    broken = Result(path="b.png", error=DataError("b.png is truncated."))
    prepare_predict(monkeypatch, [Result(path="a.png", error=None), broken])
    assert main(["predict", "a.png", "b.png", *(["--json"] if as_json else [])]) == EXIT_PARTIAL
    captured = capsys.readouterr()
    assert "hrseg: b.png is truncated.\n" in captured.err
    assert "1 of 2 images failed" in captured.err
    if as_json:
        rows = [json.loads(line) for line in captured.out.splitlines()]
        assert [row["error"] for row in rows] == [None, "b.png is truncated."]
    else:
        assert captured.out == "a.png: road 60 %\n"

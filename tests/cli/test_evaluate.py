import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hrseg.cli import EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, main
from hrseg.data.synthetic import write_scenes
from tests.cli.conftest import fake


def fake_reproduce(monkeypatch: pytest.MonkeyPatch, missing: str | None, close: bool) -> list[Any]:
    seen: list[Any] = []
    plan = SimpleNamespace(
        recipe="r",
        title="t",
        missing=missing,
        rows=lambda: [("published", "80.9 mIoU")],
        to_dict=lambda: {"published": 80.9},
    )

    class Outcome(SimpleNamespace):
        def __str__(self) -> str:
            return "expected 80.90, got 80.91"

    outcome = Outcome(
        close=close,
        result=SimpleNamespace(text="the table"),
        to_dict=lambda: {"got": 80.91},
    )
    fake(
        monkeypatch,
        "evaluation.published",
        plan_reproduction=lambda *words, **options: seen.append((words, options)) or plan,
        reproduce=lambda plan: seen.append("ran") or outcome,
    )
    return seen


def test_reproduce_prints_expected_beside_got(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = fake_reproduce(monkeypatch, None, close=True)
    words = ["reproduce", "demo", "--protocol", "p", "data.root=/x"]
    assert main(words) == EXIT_OK
    assert seen[0] == (("demo", ["data.root=/x"]), {"protocol": "p", "model": None})
    printed = capsys.readouterr().out
    assert printed.startswith("r: t\n  published  80.9 mIoU\n")
    assert printed.endswith("the table\n\nexpected 80.90, got 80.91\n")
    assert main([*words, "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {"got": 80.91}


def test_reproduce_fails_where_the_score_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_reproduce(monkeypatch, None, close=False)
    assert main(["reproduce", "demo"]) == EXIT_PARTIAL


def test_reproduce_without_data_is_a_plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = fake_reproduce(monkeypatch, "Put x.zip there.", close=False)
    assert main(["reproduce", "demo"]) == EXIT_OK
    assert main(["reproduce", "demo", "--json"]) == EXIT_OK
    assert "ran" not in seen
    printed = capsys.readouterr().out
    assert "Put x.zip there." in printed
    assert json.loads(printed.splitlines()[-1]) == {"published": 80.9}


def test_reproduce_runs_nothing_when_only_a_plan_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fake_reproduce(monkeypatch, None, close=True)
    assert main(["reproduce", "demo", "--plan"]) == EXIT_OK
    assert "ran" not in seen


@pytest.mark.slow
def test_a_study_is_reproduced_where_its_data_and_folds_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "camvid_w18_small_v2_release", f"data.root={tmp_path / 'camvid'}"]
    assert main(words) == EXIT_OK
    printed = " ".join(capsys.readouterr().out.split())
    assert "mean over the 3 folds of the study camvid_drives" in printed
    assert "there, unpacked" in printed
    write_scenes(tmp_path / "camvid", "camvid", {"train": 2, "val": 1}, (32, 64))
    assert main(words) == EXIT_USAGE
    command = f"hrseg data split {tmp_path / 'camvid'} --from train,val --by '^.*/([^/_]+)_' --folds 3 --replace"
    assert command in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_reproduce_without_a_recipe_lists_those_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == EXIT_USAGE
    assert "camvid_w18_small_v1" in capsys.readouterr().err

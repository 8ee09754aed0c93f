from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hrseg.cli import EXIT_OK, main
from hrseg.config import load_config
from hrseg.metrics.confusion import scores
from hrseg.metrics.records import ImageRecords
from tests.cli.conftest import fake


def test_dry_run_prints_the_plan_and_trains_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = SimpleNamespace(text=lambda: "3 steps", to_dict=dict)
    fake(monkeypatch, "training.dry_run", plan=lambda config: plan)
    assert main(["fit", "--config", "demo", "--dry-run"]) == EXIT_OK
    assert capsys.readouterr().out == "3 steps\n"


@pytest.mark.parametrize(
    "words",
    [
        ["data.batch_size=2", "--config", "demo", "optim.lr=0.5"],
        ["--config", "demo", "--data.batch_size=2", "--optim.lr", "0.5"],
        ["--data.batch_size", "2", "--config=demo", "optim.lr=0.1", "optim.lr=5e-1"],
    ],
)
def test_key_value_words_stand_anywhere(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def fit(config: Any, **options: Any) -> SimpleNamespace:
        seen.update(config=config, **options)
        return SimpleNamespace(table="the table", best_score=0.8125, run_dir=Path("runs/demo"), digest="")

    fake(monkeypatch, "training.fit", fit=fit)
    assert main(["fit", *words, "--resume", "last"]) == EXIT_OK
    assert seen["config"] == load_config("demo", ["data.batch_size=2", "optim.lr=0.5"])
    assert seen["resume"] == "last"
    first, _, rest = seen["config_text"].partition("\n")
    assert first.startswith("# hrseg fit ")
    Path("again.yaml").write_text(rest)
    assert load_config("again.yaml") == seen["config"]
    printed = capsys.readouterr().out
    assert printed.startswith(
        "the table\nThe table is of the best weights, mIoU 81.25 %. To use them: hrseg predict IMAGE"
    )
    assert printed.endswith("--model runs/demo/best.ckpt\n")


def test_a_path_with_an_equals_sign_is_not_an_override(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    scored = scores(torch.eye(2, dtype=torch.int64))
    records = ImageRecords((), (), np.empty((0, 0, 0)))
    result = SimpleNamespace(text="", records=records, metrics=scored, labels=SimpleNamespace(names=("a", "b")))
    fake(
        monkeypatch,
        "evaluation.validate",
        evaluate=lambda *words: seen.append(words) or result,
        evaluation_config=None,
    )
    assert main(["validate", "--model", "runs/lr=0.1/best.ckpt", "data.flip=0"]) == EXIT_OK
    assert main(["test", "-o", "masks"]) == EXIT_OK
    assert seen[0] == ("runs/lr=0.1/best.ckpt", "val", ["data.flip=0"], None, None)
    assert seen[1] == (None, "test", [], Path("masks"), None)

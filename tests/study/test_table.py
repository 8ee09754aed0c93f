import csv
import json

import numpy as np
import pytest

from hrseg.metrics.bootstrap import compare, interval
from hrseg.metrics.records import ImageRecords
from hrseg.study import Study, Table, plan_study, train_study
from hrseg.study.study import Record
from tests.study.conftest import PAIR


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


def ledger(hits, fold):
    """30 images of a fold with 10 pixels of each of two classes, of which about `hits` are found."""
    draw = np.random.default_rng(fold).integers(-2, 3, 30) + hits
    matrices = np.array([[[n, 10 - n], [10 - n, n]] for n in draw])
    return ImageRecords(tuple(f"{fold}_{i}" for i in range(30)), ("road", "sky"), matrices)


def test_folds_give_mean_interval_and_difference(recipe, folds):
    plan = plan_study(Study("s", recipe, {"a": (), "b": ()}, folds=3), folds(3))
    assert [run.name for run in plan.runs if run.variant == "a"] == [f"seed_0_fold_{n}" for n in (1, 2, 3)]
    assert {run.config.data.train_split for run in plan.runs} == {f"fold_{n}_train" for n in (1, 2, 3)}
    ledgers = {(name, fold): ledger(hits, fold) for name, hits in (("a", 5), ("b", 7)) for fold in (1, 2, 3)}
    records = []
    for run in plan.runs:
        run.parent.mkdir(parents=True, exist_ok=True)
        ledgers[run.variant, run.fold].save(run.ledger_file)
        records.append(Record(True, 60.0, ledgers[run.variant, run.fold].scores()["miou"], "x"))
    first, second = Table(plan, tuple(records)).rows
    scores = [ledgers["b", fold].scores()["miou"] for fold in (1, 2, 3)]
    assert second.miou == pytest.approx(np.mean(scores))
    halves = [np.diff(interval(ledgers["b", fold]))[0] / 2 for fold in (1, 2, 3)]
    assert second.high - second.miou == pytest.approx(np.sqrt(np.square(halves).sum()) / 3)
    assert first.difference is None
    assert second.difference == pytest.approx(second.miou - first.miou)
    each = [compare(ledgers["b", fold], ledgers["a", fold]) for fold in (1, 2, 3)]
    assert second.difference_low > min(one.low for one in each)  # three folds know more than one
    assert second.classes["sky"] == pytest.approx(second.miou, abs=0.01)
    text = Table(plan, tuple(records)).text()
    assert "to the first" in text
    assert "| sky " in text
    assert "mean over 3 folds" in " ".join(text.split())
    unfinished = Table(plan, (*records[:-1], Record()))
    assert unfinished.rows[1].low is None
    assert "2 of 3 runs" in unfinished.text()


def test_spread_is_over_seeds_not_over_folds(recipe, folds):
    plan = plan_study(Study("s", recipe, {"a": ()}, seeds=(0, 1), folds=2), folds(2))
    scores = {(0, 1): 0.5, (0, 2): 0.7, (1, 1): 0.52, (1, 2): 0.72}
    records = tuple(Record(True, 60.0, scores[run.seed, run.fold], "x") for run in plan.runs)
    row = Table(plan, records).rows[0]
    assert (row.miou, row.spread) == pytest.approx((0.61, 0.02 / 2**0.5))

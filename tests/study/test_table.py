import csv
import json

import pytest

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

"""Two models scored on the same images, from the command line."""

import json

import pytest

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.training.fit import fit
from tests.small import small


@pytest.mark.slow
def test_runs_and_ledgers_are_compared(tmp_path, capsys):
    words = ("data.scenes=12", "trainer.max_epochs=1")
    for seed in (0, 1):
        fit(small(tmp_path, *words, f"run.name=run{seed}", f"run.seed={seed}"))
    runs = [str(tmp_path / f"run{seed}") for seed in (0, 1)]
    # Synthetic scenes depend on the seed; both are scored on the same ones.
    words = ["run.seed=0", "evaluation.precision=fp32"]
    out = tmp_path / "ledgers"
    assert main(["compare", *runs, *words, "--draws", "50", "--json", "-o", str(out)]) == EXIT_OK
    rows = json.loads(capsys.readouterr().out)
    assert rows[1]["difference"] == rows[1]["miou"] - rows[0]["miou"]
    assert rows[0]["images"] == rows[1]["images"] > 1
    ledgers = sorted(map(str, out.iterdir()))
    assert main(["compare", *ledgers, "--draws", "50", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == rows
    assert main(["compare", *ledgers]) == EXIT_OK
    assert "Classes that changed most:" in capsys.readouterr().out


def test_one_model_is_no_comparison(capsys):
    assert main(["compare", "runs/a"]) == EXIT_USAGE
    assert "needs two models" in capsys.readouterr().err

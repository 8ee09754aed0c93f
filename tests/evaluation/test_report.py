import json
import os
import re

import numpy as np
import pytest
import torch

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.errors import DataError
from hrseg.evaluation.callbacks import WorstImage
from hrseg.evaluation.report import error_map, evaluate_model, write_report
from hrseg.imaging import read_image
from hrseg.metrics.statistics import EvaluationSettings, measure, read_statistics
from tests.metrics.test_statistics import statistics


def worst_image(name="<a>", score=0.5):
    photo = np.full((4, 6, 3), 100, np.uint8)
    truth, found = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    truth[0], truth[1, 0] = 255, 1
    return WorstImage(name, score, np.diag([10, 2, 1, 1]), photo, truth, found)


def test_a_report_has_all_its_files_and_needs_nothing_else(tmp_path):
    report = write_report(statistics(), [worst_image()], tmp_path)
    pictures = {"confusion.png", "contours.png", "trimap.png", "reliability.png"}
    expected = pictures | {"ledger.npz", "report.html", "report.json"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert {*report.files} == {*tmp_path.iterdir()}
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "&lt;a&gt;" in text
    assert "<a>" not in text
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["miou"] == pytest.approx(report.results.scores["miou"], abs=1e-6)
    assert values["calibration"]["temperature"]["pixels"] == 2000
    assert "nan" not in (tmp_path / "report.json").read_text().lower()
    assert read_image(tmp_path / "confusion.png").shape[0] > 300
    assert "mIoU" in str(report)


def test_errors_are_red_and_unlabelled_pixels_black():
    picture = error_map(worst_image())
    assert picture[1, 0, 0] > 180 > picture[1, 0, 1]
    assert picture[0].max() < 30
    assert len(set(picture[3, 3].tolist())) == 1


def test_a_ledger_gives_the_same_report_again(tmp_path):
    write_report(statistics(), [], tmp_path / "one")
    again = evaluate_model(str(tmp_path / "one" / "ledger.npz"), tmp_path / "two")
    one, two = ((tmp_path / name / "report.json").read_text() for name in ("one", "two"))
    assert one == two
    assert again.results.statistics.records.model == "m"
    assert 'id="worst"' not in (tmp_path / "two" / "report.html").read_text()


def test_bins_of_a_ledger_merge_and_its_distances_stay(tmp_path):
    path = tmp_path / "one" / "ledger.npz"
    write_report(statistics(), [], path.parent)
    report = evaluate_model(str(path), tmp_path / "two", settings=EvaluationSettings(bins=10))
    assert len(report.results.bins) == 10
    with pytest.raises(DataError, match="cannot be changed"):
        evaluate_model(str(path), tmp_path / "three", settings=EvaluationSettings(bands=(3,)))


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="needs a folder"):
        evaluate_model(None, tmp_path / "out")


def test_one_command_evaluates_a_model(tmp_path, monkeypatch, capsys):
    from hrseg.training.build import build_data, build_task
    from hrseg.training.trainer import build_trainer, quiet_lightning
    from tests.small import small

    quiet_lightning()
    config = small(tmp_path, "data.scenes=12")
    data = build_data(config)
    task = build_task(config, data)
    trainer = build_trainer(config, None, [])
    trainer.validate(task, datamodule=data, verbose=False)
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "m.ckpt", "--out", "report", "--worst", "2", "trainer.accelerator=cpu"]
    assert main([*words, "evaluation.precision=fp32", "data.workers=0"]) == EXIT_OK
    said = capsys.readouterr().out
    miou = task.result["miou"]
    assert f"{100 * miou:.2f}" in said
    stored = read_statistics(tmp_path / "report" / "ledger.npz")
    assert len(stored.records.names) == 3
    assert stored.records.scores()["miou"] == pytest.approx(miou)
    assert (tmp_path / "report" / "report.html").read_text().count('<article class="case">') == 2
    assert main(["compare", "report/ledger.npz", "report/ledger.npz"]) == EXIT_OK
    assert main(["evaluate", "m.ckpt", "--bins", "7"]) == EXIT_USAGE
    assert "7 bins cannot be formed" in capsys.readouterr().err


def test_a_file_name_of_any_bytes_is_written_as_text(tmp_path):
    name = os.fsdecode(b"bad\xff")
    write_report(statistics(), [worst_image(name)], tmp_path)
    assert r"bad\udcff" in (tmp_path / "report.html").read_text(encoding="utf-8")
    mask = torch.arange(16).reshape(4, 4) % 3
    assert measure(torch.randn(3, 4, 4), mask, name, EvaluationSettings(), 5)

"""Lightning's searches for a rate and a batch size, on the smallest run."""

import re

import pytest

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.errors import TrainingError
from hrseg.training.find import find
from hrseg.training.task import SegmentationTask
from tests.small import WORDS, small


@pytest.mark.slow
def test_a_batch_size_is_proposed_and_nothing_is_kept(tmp_path, capsys):
    words = [*WORDS, f"run.dir={tmp_path}", "data.scenes=6"]
    assert main(["fit", "--config", "demo", *words, "optim.warmup_steps=0", "--find", "batch"]) == EXIT_OK
    assert capsys.readouterr().out.startswith("data.batch_size=4 fits")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_rate_is_proposed_within_the_range(tmp_path, monkeypatch):
    monkeypatch.setattr("hrseg.training.find.STEPS", 20)
    text = find(small(tmp_path, "data.scenes=8", "optim.head_lr_factor=10"), "lr")
    rate = float(re.match(r"optim\.lr=(\S+) ", text)[1])
    assert 1e-6 < rate < 1
    assert not list(tmp_path.iterdir())


def test_several_devices_are_refused(tmp_path, capsys):
    words = [*WORDS, f"run.dir={tmp_path}", "trainer.devices=2"]
    assert main(["fit", "--config", "demo", *words, "--find", "lr"]) == EXIT_USAGE
    assert "trainer.devices=1" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_makes_the_search_end_at_lower_rates(tmp_path, monkeypatch):
    monkeypatch.setattr("hrseg.training.find.STEPS", 20)
    tried, learn = [], SegmentationTask.training_step

    def step(self, batch, index):
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        tried.append(rate)
        loss = learn(self, batch, index)
        if rate > 0.2:
            raise TrainingError("The loss is nan")
        return loss

    monkeypatch.setattr(SegmentationTask, "training_step", step)
    assert find(small(tmp_path, "data.scenes=8"), "lr").startswith("optim.lr=")
    assert max(tried) > 0.2
    assert tried[-1] == pytest.approx(0.1, rel=0.01)

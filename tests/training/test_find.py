"""Lightning's searches for a rate and a batch size, on the smallest run."""

import re

import pytest

from hrseg.cli import OK, YOURS, main
from hrseg.training.find import STEPS, find
from tests.small import WORDS, small


def test_a_batch_size_is_proposed_and_nothing_is_kept(tmp_path, capsys):
    words = [*WORDS, f"run.dir={tmp_path}", "data.scenes=6"]
    assert (
        main(["fit", "--config", "demo", *words, "optim.warmup_steps=0", "--find", "batch"]) == OK
    )
    assert capsys.readouterr().out.startswith("data.batch_size=4 fits")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_rate_is_proposed_within_the_range(tmp_path):
    text = find(small(tmp_path, "data.scenes=8", "optim.head_lr_factor=10"), "lr")
    rate = float(re.match(r"optim\.lr=(\S+) ", text)[1])
    assert 1e-6 < rate < 1
    assert STEPS == 100
    assert not list(tmp_path.iterdir())


def test_several_devices_are_refused(tmp_path, capsys):
    words = [*WORDS, f"run.dir={tmp_path}", "trainer.devices=2"]
    assert main(["fit", "--config", "demo", *words, "--find", "lr"]) == YOURS
    assert "trainer.devices=1" in " ".join(capsys.readouterr().err.split())

"""Training of the contenders that need hrseg alone, choice of rows, and the table."""

import io
import json
import sys

import pytest
import torch

from tools import training_peers
from tools.bench_training import ROWS, chosen, parser, table


def job(contender, **options):
    return training_peers.Job(contender, options, True, "hrnet_w18_small_v1", 3, (2, 64, 64), "ohem", "cpu")


@pytest.mark.parametrize(("contender", "options"), [("plain", {}), ("hrseg", {"checkpointing": "blocks"})])
def test_contenders_do_as_many_steps_as_requested(contender, options, monkeypatch):
    answers = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n2\n"))
    monkeypatch.setattr(sys, "__stdout__", answers)
    steps = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a, **k: (steps.append(1), step(self, *a, **k))[1])
    made = job(contender, **options)
    training_peers.CONTENDERS[contender](made, training_peers.answering(made, training_peers.in_memory(made)))
    assert len(steps) == 3
    turns = [line for line in answers.getvalue().splitlines() if line.startswith("turn ")]
    assert len(turns) == 2
    assert set(json.loads(turns[0].removeprefix("turn "))) == {*("wall", "cpu", "wall loader", "cpu loader", "memory")}


def test_rows_are_those_whose_code_is_there():
    names = chosen(parser().parse_args(["--official", "x"]))
    assert "official, fp32" in names
    assert not any(ROWS[name].contender == "mmseg" for name in names)
    with pytest.raises(SystemExit, match="needs --official or --mmseg"):
        chosen(parser().parse_args(["--rows", "mmsegmentation, bf16"]))
    with pytest.raises(SystemExit, match="No row 'ours'"):
        chosen(parser().parse_args(["--rows", "ours"]))


def test_ratios_are_taken_within_rounds():
    plain = [{"wall": seconds, "cpu": 9.0, "memory": 2**30} for seconds in (2.0, 4.0, 40.0)]
    mine = [{"wall": seconds, "cpu": 9.0, "memory": 2**29} for seconds in (1.0, 2.0, 10.0)]
    lines = table({"plain loop, fp32": plain, "hrseg, bf16": mine}, 4, "wall").splitlines()
    assert lines[2] == "| plain loop, fp32 | 1.00 | 1.00 | 1.00 GiB | 1.00 |"
    assert lines[3] == "| hrseg, bf16 | 2.00 | 2.00 | 0.50 GiB | 0.50 |"


def test_the_loaders_share_is_shown_where_images_are_loaded():
    turn = {"wall": 2.0, "cpu": 2.0, "wall loader": 0.5, "cpu loader": 0.1, "memory": 2**30}
    assert table({"hrseg, bf16": [turn]}, 4, "cpu").endswith("| 5.0 % |")
    assert table({"hrseg, bf16": [turn]}, 4, "wall").endswith("| 25.0 % |")

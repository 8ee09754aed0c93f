"""Times are taken by a clock of our own here, so that no test waits and none depends on the machine."""

import pytest
import torch

from hrseg.benchmark.ceiling import matrix_ceiling
from hrseg.benchmark.clock import alternate, repeat
from hrseg.benchmark.memory import Peak, resident


class Toy:
    """A clock that only work moves on; everything is written down."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float):
        def run() -> None:
            self.done.append(name)
            self.now += seconds

        return run


def test_repeat_stops_when_the_time_is_up():
    toy = Toy()
    assert repeat(toy.work("a", 2.0), 7.0, clock=toy) == [2.0] * 4


def test_repeat_runs_at_least_and_at_most():
    toy = Toy()
    assert len(repeat(toy.work("a", 9.0), 1.0, least=3, clock=toy)) == 3
    assert len(repeat(toy.work("a", 0.0), 1.0, most=5, clock=toy)) == 5


def test_the_device_is_waited_for_before_the_clock_stops():
    toy = Toy()
    waiting = toy.work("wait", 0.5)
    assert repeat(toy.work("a", 1.0), 0.0, wait=waiting, least=1, clock=toy) == [1.5]
    assert toy.done == ["wait", "a", "wait"]


def test_turns_are_taken_in_both_orders():
    toy = Toy()
    works = {"A": toy.work("A", 1.0), "B": toy.work("B", 3.0)}
    assert alternate(works, 0.0, least=3, clock=toy) == {"A": [1.0] * 3, "B": [3.0] * 3}
    assert "".join(toy.done) == "ABBAAB"


def test_the_time_of_all_counts():
    toy = Toy()
    works = {"A": toy.work("A", 1.0), "B": toy.work("B", 3.0)}
    assert len(alternate(works, 15.0, least=1, clock=toy)["A"]) == 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_ceiling_is_a_rate(precision):
    rate = matrix_ceiling(torch.device("cpu"), precision, seconds=0.01, side=64)
    assert rate is not None
    assert rate > 1e5


def test_no_ceiling_for_what_torch_does_not_multiply_in():
    assert matrix_ceiling(torch.device("cpu"), "int8") is None
    assert matrix_ceiling(torch.device("cpu"), "fp16") is None


@pytest.mark.skipif(resident() is None, reason="the system does not tell what a process holds")
def test_a_peak_is_seen_after_it_is_over():
    with Peak(torch.device("cpu")) as peak:
        block = torch.ones(20_000_000)  # 80 MB
        block.sum()
        del block
    assert peak.bytes is not None
    assert 7e7 < peak.bytes < 2e8
    with Peak(torch.device("cpu")) as later:
        torch.ones(1000).sum()
    assert later.bytes is not None
    assert later.bytes < 5e7

"""Times are taken by a clock of our own here, so that no test waits and none depends on the machine."""

import pytest
import torch

from hrseg.benchmark import timing
from hrseg.benchmark.timing import matrix_ceiling, peak_memory, resident, time_in_turns


class Toy:
    """A clock that only work moves on; everything is written down."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float):
        def run(*_: object) -> None:
            self.done.append(name)
            self.now += seconds

        return run


@pytest.fixture
def toy(monkeypatch):
    clock = Toy()
    monkeypatch.setattr(timing, "clock", clock)
    return clock


def test_one_alone_is_repeated_until_the_time_is_up(toy):
    assert time_in_turns({"a": toy.work("a", 2.0)}, 7.0) == {"a": [2.0] * 5}
    assert time_in_turns({"a": toy.work("a", 2.0)}, 7.0, least=3) == {"a": [2.0] * 4}
    assert time_in_turns({"a": toy.work("a", 9.0)}, 1.0, least=3) == {"a": [9.0] * 3}


def test_turns_are_taken_in_both_orders(toy):
    works = {"A": toy.work("A", 1.0), "B": toy.work("B", 3.0)}
    assert time_in_turns(works, 0.0, least=3) == {"A": [1.0] * 3, "B": [3.0] * 3}
    assert "".join(toy.done) == "ABBAAB"


def test_the_time_of_all_counts(toy):
    works = {"A": toy.work("A", 1.0), "B": toy.work("B", 3.0)}
    assert len(time_in_turns(works, 15.0, least=1)["A"]) == 4


def test_a_gpu_in_use_is_waited_for_before_and_after(monkeypatch):
    toy = Toy()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", toy.work("wait", 0.5))
    monkeypatch.setattr(timing.time, "perf_counter", toy)
    assert timing.seconds_of(toy.work("a", 1.0)) == 1.5
    assert toy.done == ["wait", "a", "wait"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_ceiling_counts_two_operations_for_each_multiply_add(monkeypatch, precision):
    monkeypatch.setattr(timing, "time_in_turns", lambda works, *_, **__: {"mm": [4.0, 2.0]})
    assert matrix_ceiling(torch.device("cpu"), precision) == 2048**3


def test_no_ceiling_for_what_torch_does_not_multiply_in():
    assert matrix_ceiling(torch.device("cpu"), "int8") is None
    assert matrix_ceiling(torch.device("cpu"), "fp16") is None


@pytest.mark.skipif(resident() is None, reason="the system does not tell what a process holds")
def test_a_peak_is_seen_after_it_is_over():
    device = torch.device("cpu")
    peak = peak_memory(lambda: torch.ones(20_000_000).sum(), device)  # 80 MB
    assert peak is not None
    assert 7e7 < peak < 2e8
    later = peak_memory(lambda: torch.ones(1000).sum(), device)
    assert later is not None
    assert later < 5e7


def test_memory_is_read_from_the_account_of_a_process(tmp_path):
    account = tmp_path / "status"
    account.write_text("VmHWM:\t  2048 kB\n\nVmRSS:\t  1024 kB\n")
    assert resident(file=str(account)) == 1024**2
    assert resident("VmHWM", str(account)) == 2 * 1024**2
    assert resident("Pss", str(account)) is None
    assert resident(file=str(tmp_path / "none")) is None

"""Threads, queues and budgets, without images."""

import threading
import weakref

import pytest

from hrseg.inference.worker_pool import MemoryBudget, Pool, Stopped, finished, result_of


def test_a_pool_hands_back_results_and_errors():
    pool = Pool(2, "test")
    assert [result_of(pool.submit(pow, 2, n)) for n in range(5)] == [1, 2, 4, 8, 16]
    with pytest.raises(ZeroDivisionError):
        result_of(pool.submit(divmod, 1, 0))
    pool.stop(wait=True)
    assert result_of(finished(3)) == 3


def test_a_waiting_thread_keeps_nothing_alive():
    class Network:
        def look(self) -> str:
            return "street"

    pool, network = Pool(1, "test"), Network()
    assert result_of(pool.submit(network.look)) == "street"
    gone = threading.Event()
    weakref.finalize(network, gone.set)
    del network
    assert gone.wait(10)
    pool.stop(wait=True)


def test_a_stopped_pool_finishes_what_it_does_and_begins_nothing():
    pool = Pool(1, "test")
    begun, go = threading.Event(), threading.Event()

    def job() -> str:
        begun.set()
        go.wait(10)
        return "done"

    first, second = pool.submit(job), pool.submit(job)
    begun.wait(10)
    pool.stop(wait=False)
    go.set()
    pool.stop(wait=True)
    assert first.result() == "done"
    assert second.cancelled()


def test_a_budget_lets_the_next_in_line_pass_and_others_wait():
    budget = MemoryBudget(10)
    budget.acquire(1, 9)
    budget.acquire(0, 50)  # its turn: however much it is
    assert budget.exceeded
    passed = []
    thread = threading.Thread(target=lambda: passed.append(budget.acquire(2, 5)))
    thread.start()
    thread.join(0.05)
    assert not passed
    budget.release(50)
    budget.release(9)
    thread.join(10)
    assert passed


def test_a_stopped_budget_holds_nobody():
    budget = MemoryBudget(1)
    budget.acquire(0, 1)
    budget.stop()
    with pytest.raises(Stopped):
        budget.acquire(5, 1)

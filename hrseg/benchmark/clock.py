"""Taking times: warmed up, waiting for the device, one alone or several in turns."""

import time
from collections.abc import Callable, Mapping

import torch

Work = Callable[[], object]
Clock = Callable[[], float]


def waiter(device: torch.device) -> Work:
    """Return what waits until a device has done all that was asked of it."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def seconds_of(work: Work, wait: Work = lambda: None, clock: Clock = time.perf_counter) -> float:
    """Run once and return how long it took, the device's time included."""
    wait()
    start = clock()
    work()
    wait()
    return clock() - start


def repeat(
    work: Work,
    seconds: float,
    *,
    wait: Work = lambda: None,
    least: int = 3,
    most: int = 10_000,
    clock: Clock = time.perf_counter,
) -> list[float]:
    """Run again and again until the time is up, and return the seconds of each run.

    Args:
        work: What is timed; it was run before.
        seconds: How long to go on; the last run may end later.
        wait: See `waiter`.
        least: Runs that are done in any case.
        most: Runs after which it ends in any case.
        clock: Tells seconds.
    """
    taken: list[float] = []
    while len(taken) < least or (sum(taken) < seconds and len(taken) < most):
        taken.append(seconds_of(work, wait, clock))
    return taken


def alternate(
    works: Mapping[str, Work],
    seconds: float,
    *,
    wait: Work = lambda: None,
    least: int = 5,
    most: int = 10_000,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Let several take turns, the order reversed in every second round.

    Args:
        works: Name → what is timed.
        seconds: How long all of them go on together.
        wait: See `waiter`.
        least: Rounds that are done in any case.
        most: Rounds after which it ends in any case.
        clock: Tells seconds.

    Returns:
        Name → seconds, one for each round.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    spent, rounds = 0.0, 0
    while rounds < least or (spent < seconds and rounds < most):
        for name in order:
            taken[name].append(seconds_of(works[name], wait, clock))
            spent += taken[name][-1]
        order.reverse()
        rounds += 1
    return taken

"""Alternate timing, peak memory, and the rate of a matrix product; needs torch alone, since `tools.peers` has no more.

torch.utils.benchmark is not used: `Timer.timeit` warms up by two runs each time, which would separate the runs of a
pair.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

Work = Callable[[], object]
T = TypeVar("T")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def clock() -> float:
    """Return the time in seconds after synchronizing a GPU in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Work) -> float:
    """Run once and return the seconds, those of the device included."""
    start = clock()
    work()
    return clock() - start


def take_turns(works: Mapping[str, Callable[[], T]], seconds: float, least: int = 5) -> dict[str, list[T]]:
    """Call functions alternately and collect their values, the order reversed in every second round.

    Args:
        works: Name → function.
        seconds: Minimum time of all rounds together.
        least: Minimum number of rounds.
    """
    values: dict[str, list[T]] = {name: [] for name in works}
    order, start, rounds = list(works), clock(), 0
    while rounds < least or clock() - start < seconds:
        for name in order:
            values[name].append(works[name]())
        order.reverse()
        rounds += 1
    return values


def time_in_turns(works: Mapping[str, Work], seconds: float, least: int = 5) -> dict[str, list[float]]:
    """Return the seconds of works that take turns; each was run before."""
    timers = {name: partial(seconds_of, work) for name, work in works.items()}
    return take_turns(timers, seconds, least)


def matrix_ceiling(device: torch.device, precision: str) -> float | None:
    """Return the operations per second of the fastest of several matrix products; a multiply-add is two.

    Winograd's and similar convolutions multiply less than is counted, so fp32 networks can exceed it; fp32 is never
    TF32 here. None for a precision that torch does not multiply in, such as int8, or not quickly, as fp16 on a CPU.
    """
    if precision not in DTYPES or (precision == "fp16" and device.type == "cpu"):
        return None
    side = 8192 if device.type == "cuda" else 2048  # a fraction of a second on the whole device
    generator = torch.Generator().manual_seed(0)
    left, right = torch.rand(2, side, side, generator=generator).to(device, DTYPES[precision])
    out = torch.empty_like(left)
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        torch.mm(left, right, out=out)
        taken = time_in_turns({"mm": lambda: torch.mm(left, right, out=out)}, 0.5, least=3)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    return 2 * side**3 / min(taken["mm"])


def resident(key: str = "VmRSS", file: str = "/proc/self/status") -> int | None:
    """Return a memory figure of a process in bytes; None where the system has no /proc."""
    try:
        lines = [line.split() for line in Path(file).read_text().splitlines()]
    except OSError:
        return None
    return next((1024 * int(words[1]) for words in lines if words and words[0] == f"{key}:"), None)


def release_memory() -> None:
    """Return freed memory to the system, so that later use shows as growth."""
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def peak_memory(work: Work, device: torch.device, base: int | None = None) -> int | None:
    """Run once and return the peak in bytes; None where the system has no figure.

    On CUDA it is the peak of torch's allocator, weights included; on a CPU the growth of the process above `base`,
    resident bytes, or above those before the run.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        seconds_of(work)  # waits for the device
        return torch.cuda.max_memory_allocated(device)
    release_memory()
    with suppress(OSError):  # the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    base = resident() if base is None else base
    work()
    top = resident("VmHWM")
    return None if top is None or base is None else max(0, top - base)

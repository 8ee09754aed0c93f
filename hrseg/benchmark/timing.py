"""Times, peak memory and the rate of a matrix product; needs nothing but torch, since `tools.peers` has little else.

torch.utils.benchmark is not used: `Timer.timeit` warms up by two runs each time, which would part the runs of a pair.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

Work = Callable[[], object]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def clock() -> float:
    """Return a time in seconds, taken when a GPU in use has done all that was asked of it."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Work) -> float:
    """Run once and return how long it took, the device's time included."""
    start = clock()
    work()
    return clock() - start


def take_turns(works: Mapping[str, Work], seconds: float, least: int = 5) -> dict[str, list[float]]:
    """Time works in turns, the order reversed in every second round; a single one is repeated.

    Args:
        works: Name → what is timed; it was run before.
        seconds: How long all of them go on together, after at least so many rounds.
        least: Rounds that are done in any case.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    order, spent, rounds = list(works), 0.0, 0
    while rounds < least or spent < seconds:
        for name in order:
            taken[name].append(seconds_of(works[name]))
            spent += taken[name][-1]
        order.reverse()
        rounds += 1
    return taken


def matrix_ceiling(device: torch.device, precision: str) -> float | None:
    """Return the operations per second of the fastest of several matrix products; a multiply-add is two.

    Winograd's and similar convolutions multiply less than is counted, so fp32 networks can exceed it; fp32 is never
    TF32 here. None for a precision that torch does not multiply in, such as int8, or not quickly, as fp16 on a CPU.
    """
    if precision not in DTYPES or (precision == "fp16" and device.type == "cpu"):
        return None
    side = 8192 if device.type == "cuda" else 2048  # keeps it busy, for a fraction of a second
    generator = torch.Generator().manual_seed(0)
    left, right = torch.rand(2, side, side, generator=generator).to(device, DTYPES[precision])
    out = torch.empty_like(left)
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        torch.mm(left, right, out=out)
        taken = take_turns({"mm": lambda: torch.mm(left, right, out=out)}, 0.5, least=3)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    return 2 * side**3 / min(taken["mm"])


def resident(key: str = "VmRSS", file: str = "/proc/self/status") -> int | None:
    """Return the bytes that Linux counts for a process under a key; None where it does not tell."""
    try:
        lines = [line.split() for line in Path(file).read_text().splitlines()]
    except OSError:
        return None
    return next((1024 * int(words[1]) for words in lines if words and words[0] == f"{key}:"), None)


def hand_back() -> None:
    """Return freed memory to the system, so that what is used next shows as growth."""
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def peak_memory(work: Work, device: torch.device, base: int | None = None) -> int | None:
    """Run once and return the peak in bytes; None where the system does not tell.

    On CUDA it is the most that torch's allocator held, weights included; on a CPU the most by which the process grew
    above `base`, resident bytes, or above those before the run.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        seconds_of(work)  # waits for the device
        return torch.cuda.max_memory_allocated(device)
    hand_back()
    with suppress(OSError):  # the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text("5")  # counts it anew
    base = resident() if base is None else base
    work()
    top = resident("VmHWM")
    return None if top is None or base is None else max(0, top - base)

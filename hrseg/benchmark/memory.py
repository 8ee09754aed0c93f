"""Peak memory of a piece of work: what a GPU's allocator held, or by how much the process grew."""

import ctypes
import gc
import sys
from pathlib import Path
from types import TracebackType

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def status_bytes(text: str, key: str) -> int | None:
    """Read one line of Linux's account of a process.

    Example:
        >>> status_bytes("VmHWM:\\t  2048 kB\\nVmRSS:\\t  1024 kB\\n", "VmRSS")
        1048576
    """
    for line in text.splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    return None


def resident() -> int | None:
    """Return the bytes that the process holds now; None where the system does not tell."""
    return status_bytes(_STATUS.read_text(), "VmRSS") if _STATUS.exists() else None


def hand_back() -> None:
    """Return freed memory to the system, so that what is used next shows as growth."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class Peak:
    """Watches peak memory while its block runs.

    On CUDA `bytes` is the most that torch's allocator held, weights included. On a CPU it is the most by which the
    process grew above `base`. None where the system tells neither.

    Args:
        device: Where the work is done.
        base: Resident bytes that growth counts from; None takes those at the start of the block.

    Example:
        >>> with Peak(torch.device("cpu")) as peak:
        ...     block = torch.ones(25_000_000)
        >>> peak.bytes is None or peak.bytes > 9e7
        True
    """

    def __init__(self, device: torch.device, base: int | None = None) -> None:
        self.device = device
        self.base = base
        self.bytes: int | None = None

    def __enter__(self) -> "Peak":
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        hand_back()
        _forget_peak()
        if self.base is None:
            self.base = resident()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.bytes = torch.cuda.max_memory_allocated(self.device)
            return
        top = status_bytes(_STATUS.read_text(), "VmHWM") if _STATUS.exists() else None
        if top is not None and self.base is not None:
            self.bytes = max(0, top - self.base)


def _forget_peak() -> None:
    """Let Linux count the peak anew; where it may not, the peak is that of the whole process."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return

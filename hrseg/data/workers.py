"""What a loader process is told before its first image, and how many of them a machine bears."""

import ctypes
import os
import sys

from hrseg.data.transforms import limit_threads

MAX_WORKERS = 8
_KEEP = 2**28
"""Bytes of freed memory that a loader process keeps for its next image."""
_MMAP_FROM = 2**25
"""Arrays from this size on come straight from the system; the most that the C library allows."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def prepare_worker(worker_id: int = 0) -> None:
    """Keep a loader process to one thread, and let it keep its memory."""
    limit_threads(worker_id)
    keep_memory()


def keep_memory() -> None:
    """Let the C library keep freed memory instead of giving it back after every image.

    Getting a megabyte again costs as long as inflating half of it. Where the library is another, nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEEP)
        mallopt(_MMAP_THRESHOLD, _MMAP_FROM)


def default_workers(devices: int = 1) -> int:
    """Return loader processes per device: what the cores allow, one of them kept for the training.

    Args:
        devices: On this machine.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # a container or a batch queue may give us fewer
        cores = len(os.sched_getaffinity(0))
    return min(MAX_WORKERS, max(0, cores // devices - 1))

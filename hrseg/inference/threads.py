"""How many threads compute: one for each physical core that this process may use."""

import os
from pathlib import Path

import torch

_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def settle_threads(threads: int | None = None) -> int:
    """Let torch use so many threads, else as OMP_NUM_THREADS says, else the physical cores; return the number.

    Two threads on one core share its arithmetic and get in each other's way; a container's quota is kept.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    elif not os.environ.get("OMP_NUM_THREADS"):
        wanted = usable_cores()
        if wanted < torch.get_num_threads():
            torch.set_num_threads(wanted)
    return torch.get_num_threads()


def usable_cores(cpus: Path = _CPUS, quota: Path = _QUOTA) -> int:
    """Return the physical cores of this process's affinity, at most what its container may use.

    Args:
        cpus: Where Linux describes processors.
        quota: Where Linux says what a container may use.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    numbers = os.sched_getaffinity(0)
    cores = set()
    for number in numbers:
        try:
            siblings = cpus / f"cpu{number}" / "topology" / "thread_siblings_list"
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(str(number))
    return max(1, min(len(cores), _allowed(quota)))


def _allowed(quota: Path) -> int:
    try:
        most, period = quota.read_text().split()
        return len(os.sched_getaffinity(0)) if most == "max" else -(-int(most) // int(period))
    except (OSError, ValueError):
        return len(os.sched_getaffinity(0))

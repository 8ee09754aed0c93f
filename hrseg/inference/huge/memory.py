"""Bytes: what a person wrote, what the process has, what the machine has free, and what a network takes."""

import re
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hrseg.errors import ConfigError
from hrseg.inference.prepare import LogitsFunction

SPARE = 96 * 2**20
"""Bytes left for what is not counted: libraries, compression, the allocator's gaps."""
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_LEAST = 2**29
_PROBE = 128
_LARGER_PROBE = 512  # small changes of the process do not count beside it
_FEW, _HIDDEN = (
    10,
    400,
)  # fewer operations than a network has: torch does not see inside; bytes of a pixel then


def parse_size(text: str) -> int:
    """Read a size such as 1.5G or 800M.

    Raises:
        ConfigError: It is none, or less than torch itself takes.

    Example:
        >>> parse_size("1.5G"), parse_size("800 MiB")
        (1610612736, 838860800)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if not found:
        raise ConfigError(f"'{text}' is not a size. Write a number and K, M, G or T, such as 1.5G.")
    size = int(float(found[1]) * _UNITS[found[2]])
    if size < _LEAST:
        raise ConfigError(
            f"{text} is less than a process with torch takes. Give at least {_LEAST // 2**20}M, better 1G."
        )
    return size


def used_memory() -> int:
    """Return the bytes of memory that this process holds."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096
    except (OSError, IndexError, ValueError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)


def free_memory() -> int:
    """Return the bytes of memory that the machine could still give; 8 GiB where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return 2**33


def bytes_per_pixel(
    logits_fn: LogitsFunction, bands: int, release: Callable[[], None] | None = None
) -> int:
    """Return the bytes that a network needs for each pixel of its images at its peak, measured on a small one.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        bands: Of its images.
        release: Gives back what an engine keeps between images where torch does not see it (`engines.Engine`).
    """
    with _Live() as live:
        logits_fn(torch.zeros(1, bands, _PROBE, _PROBE))
    seen = live.peak // _PROBE**2
    if release is not None:
        return seen + (_kept(logits_fn, bands, release) or _HIDDEN)
    return max(seen, _HIDDEN) if live.made < _FEW else seen


def _kept(logits_fn: LogitsFunction, bands: int, release: Callable[[], None]) -> int:
    """Return by how much the process grows for each pixel, once weights are packed for such sizes."""
    image = torch.zeros(1, bands, _LARGER_PROBE, _LARGER_PROBE)
    logits_fn(image)
    release()
    before = used_memory()
    logits_fn(image)
    grown = used_memory() - before
    release()
    return max(0, grown) // _LARGER_PROBE**2


class _Live(TorchDispatchMode):
    """Adds up the storages that operations make, for as long as somebody holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.made = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, torch.Tensor):
                self._meet(value.untyped_storage())
        return made

    def _meet(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.made += 1
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._leave, key, storage.nbytes())

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

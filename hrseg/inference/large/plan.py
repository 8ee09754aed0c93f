"""Memory of a run: the limit that a user sets, what the process holds, and what segmenting an image takes.

A limit never changes a result: it is kept, or refused with the least one that can be.
"""

import copy
import logging
import re
import sys
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hrseg.errors import ConfigError, DataError
from hrseg.inference.predictor import Predictor
from hrseg.inference.window_grid import Grid, Size, plan_windows
from hrseg.models import create_model

log = logging.getLogger(__name__)

HEADROOM = 128 * 2**20
"""Bytes left for what is not counted: libraries, compression, the allocator's gaps."""
DEFAULT_BYTES = int(1.2 * 2**30)
"""What a large image may take beside the process with its model, before hrseg says so, where no limit is set."""
IN_MEMORY = 40
"""Bytes of a pixel of an image that is held whole, and of the next: pixels, mask, confidence, overlay, its file."""
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_LEAST = 2**29
_PROBE = 256
_TAKEN = {
    **{("torch", "bf16"): 0.7, ("torch", "fp32"): 1.25},
    **{("openvino", "bf16"): 1.1, ("openvino", "fp32"): 2.2},
}
"""Engine and precision → bytes at its peak for each byte of `network_bytes`, measured on small v1 to W48 with OCR."""
_UNKNOWN = 1000
"""Bytes of a pixel of a network that torch cannot follow, such as an exported file of another program."""


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
            f"{text} is less than a process with torch takes. Give at least {_LEAST // 2**20}M, better 1.5G."
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


def check_limit(predictor: Predictor, size: Size, limit: int | None, held: int, name: str) -> None:
    """Refuse a limit that an image cannot be segmented in; without one, say where it takes more than DEFAULT_BYTES.

    Args:
        predictor: Its protocol and network say what goes through the network at once.
        size: (height, width) of the image.
        limit: Bytes that the process may use.
        held: Bytes beside what goes through the network: what the process had before, and the image.
        name: The image, for the message.

    Raises:
        DataError: With the least limit, and windows that would fit if there are any.
    """
    grid = predictor.scorer.plan(size)
    held += HEADROOM
    need = held + window_bytes(predictor, grid)
    if limit is None:
        if need > used_memory() + DEFAULT_BYTES:
            log.warning(
                "%s needs %.1f GiB. To be refused instead: --max-memory.", name, need / 2**30
            )
        return
    if need <= limit:
        return
    windows = f"in windows of {grid.rows[0][1]} x {grid.columns[0][1]}"
    how = "in one piece" if grid.whole else windows
    smaller = ""
    for side in (768, 512, 256, 128):
        cut = plan_windows(size, (side, side), batch=1)
        if not predictor.protocol.absolute and held + window_bytes(predictor, cut) < limit:
            smaller = f", or choose windows that fit: --window {side} {side}"
            break
    raise DataError(
        f"{name} ({size[0]} x {size[1]} pixels) needs {need / 2**30:.2f} GiB {how}; the limit is "
        f"{limit / 2**30:.2f} GiB. Allow --max-memory {-(-need * 20 // 2**30) / 20 + 0.05:.2f}G or more{smaller}."
    )


def window_bytes(predictor: Predictor, grid: Grid) -> int:
    """Return the most host memory that windows take: the network's maps, and logits that wait for later windows."""
    (h, w), row = grid.window, predictor.protocol
    on_host = predictor.device.type == "cpu"
    pixels = h * w * grid.batch * (1 if row.plain else max(row.scales) ** 2)
    logits = 4 * predictor.labels.num_classes if on_host else 0
    if grid.whole and row.plain and getattr(predictor.logits_fn, "coarse", None):
        logits = 0  # reduced from the head's own resolution
    maps = (
        2 if row.plain else 4
    )  # of a window, and of those that are blended; scores of a view, and their sum
    network = 8 * predictor.in_channels
    if on_host:
        network += engine_bytes(predictor)
    return int(network * pixels + logits * (maps * h * w + grid.max_waiting * grid.size[1]))


def engine_bytes(predictor: Predictor) -> int:
    """Return the bytes that a predictor's engine takes for each pixel of its images."""
    engine = getattr(predictor.logits_fn, "name", "torch")
    taken = _TAKEN.get((engine, predictor.precision), max(_TAKEN.values()))
    return int(taken * network_bytes(predictor.network, predictor.in_channels))


def network_bytes(network: nn.Module, bands: int) -> int:
    """Return the bytes of float32 maps that a network holds at a time for each pixel of its images.

    They follow from its form alone: its operations run without any data, on torch's meta device.
    """
    spec = getattr(network, "spec", {})
    try:
        with torch.device("meta"), torch.no_grad():
            exported = next(network.parameters(), None) is None and "backbone" in spec
            twin: Any = create_model(**spec) if exported else copy.deepcopy(network).to("meta")
            run = getattr(twin, "forward_coarse", twin)
            with _Live() as live:
                run(torch.zeros(1, bands, _PROBE, _PROBE))
    except (RuntimeError, NotImplementedError, ConfigError):
        return _UNKNOWN
    return live.peak // _PROBE**2 or _UNKNOWN


class _Live(TorchDispatchMode):
    """Adds up the storages that operations make, for as long as somebody holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
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
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._leave, key, storage.nbytes())

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

"""Host memory of inference: a user's limit, what the process holds, and what segmenting an image takes.

A limit never changes a result: it is met, or refused with the smallest one that can be met.
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
from hrseg.inference.windows import Grid, Size, plan_windows
from hrseg.models import create_model

log = logging.getLogger(__name__)

HEADROOM = 128 * 2**20
"""Bytes for what is not counted: libraries, compression, fragmentation."""
DEFAULT_BYTES = int(1.2 * 2**30)
"""Without a limit, an image that takes more beside the process with its model is reported."""
BYTES_PER_PIXEL = 40
"""Of an image that is held whole, and of the next: pixels, mask, confidence, overlay, its file."""
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MIN_LIMIT = 2**29
_PROBE_SIDE = 256
_PEAK_RATIO = {
    **{("torch", "bf16"): 0.7, ("torch", "fp32"): 1.25},
    **{("openvino", "bf16"): 1.1, ("openvino", "fp32"): 2.2},
}
"""Engine and precision → peak bytes for each byte of `network_bytes`, measured on small v1 to W48 with OCR."""
_DEFAULT_NETWORK_BYTES = 1000
"""Bytes per pixel of a network that torch cannot trace, such as an exported file of another program."""


def parse_size(text: str) -> int:
    """Parse a size such as 1.5G or 800M to bytes.

    Raises:
        ConfigError: It is no size, or less than torch itself takes.

    Example:
        >>> parse_size("1.5G"), parse_size("800 MiB")
        (1610612736, 838860800)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if not found:
        raise ConfigError(f"'{text}' is not a size. Write a number and K, M, G or T, such as 1.5G.")
    size = int(float(found[1]) * _UNITS[found[2]])
    if size < _MIN_LIMIT:
        raise ConfigError(
            f"{text} is less than a process with torch takes. Give at least {_MIN_LIMIT // 2**20}M, better 1.5G."
        )
    return size


def used_memory() -> int:
    """Return the resident memory of this process in bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096
    except (OSError, IndexError, ValueError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)


def check_limit(predictor: Predictor, size: Size, limit: int | None, held: int, name: str) -> None:
    """Raise if an image needs more memory than the limit; without one, warn above DEFAULT_BYTES.

    Args:
        predictor: Its protocol and network determine the windows.
        size: (height, width) of the image.
        limit: Bytes that the process may use.
        held: Bytes beside the network's: of the process before, and of the image.
        name: The image, for the message.

    Raises:
        DataError: With the smallest sufficient limit, and windows that would fit if there are any.
    """
    grid = predictor.inference.plan(size)
    held += HEADROOM
    need = held + window_bytes(predictor, grid)
    if limit is None:
        if need > used_memory() + DEFAULT_BYTES:
            log.warning("%s needs %.1f GiB. To be refused instead: --max-memory.", name, need / 2**30)
        return
    if need <= limit:
        return
    h, w = grid.rows[0][1], grid.columns[0][1]
    how = "in one piece" if grid.whole else f"in windows of {h} x {w}"
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
    """Return the peak host memory of windows: the network's maps, and logits that wait for later windows."""
    (h, w), protocol = grid.window, predictor.protocol
    on_host = predictor.device.type == "cpu"
    pixels = h * w * grid.batch * (1 if protocol.plain else max(protocol.scales) ** 2)
    logits = 4 * predictor.labels.num_classes if on_host else 0  # bytes per pixel
    if grid.whole and protocol.plain and getattr(predictor.logits_fn, "coarse", None):
        logits = 0  # reduced from stride 4
    maps = 2 if protocol.plain else 4  # of a window and its blend; of a view, and of the sum
    network = 8 * predictor.in_channels
    if on_host:
        ratio = _PEAK_RATIO.get((predictor.engine, predictor.precision), max(_PEAK_RATIO.values()))
        network += int(ratio * network_bytes(predictor.network, predictor.in_channels))
    return int(network * pixels + logits * (maps * h * w + grid.max_waiting * grid.size[1]))


def network_bytes(network: nn.Module, bands: int) -> int:
    """Return the peak bytes of float32 maps that a network holds for each pixel of its images.

    The network is traced on torch's meta device, which has shapes and no data.
    """
    spec = getattr(network, "spec", {})
    try:
        with torch.device("meta"), torch.no_grad():
            exported = next(network.parameters(), None) is None and "backbone" in spec
            traced: Any = create_model(**spec) if exported else copy.deepcopy(network).to("meta")
            run = getattr(traced, "forward_coarse", traced)
            with _PeakMemory() as memory:
                run(torch.zeros(1, bands, _PROBE_SIDE, _PROBE_SIDE))
    except (RuntimeError, NotImplementedError, ConfigError):
        return _DEFAULT_NETWORK_BYTES
    return memory.peak // _PROBE_SIDE**2 or _DEFAULT_NETWORK_BYTES


class _PeakMemory(TorchDispatchMode):
    """Sum of the storages that are alive, and its peak."""

    def __init__(self) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key = storage._cdata  # views share their storage
        if key in self._alive:
            return
        self._alive.add(key)
        self.current += storage.nbytes()
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self._alive.discard(key)  # the address may be used again
        self.current -= size

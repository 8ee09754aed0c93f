"""Results of timing: a row for one model at one size, a report of rows, or the comparison of two models.

The fields of `Row`, `Report` and `Comparison` are those of the JSON.
"""

import platform
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.errors import ConfigError, columns, seconds_text, three_digits

UNTIL = {
    "labels": "uint8 images in, label maps out: what predict does for masks and overlays, but the files",
    "logits": "normalized images in, float32 logits at image size out",
    "head": "normalized images in, logits at the head's own resolution out: network and head alone",
}
"""End of the timed work → description."""
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_HEADER = ("model", "size", "batch", "precision", *PERCENTILES)
_HEADER += ("images/s", "Mpixel/s", "memory", "GMAC", "of ceiling", "runs")


@dataclass(frozen=True)
class Machine:
    """The device, its kind ("cpu" or "cuda"), torch's threads, and the versions of what ran."""

    device: str
    kind: str
    threads: int
    versions: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.device}, {threads}; {versions}"


def describe(device: torch.device) -> Machine:
    """Describe the machine that a device belongs to."""
    versions = {"python": platform.python_version()}
    for package in ("hrseg", "torch", "onnxruntime", "openvino"):
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return Machine(name, device.type, torch.get_num_threads(), versions)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(errors="replace") if info.exists() else ""
    found = re.search(r"^model name[ \t]*:[ \t]*(\S.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else platform.processor() or platform.machine()


@dataclass(frozen=True)
class Ratio:
    """Time of the first over the second: median, 95 % interval and number of pairs."""

    median: float
    low: float
    high: float
    pairs: int


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Divide two series of alternate times, pair by pair; the interval is a bootstrap over pairs.

    The times of a pair are neighbors, so other load on the machine affects both.

    Raises:
        ConfigError: Times that do not pair, or a time that is not above 0.
    """
    if len(first) != len(second) or not len(first) or min(*first, *second) <= 0:
        raise ConfigError(
            f"{len(first)} and {len(second)} times make no ratio. Give as many of each, at least one, all above 0."
        )
    ratios = np.asarray(first, float) / np.asarray(second, float)
    drawn = np.random.default_rng(0).integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))


@dataclass(frozen=True)
class Row:
    """One model at one size, times in seconds for a batch; docs/benchmark.md defines the numbers."""

    model: str
    precision: str
    height: int
    width: int
    batch: int
    runs: int
    first_seconds: float
    seconds: dict[str, float]
    images_per_second: float
    megapixels_per_second: float
    peak_memory_bytes: int | None
    multiply_adds: int | None = None
    ceiling_operations_per_second: float | None = None
    share_of_ceiling: float | None = None

    def against(self, multiply_adds: int | None, ceiling: float | None) -> "Row":
        """Return the row with the multiply-adds of the batch, and the share of a ceiling that the median reaches."""
        share = 2 * multiply_adds / self.seconds["p50"] / ceiling if multiply_adds and ceiling else None
        work: dict[str, Any] = {"multiply_adds": multiply_adds, "share_of_ceiling": share}
        return replace(self, ceiling_operations_per_second=ceiling, **work)

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table's row."""
        memory, adds, share = self.peak_memory_bytes, self.multiply_adds, self.share_of_ceiling
        return (
            *(self.model, f"{self.height}x{self.width}", str(self.batch), self.precision),
            *map(seconds_text, self.seconds.values()),
            three_digits(self.images_per_second),
            three_digits(self.megapixels_per_second),
            "?" if memory is None else f"{memory / 1e6:,.0f} MB",
            "?" if adds is None else three_digits(adds / 1e9),
            "?" if share is None else f"{100 * share:.0f} %",
            str(self.runs),
        )


def summarize(
    model: tuple[str, str],
    shape: Sequence[int],
    first: float,
    taken: list[float],
    memory: int | None,
) -> Row:
    """Make a row of a model's name and precision, (N, H, W), the first run's seconds, all others', and bytes."""
    batch, height, width = shape
    found = np.quantile(taken, list(PERCENTILES.values())).tolist()
    latency = dict(zip(PERCENTILES, found, strict=True))
    rate = batch * len(taken) / sum(taken)
    sizes, megapixels = (height, width, batch, len(taken)), rate * height * width / 1e6
    return Row(*model, *sizes, first, latency, rate, megapixels, memory)


@dataclass(frozen=True)
class Report:
    """All rows of one run, with the machine and the end of the timed work."""

    machine: Machine
    until: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        ceilings = {row.precision: row.ceiling_operations_per_second for row in self.rows}
        limits = [f"{three_digits(v / 1e9)} GFLOP/s in {k}" for k, v in ceilings.items() if v]
        lines = [str(self.machine), f"Timed: {UNTIL[self.until]}."]
        lines += [f"Ceiling, one matrix product: {', '.join(limits)}."] if limits else []
        return "\n".join([*lines, *columns([_HEADER, *(row.cells() for row in self.rows)])])


@dataclass(frozen=True)
class Comparison:
    """Two models timed alternately: names with precisions, medians, A's time over B's, share of equal pixels."""

    machine: Machine
    until: str
    height: int
    width: int
    batch: int
    models: tuple[str, str]
    median_seconds: tuple[float, float]
    ratio: Ratio
    same_class: float | None

    def __str__(self) -> str:
        ratio, images = self.ratio, f"{self.batch} x {self.height}x{self.width}"
        lines = [str(self.machine), f"Timed: {UNTIL[self.until]}."]
        for mark, name, median in zip("AB", self.models, self.median_seconds, strict=True):
            lines.append(f"{mark}  {name}: {seconds_text(median)} for {images}")
        lines.append(
            f"A takes {ratio.median:.2f} x the time of B, 95 % interval {ratio.low:.2f} to {ratio.high:.2f}, "
            f"{ratio.pairs} pairs in turns."
        )
        if self.same_class is not None:
            lines.append(f"{100 * self.same_class:.3f} % of the pixels get the same class.")
        return "\n".join(lines)

"""What was found: a row for one model at one size, all rows as a table, or two that took turns."""

from dataclasses import dataclass
from typing import Any

from hrseg.benchmark.machine import Machine
from hrseg.benchmark.ratios import Ratio, percentile, seconds_text, three_digits
from hrseg.benchmark.subjects import UNTIL

Size = tuple[int, int]
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Row:
    """One model at one size.

    Attributes:
        name: Of the model.
        precision: That it computed in.
        size: (height, width).
        batch: Images at once.
        first_seconds: Of the very first run, with all that is prepared then.
        seconds: Of each timed run.
        memory: Peak bytes; on a CPU above those of the opened model, on CUDA the allocator's, weights included.
        multiply_adds: Of the batch by the plain network, or None.
        ceiling: Operations per second of a matrix product in this precision, or None.
    """

    name: str
    precision: str
    size: Size
    batch: int
    first_seconds: float
    seconds: tuple[float, ...]
    memory: int | None
    multiply_adds: int | None = None
    ceiling: float | None = None

    @property
    def latency(self) -> dict[str, float]:
        """Name of a percentile → seconds for the batch."""
        return {name: percentile(self.seconds, share) for name, share in PERCENTILES.items()}

    @property
    def images_per_second(self) -> float:
        """Images over all timed runs."""
        return self.batch * len(self.seconds) / sum(self.seconds)

    @property
    def megapixels_per_second(self) -> float:
        """The same in megapixels."""
        return self.images_per_second * self.size[0] * self.size[1] / 1e6

    @property
    def share(self) -> float | None:
        """Operations of the median run over those that a matrix product would have done in that time."""
        if self.multiply_adds is None or self.ceiling is None:
            return None
        return 2 * self.multiply_adds / self.latency["p50"] / self.ceiling

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "model": self.name,
            "precision": self.precision,
            "height": self.size[0],
            "width": self.size[1],
            "batch": self.batch,
            "runs": len(self.seconds),
            "first_seconds": self.first_seconds,
            "seconds": self.latency,
            "images_per_second": self.images_per_second,
            "megapixels_per_second": self.megapixels_per_second,
            "peak_memory_bytes": self.memory,
            "multiply_adds": self.multiply_adds,
            "ceiling_operations_per_second": self.ceiling,
            "share_of_ceiling": self.share,
        }


@dataclass(frozen=True)
class Report:
    """All rows of one run, with the machine and where the timed work ended."""

    machine: Machine
    until: str
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        rows = [row.to_dict() for row in self.rows]
        return {"machine": self.machine.to_dict(), "until": self.until, "rows": rows}

    def text(self) -> str:
        """Lay it out as a table."""
        ceilings = {row.precision: row.ceiling for row in self.rows if row.ceiling}
        limits = ", ".join(f"{three_digits(v / 1e9)} GFLOP/s in {k}" for k, v in ceilings.items())
        lines = [self.machine.line(), f"Timed: {UNTIL[self.until]}."]
        if limits:
            lines.append(f"Ceiling, one matrix product: {limits}.")
        head = ("model", "size", "batch", "precision", *PERCENTILES, "images/s", "Mpixel/s")
        head = (*head, "memory", "GMAC", "of ceiling", "runs")
        cells = [head, *map(_cells, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
        for row in cells:
            first = row[0].ljust(widths[0])
            rest = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join((first, *rest)))
        return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.size[0]}x{row.size[1]}",
        str(row.batch),
        row.precision,
        *map(seconds_text, row.latency.values()),
        three_digits(row.images_per_second),
        three_digits(row.megapixels_per_second),
        "?" if row.memory is None else f"{row.memory / 1e6:,.0f} MB",
        "?" if row.multiply_adds is None else three_digits(row.multiply_adds / 1e9),
        "?" if row.share is None else f"{100 * row.share:.0f} %",
        str(len(row.seconds)),
    )


@dataclass(frozen=True)
class Comparison:
    """Two that took turns.

    Attributes:
        machine: What ran them.
        until: Where the timed work ended.
        size: (height, width).
        batch: Images at once.
        names: Of both, with their precisions.
        medians: Seconds of both.
        ratio: Seconds of the first over those of the second.
        agreement: Share of pixels that both give the same class; None where their classes are not the same.
    """

    machine: Machine
    until: str
    size: Size
    batch: int
    names: tuple[str, str]
    medians: tuple[float, float]
    ratio: Ratio
    agreement: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "machine": self.machine.to_dict(),
            "until": self.until,
            "height": self.size[0],
            "width": self.size[1],
            "batch": self.batch,
            "models": list(self.names),
            "median_seconds": list(self.medians),
            "ratio": dict(vars(self.ratio)),
            "same_class": self.agreement,
        }

    def text(self) -> str:
        """Say it in a few lines."""
        ratio = self.ratio
        lines = [
            self.machine.line(),
            f"Timed: {UNTIL[self.until]}.",
            *(
                f"{mark}  {name}: {seconds_text(median)} for {self.batch} x {self.size[0]}x{self.size[1]}"
                for mark, name, median in zip("AB", self.names, self.medians, strict=True)
            ),
            f"A takes {ratio.median:.2f} x the time of B, 95 % interval {ratio.low:.2f} to {ratio.high:.2f}, "
            f"{ratio.pairs} pairs in turns.",
        ]
        if self.agreement is not None:
            lines.append(f"{100 * self.agreement:.3f} % of the pixels get the same class.")
        return "\n".join(lines)

"""The receipt of an import: what the file was, what became of each tensor, what was assumed and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrseg.weights.foreign import DEFAULTS
from hrseg.weights.formats import NO_HEAD
from hrseg.weights.load import LoadReport


@dataclass(frozen=True)
class ImportReport:
    """The receipt of an import; print it.

    Attributes:
        out: The release.
        source: Who wrote the file.
        load: What happened to each tensor.
        spec: Arguments of `create_model`.
        policy_reason: Why that resize policy.
        labels_reason: Where the class names come from.
        mean: Per-band mean of its images, in 0 … 1.
        std: Per-band standard deviation.
    """

    out: Path
    source: str
    load: LoadReport
    spec: dict[str, Any]
    policy_reason: str
    labels_reason: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def next_step(self) -> str:
        """Say what the release is for."""
        if self.spec["head"] in (NO_HEAD, "classification"):
            return f"Train from it: hrseg fit --config RECIPE model.weights={self.out}"
        if any(key.startswith("head.") for key in self.load.new):
            return f"Train its last layer: hrseg fit --config RECIPE model.weights={self.out}"
        return f"Use it: hrseg predict IMAGE --model {self.out}"

    def __str__(self) -> str:
        new, left_out = self.load.new, self.load.left_out
        spec = self.spec
        head = "no head" if spec["head"] == NO_HEAD else f"head {spec['head']}"
        if spec["head"] != NO_HEAD:
            head += f", {spec['num_classes']} classes"
        rows = {
            "from": f"{self.load.source} ({self.source})",
            "matched": f"{len(self.load.matched):,} of {len(self.load.matched) + len(new):,} tensors",
            "missing": _examples(new, "start fresh"),
            "unexpected": "0",
            "mis-shaped": "0",
            "not needed": _examples(left_out, "of the file"),
            "network": f"{spec['backbone']}, {head}, {spec.get('in_channels', 3)} bands",
            "resize": f"{spec.get('resize', DEFAULTS['resize'])}: {self.policy_reason}",
            "padding": str(spec.get("padding", DEFAULTS["padding"])),
            "converted": "; ".join(self.load.notes) or "nothing",
            "labels": self.labels_reason,
            "mean, std": f"{_numbers(self.mean)}, {_numbers(self.std)}",
        }
        lines = [f"  {title:<11} {text}" for title, text in rows.items()]
        return "\n".join([str(self.out), *lines])


def _examples(keys: Sequence[str], what: str) -> str:
    return f"{len(keys):,} {what} ({keys[0]}{', …' if len(keys) > 1 else ''})" if keys else "0"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"

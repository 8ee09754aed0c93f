"""Making a release of hrseg from a weight file of any source: network and classes inferred, everything accounted for.

`foreign` translates the names, the shapes say which backbone, head and class count they belong to, `load` compares
key by key, and the receipt tells what was done. A release is written only if every tensor found its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hrseg.data.labels import LabelSet, load_labels
from hrseg.errors import ConfigError, WeightsError
from hrseg.models import BACKBONES, create_model
from hrseg.weights.cache import sha256_of
from hrseg.weights.catalog import resolve_all
from hrseg.weights.classes import name_classes
from hrseg.weights.foreign import DEFAULTS, Translated, open_foreign
from hrseg.weights.load import LoadReport, load_translated, load_weights
from hrseg.weights.release import write_release
from hrseg.weights.shapes import NO_HEAD, infer_spec

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Foreign:
    """A file of any source, with the network it belongs to.

    Attributes:
        source: Who wrote it.
        state: Tensors in our names.
        spec: Arguments of `create_model`; head "none" for a backbone only.
        policy_reason: Why that resize policy.
        mean: Per-band mean of its images, in 0 … 1.
        std: Per-band standard deviation.
        notes: Sentences about conversions.
        translated: All of it, for `load_translated`.
    """

    source: str
    state: dict[str, torch.Tensor]
    spec: dict[str, Any]
    policy_reason: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...]
    translated: Translated


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


def read_foreign(paths: Paths, *, resize: str | None = None, padding: str | None = None) -> Foreign:
    """Read a weight file (or an encoder and decoder pair) and infer its network.

    Args:
        paths: One file or tag, or several files.
        resize: The policy, where you know better than the table of sources.
        padding: The same for the padding of stride-2 convolutions.

    Raises:
        WeightsError: The file cannot be read, its source is unknown, or its shapes are no known HRNet's.
    """
    found = open_foreign(paths)
    spec = infer_spec(found)
    told = {"resize": resize, "padding": padding}
    for name, value in found.function.items():
        chosen = told.get(name) or value
        if chosen != DEFAULTS[name] or name == "resize":
            spec[name] = chosen
        else:
            spec.pop(name, None)
    if resize is not None:
        reason = "as asked for"
    else:
        reason = (
            found.reason if found.certain else f"assumed, since keys cannot show it: {found.reason}"
        )
    mean = tuple(float(value) for value in found.card.get("mean", found.format.mean))
    std = tuple(float(value) for value in found.card.get("std", found.format.std))
    return Foreign(found.format.name, found.state, spec, reason, mean, std, found.notes, found)


def import_weights(
    paths: Paths,
    out: str | Path,
    *,
    resize: str | None = None,
    padding: str | None = None,
    new_classifier: bool = False,
    new_head: bool = False,
    labels: str | Path | LabelSet | None = None,
) -> ImportReport:
    """Write a weight file of any source as a release that hrseg predicts, validates and fine-tunes with.

    Args:
        paths: One file or tag, or CSAILVision's encoder and decoder.
        out: NAME.safetensors; its card NAME.json goes beside it.
        resize: The resize policy, where you know better than the table of sources.
        padding: "symmetric" or "same", likewise.
        new_classifier: Let the layer whose outputs are classes start fresh, for the classes of labels.
        new_head: Keep the backbone alone, for `model.weights`.
        labels: A table's name, a file of classes, or a LabelSet; None takes what the file or the source
            is known for.

    Returns:
        The receipt.

    Raises:
        WeightsError: Anything under 100 % that was not allowed; nothing is written then.
        DataError: labels cannot be read.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise ConfigError(
            f"A release is a .safetensors file, not '{out.name}'. Write it to {out.with_suffix('.safetensors')}."
        )
    foreign = read_foreign(paths, resize=resize, padding=padding)
    table = labels if isinstance(labels, LabelSet | None) else load_labels(labels)
    headless = new_head or foreign.spec["head"] == NO_HEAD
    if headless:
        named, why = None, "none: a backbone names no classes"
        report, state, spec = _backbone(foreign, new_head)
    else:
        named, why = name_classes(foreign.translated, foreign.spec, table, new_classifier)
        spec = dict(foreign.spec)
        if named is not None:
            spec["num_classes"] = named.num_classes
        network = _build(spec, foreign)
        report = _load(network, foreign, paths, new_classifier)
        state, spec = network.state_dict(), dict(network.spec)
    card = {
        "tag": out.stem,
        "network": spec,
        "labels": named and named.to_dict(),
        "mean": list(foreign.mean),
        "std": list(foreign.std),
        "origin": {
            "source": foreign.source,
            "files": {path.name: sha256_of(path) for path in _files(paths)},
            "resize": foreign.policy_reason,
            "notes": list(report.notes),
            "new": list(report.new),
        },
    }
    write_release(out, state, card)
    return ImportReport(
        out, foreign.source, report, spec, foreign.policy_reason, why, foreign.mean, foreign.std
    )


def _build(spec: Mapping[str, Any], foreign: Foreign) -> Any:
    if "num_classes" not in spec:
        raise WeightsError(
            f"{foreign.translated.file} has no classifier, so its class count is unknown. Name the classes with "
            "--labels TABLE and let that layer start fresh with --new-classifier."
        )
    return create_model(**spec)


def _load(network: Any, foreign: Foreign, paths: Paths, new_classifier: bool) -> LoadReport:
    if foreign.spec["backbone"] not in BACKBONES:  # a baseline spells its own names
        return load_weights(network, _files(paths)[0], new_classifier=new_classifier)
    return load_translated(
        network, foreign.translated, new_classifier=new_classifier, compare=False
    )


def _backbone(
    foreign: Foreign, asked: bool
) -> tuple[LoadReport, dict[str, torch.Tensor], dict[str, Any]]:
    spec = {**foreign.spec, "head": "v2", "num_classes": 1}
    network = create_model(**spec)
    report = load_translated(network, foreign.translated, new_head=asked, compare=False)
    state = {k: v for k, v in network.state_dict().items() if k.startswith("backbone.")}
    kept = {k: v for k, v in network.spec.items() if k != "num_classes"}
    told = LoadReport(
        report.source, report.matched, report.left_out, (), report.notes, report.format
    )
    return told, state, {**kept, "head": NO_HEAD}


def _files(paths: Paths) -> list[Path]:
    if isinstance(paths, str | Path):
        return list(resolve_all(paths))
    return [Path(path) for path in paths]


def _examples(keys: Sequence[str], what: str) -> str:
    return f"{len(keys):,} {what} ({keys[0]}{', …' if len(keys) > 1 else ''})" if keys else "0"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"

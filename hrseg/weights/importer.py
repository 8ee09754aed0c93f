"""Making a release of hrseg from a weight file of any source: network and classes inferred, everything accounted for.

`foreign` translates the names, the shapes say which backbone, head and class count they belong to, `load` compares
key by key, and the receipt tells what was done. A release is written only if every tensor found its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hrseg.data.labels import LabelSet, load_labels
from hrseg.digests import file_digest
from hrseg.errors import ConfigError, WeightsError
from hrseg.models import BACKBONES, create_model
from hrseg.weights.catalog import resolve_all, row_of
from hrseg.weights.classes import name_classes
from hrseg.weights.foreign import DEFAULTS, Translated, open_foreign
from hrseg.weights.formats import NO_HEAD
from hrseg.weights.load import LoadReport, load_translated, load_weights
from hrseg.weights.receipt import ImportReport
from hrseg.weights.release import write_release
from hrseg.weights.shapes import infer_spec

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
    files = _files(paths)
    foreign = read_foreign(paths, resize=resize, padding=padding)
    if any(out.resolve() == path.resolve() for path in files):
        raise ConfigError(f"{out} is the file to import. Write the release to another name.")
    if new_head or foreign.spec["head"] == NO_HEAD:
        named, why = None, "none: a backbone names no classes"
        report, state, spec = _backbone(foreign, new_head)
    else:
        table = labels if isinstance(labels, LabelSet | None) else load_labels(labels)
        network, named, report, why = assemble(foreign, files, table, new_classifier)
        state, spec = network.state_dict(), dict(network.spec)
    card = {
        "tag": out.stem,
        "network": spec,
        "labels": named and named.to_dict(),
        "mean": list(foreign.mean),
        "std": list(foreign.std),
        "origin": {
            "source": foreign.source,
            "files": {path.name: file_digest(path) for path in files},
            "resize": foreign.policy_reason,
            "notes": list(report.notes),
            "new": list(report.new),
        },
    }
    write_release(out, state, card)
    return ImportReport(
        out, foreign.source, report, spec, foreign.policy_reason, why, foreign.mean, foreign.std
    )


def open_tag(tag: str) -> tuple[Any, LabelSet, Foreign]:
    """Build the network of a tag of the catalogue, with its weights, without writing anything.

    Args:
        tag: `hrseg weights list` shows them; it is fetched once.

    Returns:
        The network, its labels, and what is known besides.

    Raises:
        WeightsError: It cannot be had, does not fit, or has no segmentation head.
    """
    refuse_headless(row_of(tag).head, tag)
    foreign = read_foreign(tag)
    network, labels, _, _ = assemble(foreign, _files(tag), None, new_classifier=False)
    if labels is None:
        raise WeightsError(f"{tag} names no classes. Import its file with --labels TABLE.")
    return network, labels, foreign


def refuse_headless(head: str | None, name: str) -> None:
    """Refuse to predict masks with an ImageNet classifier or a backbone alone, which are for training to start from.

    Raises:
        WeightsError: There is no segmentation head.
    """
    if head in (NO_HEAD, "classification"):
        kind = "a backbone" if head == NO_HEAD else "an ImageNet classifier"
        raise WeightsError(
            f"{name} holds {kind} without a segmentation head, so it has no masks to predict. Start a training from "
            f"it: hrseg fit --config RECIPE model.weights={name}"
        )


def assemble(
    foreign: Foreign, files: Sequence[Path], asked: LabelSet | None, new_classifier: bool
) -> tuple[Any, LabelSet | None, LoadReport, str]:
    """Build a file's network, put its weights in and name its classes.

    Args:
        foreign: From `read_foreign`.
        files: The files on disk.
        asked: The user's labels; None looks for others.
        new_classifier: Whether the layer whose outputs are classes starts fresh.

    Returns:
        The network, its labels (None for an image classifier), what happened to each tensor, and where the
        labels come from.

    Raises:
        WeightsError: See `import_weights`.
    """
    named, why = name_classes(foreign.translated, foreign.spec, asked, new_classifier)
    spec = dict(foreign.spec)
    if named is not None:
        spec["num_classes"] = named.num_classes
    if "num_classes" not in spec:
        raise WeightsError(
            f"{foreign.translated.file} has no classifier, so its class count is unknown. Name the classes with "
            "--labels TABLE and let that layer start fresh with --new-classifier."
        )
    network = create_model(**spec)
    if spec["backbone"] in BACKBONES:
        report = load_translated(
            network, foreign.translated, new_classifier=new_classifier, compare=False
        )
    else:  # a baseline of ours spells its own names
        report = load_weights(network, files[0], new_classifier=new_classifier)
    return network, named, report, why


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

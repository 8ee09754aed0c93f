"""Conversion of a weight file of any source into a release of hrseg, with network and classes inferred.

`foreign` translates the names, the shapes give backbone, head and class count, `load` compares key by key. A release
is written only if every tensor has a place in the network; the report accounts for each.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hrseg.errors import ConfigError, WeightsError
from hrseg.labels import Label, LabelSet, distinct_colors, load_labels, table_names
from hrseg.models import BACKBONES, create_model
from hrseg.weights.catalog import resolve_all, row_of
from hrseg.weights.checkpoint_io import file_digest
from hrseg.weights.foreign import DEFAULTS, Translated, open_foreign
from hrseg.weights.formats import KNOWN_LABELS, NO_HEAD
from hrseg.weights.load import LoadReport, load_translated, load_weights
from hrseg.weights.release import write_release

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Foreign:
    """A file of any source, with the network it belongs to.

    Attributes:
        source: Name of its format.
        spec: Arguments of `create_model`; head "none" for a backbone only.
        policy_reason: Source of the resize policy.
        mean: Per-band mean of its images, in 0 … 1.
        std: Per-band standard deviation.
        translated: Its tensors in our names, for `load_translated`.
    """

    source: str
    spec: dict[str, Any]
    policy_reason: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    translated: Translated


@dataclass(frozen=True)
class ImportReport:
    """Printable account of an import.

    Attributes:
        out: The release.
        foreign: The imported file.
        load: Result for each tensor.
        spec: Arguments of `create_model`.
        labels_reason: Source of the class names.
    """

    out: Path
    foreign: Foreign
    load: LoadReport
    spec: dict[str, Any]
    labels_reason: str

    def next_step(self) -> str:
        """Return a sentence with the command that uses the release."""
        if self.spec["head"] in (NO_HEAD, "classification"):
            return f"Train from it: hrseg fit --config RECIPE {shlex.quote(f'model.weights={self.out}')}"
        if any(key.startswith("head.") for key in self.load.new):
            return f"Train its last layer: hrseg fit --config RECIPE {shlex.quote(f'model.weights={self.out}')}"
        return f"Use it: hrseg predict IMAGE --model {shlex.quote(str(self.out))}"

    def __str__(self) -> str:
        new, left_out = self.load.new, self.load.left_out
        spec = self.spec
        head = "no head" if spec["head"] == NO_HEAD else f"head {spec['head']}"
        if spec["head"] != NO_HEAD:
            head += f", {spec['num_classes']} classes"
        rows = {
            "from": f"{self.load.source} ({self.foreign.source})",
            "matched": f"{len(self.load.matched):,} of {len(self.load.matched) + len(new):,} tensors",
            "missing": _examples(new, "start fresh"),
            "unexpected": "0",
            "mis-shaped": "0",
            "not needed": _examples(left_out, "of the file"),
            "network": f"{spec['backbone']}, {head}, {spec.get('in_channels', 3)} bands",
            "resize": f"{spec.get('resize', DEFAULTS['resize'])}: {self.foreign.policy_reason}",
            "padding": str(spec.get("padding", DEFAULTS["padding"])),
            "converted": "; ".join(self.load.notes) or "nothing",
            "labels": self.labels_reason,
            "mean, std": f"{_numbers(self.foreign.mean)}, {_numbers(self.foreign.std)}",
        }
        lines = [f"  {title:<11} {text}" for title, text in rows.items()]
        return "\n".join([str(self.out), *lines])


def _examples(keys: Sequence[str], what: str) -> str:
    return f"{len(keys):,} {what} ({keys[0]}{', …' if len(keys) > 1 else ''})" if keys else "0"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def read_foreign(paths: Paths, *, resize: str | None = None, padding: str | None = None) -> Foreign:
    """Read a weight file (or an encoder and decoder pair) and infer its network.

    Args:
        paths: One file or tag, or several files.
        resize: Resize policy that overrides the table of formats.
        padding: Padding of stride-2 convolutions, likewise.

    Raises:
        WeightsError: The file cannot be read, its source is unknown, or its shapes are no known HRNet's.
    """
    found = open_foreign(paths)
    spec = infer_spec(found)
    asked = {"resize": resize, "padding": padding}
    for name, value in found.function.items():
        chosen = asked.get(name) or value
        if chosen != DEFAULTS[name] or name == "resize":
            spec[name] = chosen
        else:
            spec.pop(name, None)
    reason = found.reason if found.certain else f"assumed, since keys cannot show it: {found.reason}"
    if resize is not None:
        reason = "as asked for"
    mean = tuple(float(value) for value in found.card.get("mean", found.format.mean))
    std = tuple(float(value) for value in found.card.get("std", found.format.std))
    return Foreign(found.format.name, spec, reason, mean, std, found)


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
        resize: Resize policy that overrides the table of formats.
        padding: "symmetric" or "same", likewise.
        new_classifier: Whether the layer whose outputs are classes starts fresh, for the classes of labels.
        new_head: Keep the backbone alone, for `model.weights`.
        labels: A table's name, a file of classes, or a LabelSet; None takes those of the file or its format.

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
    return ImportReport(out, foreign, report, spec, why)


def open_tag(tag: str) -> tuple[Any, LabelSet, Foreign]:
    """Build the network of a tag of the catalog, with its weights, without writing anything.

    Returns:
        The network, its labels and its file, which is fetched once.

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
            f"it: hrseg fit --config RECIPE {shlex.quote(f'model.weights={name}')}"
        )


def assemble(
    foreign: Foreign, files: Sequence[Path], asked: LabelSet | None, new_classifier: bool
) -> tuple[Any, LabelSet | None, LoadReport, str]:
    """Build a file's network, load its weights and name its classes; arguments as for `import_weights`.

    Returns:
        The network, its labels (None for an image classifier), the result for each tensor, and the source of the
        labels.
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
        report = load_translated(network, foreign.translated, new_classifier=new_classifier, compare=False)
    else:  # a baseline has its own names
        report = load_weights(network, files[0], new_classifier=new_classifier)
    return network, named, report, why


def _backbone(foreign: Foreign, asked: bool) -> tuple[LoadReport, dict[str, torch.Tensor], dict[str, Any]]:
    spec = {**foreign.spec, "head": "v2", "num_classes": 1}
    network = create_model(**spec)
    report = load_translated(network, foreign.translated, new_head=asked, compare=False)
    state = {k: v for k, v in network.state_dict().items() if k.startswith("backbone.")}
    spec = {k: v for k, v in network.spec.items() if k != "num_classes"}
    return replace(report, new=()), state, {**spec, "head": NO_HEAD}


def _files(paths: Paths) -> list[Path]:
    if isinstance(paths, str | Path):
        return list(resolve_all(paths))
    return [Path(path) for path in paths]


def infer_spec(found: Translated) -> dict[str, Any]:
    """Return arguments of `create_model` as the shapes imply them; those of a card take precedence.

    Raises:
        WeightsError: The shapes are no known HRNet's.
    """
    stored = dict(found.spec or {})
    if stored.get("backbone") not in (None, *BACKBONES):  # a baseline of ours
        return stored
    try:
        seen = _variant_fields(found.state)
        bands = int(found.state["backbone.conv1.weight"].shape[1])
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{found.file} ({found.format.name}) lacks {error.args[0]}, so its width is unknown. It is probably "
            "incomplete; copy it again."
        ) from error
    for name, variant in BACKBONES.items():
        if seen == {field: getattr(variant, field) for field in seen}:
            head = found.head or NO_HEAD
            spec = {**stored, "backbone": name, "head": head, "in_channels": bands}
            if head != NO_HEAD and found.num_classes is not None:
                spec["num_classes"] = found.num_classes
            return spec
    shape = ", ".join(f"{field} {value}" for field, value in seen.items())
    raise WeightsError(
        f"{found.file} ({found.format.name}) is an HRNet of another shape: {shape}. hrseg knows {', '.join(BACKBONES)}."
    )


def _variant_fields(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the fields of a Variant as the tensors show them."""
    return {
        "width": int(state["backbone.stage4.0.branches.0.0.conv1.weight"].shape[0]),
        "stem_blocks": _count(state, r"^backbone\.layer1\.(\d+)\."),
        "stem_channels": int(state["backbone.layer1.0.conv1.weight"].shape[0]),
        "modules": tuple(_count(state, rf"^backbone\.stage{stage}\.(\d+)\.") for stage in (2, 3, 4)),
        "blocks": _count(state, r"^backbone\.stage4\.0\.branches\.0\.(\d+)\."),
    }


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    compiled = re.compile(pattern)
    return len({found[1] for key in state if (found := compiled.search(key))})


_TABLES = {"voc": "voc2012", "vaihingen": "potsdam"}
"""Data of the catalog → label table, where they are called otherwise."""


def name_classes(
    found: Translated, spec: Mapping[str, Any], asked: LabelSet | None, new_classifier: bool
) -> tuple[LabelSet | None, str]:
    """Choose the labels of an imported network.

    Args:
        found: The file in our names.
        spec: Arguments of `create_model`, with the class count of the file where it has one.
        asked: The user's labels; None takes the file's, then those that its class count implies.
        new_classifier: Whether the class count may differ from the file's.

    Returns:
        The labels (None where no pixel gets a class, or the count is unknown), and their source.

    Raises:
        WeightsError: The labels are for another class count.
    """
    count = spec.get("num_classes")
    if asked is not None:
        if count not in (None, asked.num_classes) and not new_classifier:
            raise WeightsError(
                f"{found.file} has {count} classes, the labels '{asked.name}' name "
                f"{asked.num_classes}. Give the labels it was trained with, or let its last layer start fresh with "
                "--new-classifier (new_classifier=True)."
            )
        return asked, f"{asked.name}, as asked for"
    if spec["head"] == "classification":
        return None, "none: an image classifier names no pixels"
    if found.card.get("labels"):
        own = LabelSet.from_dict(found.card["labels"])
        return own, f"{own.name}, from its card"
    if count is None:
        return None, "unknown"
    data = str(found.card.get("data", ""))
    data = _TABLES.get(data, data)
    if data in table_names():
        return load_labels(data), f"{data}, from the catalog"
    stored = _from_meta(found.meta, count)
    if stored is not None:
        return stored, f"{stored.name}, from the names in the file"
    if count in KNOWN_LABELS:
        name = KNOWN_LABELS[count]
        return load_labels(name), f"{name}, assumed from its {count} classes; --labels overrides"
    rows = tuple(Label(i, i, f"class {i}", c) for i, c in enumerate(distinct_colors(count)))
    return LabelSet("numbered", rows), f"numbered: no names are known for {count} classes; see --labels"


def _from_meta(content: Mapping[str, Any], count: int) -> LabelSet | None:
    """Read the class names that mmsegmentation stores; those of a built-in table become that table."""
    meta = content.get("meta")
    if not isinstance(meta, Mapping):
        return None
    places = [place for place in (meta.get("dataset_meta"), meta) if isinstance(place, Mapping)]
    lowered = [{str(k).lower(): v for k, v in place.items()} for place in places]
    place = next((place for place in lowered if place.get("classes")), {})
    classes = place.get("classes")
    names = [name for name in classes if isinstance(name, str)] if isinstance(classes, list | tuple) else []
    if len(names) != count:
        return None
    known = KNOWN_LABELS.get(count)
    if known and _same_classes(load_labels(known).names, names):
        return load_labels(known)
    colors = place.get("palette") or distinct_colors(count)
    if len(colors) != count:
        colors = distinct_colors(count)
    rows = (
        Label(i, i, name, (int(color[0]), int(color[1]), int(color[2])))
        for i, (name, color) in enumerate(zip(names, colors, strict=True))
    )
    return LabelSet("from the file", tuple(rows))


def _same_classes(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Datasets are spelled in several ways (signboard, sign); most names in their places make the same one."""
    plain = [(re.split(r"[,;]", name)[0].strip().lower() for name in names) for names in (ours, theirs)]
    equal = sum(a == b for a, b in zip(*plain, strict=True))
    return equal >= 0.8 * len(ours)

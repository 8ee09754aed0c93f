"""Translation of a weight file of any source into our parameter names, with conversions and omissions listed.

Nothing here builds a network; `load` loads the result into one, `convert` writes a release of it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hrseg.errors import WeightsError, parse_json
from hrseg.models import FORM
from hrseg.weights.catalog import is_tag, looks_like_tag, resolve_all, row_of
from hrseg.weights.checkpoint_io import read_checkpoint
from hrseg.weights.formats import (
    HRSEG,
    NO_HEAD,
    NOT_NETWORK,
    WRAPPERS,
    Format,
    head_of,
    recognize,
    rename,
)
from hrseg.weights.hub import is_hub, pull
from hrseg.weights.release import card_path, check_card, read_release

CONTAINERS = ("state_dict_ema", "state_dict", "model_state_dict", "model_state", "model", "net")
"""Keys under which training scripts store the tensors; the first one present wins."""
DEFAULTS: dict[str, Any] = {"resize": "bilinear"}
DEFAULTS |= {name: value for name, value in FORM.items() if name != "input_scale"}
"""Fields of a network that change its function and not its keys, with the values that old files imply. input_scale is
not among them."""


@dataclass(frozen=True)
class Translated:
    """A file in our names.

    Attributes:
        file: Its path, or the tag.
        format: The row of `formats.FORMATS`.
        state: Tensors under backbone.* and head.*; unrecognized tensors have their original names.
        left_out: Keys that are no part of the network.
        foreign_head: Keys of a head that is another network than any of hrseg's.
        notes: Sentences about conversions.
        spec: Arguments of `create_model`, where hrseg wrote the file.
        card: What else hrseg wrote: labels, mean, std.
        known: Fields of `DEFAULTS` that the catalog states for this file.
        meta: The checkpoint's other content, such as mmsegmentation's `meta`.
    """

    file: str
    format: Format
    state: dict[str, torch.Tensor]
    left_out: tuple[str, ...] = ()
    foreign_head: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    spec: dict[str, Any] | None = None
    card: dict[str, Any] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> str | None:
        """Name of the head in `models.HEADS`; None for a backbone alone."""
        stored = (self.spec or {}).get("head")
        if stored is not None and stored != NO_HEAD:
            return str(stored)
        head = head_of(self.state)
        return "v1" if head == "v2" and self._reads_one_branch() else head

    def _reads_one_branch(self) -> bool:
        """The heads of V1 and V2 have equal names; V1 reads C channels, V2 15 C."""
        first = self.state.get("head.last_layer.0.weight")
        finest = self.state.get("backbone.stage4.0.branches.0.0.conv1.weight")
        return first is not None and finest is not None and first.shape[1] == finest.shape[0]

    @property
    def num_classes(self) -> int | None:
        """Classes of that head, read from the shapes."""
        last = ("head.last_layer.3.weight", "head.cls_head.weight", "head.conv_last.weight")
        found = (self.state[key] for key in (*last, "head.classifier.weight") if key in self.state)
        return next((int(weight.shape[0]) for weight in found), None)

    @property
    def certain(self) -> bool:
        """Whether the resize policy is known, not assumed."""
        return self.spec is not None or self.format.certain or "resize" in self.known

    @property
    def function(self) -> dict[str, Any]:
        """Values of the fields in `DEFAULTS` for this file."""
        if self.spec is not None:
            return {name: self.spec.get(name, value) for name, value in DEFAULTS.items()}
        policy = self.format.policy(self.num_classes)
        return {**DEFAULTS, "resize": policy, "padding": self.format.padding, **self.known}

    @property
    def reason(self) -> str:
        """Source of the resize policy."""
        if self.spec is not None:
            return "its card states it"
        return "the catalog states it" if "resize" in self.known else self.format.reason


def open_foreign(paths: str | Path | Sequence[str | Path]) -> Translated:
    """Read one file, or the two of an encoder and decoder pair, and translate it.

    Args:
        paths: A file, a tag of the catalog or hf:org/name (fetched once), or several files.

    Raises:
        WeightsError: A file cannot be had or read, or its source is unknown.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(several) == 1 and (is_tag(several[0]) or looks_like_tag(several[0])):
        return _open_tag(str(several[0]))
    file = " + ".join(map(str, several))
    several = [pull(str(path)) if is_hub(path) else path for path in several]
    checkpoints = [read_checkpoint(path) for path in several]
    raw: dict[str, torch.Tensor] = {}
    for path, checkpoint in zip(several, checkpoints, strict=True):
        state = state_dict_of(checkpoint)
        twice = next((key for key in state if key in raw), None)
        if twice is not None:
            raise WeightsError(
                f"{several[0]} and {path} both hold {twice}, so they are not the two halves of one network. Give an "
                "encoder's file and its decoder's, or one file."
            )
        raw.update(state)
    found = translate(raw, file, _written_by_hrseg(several[0], checkpoints[0]), checkpoints[0])
    return replace(found, notes=(*found.notes, *_warnings(found)))


def _open_tag(tag: str) -> Translated:
    """Fetch and translate the files of a tag; its row takes precedence over its keys."""
    row = row_of(tag)
    found = open_foreign(resolve_all(tag))
    if found.spec is not None:
        return replace(found, file=tag)
    card = {"mean": row.mean, "std": row.std, "data": row.data, **found.card}
    known = {"resize": row.resize, "padding": row.padding}
    return replace(found, file=tag, card=card, known=known)


def translate(
    raw: Mapping[str, torch.Tensor],
    file: str,
    card: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
) -> Translated:
    """Recognize a state dict and bring it into our names.

    Args:
        raw: Tensors by the names of their source.
        file: For messages.
        card: What hrseg wrote beside them, with "network" where it is known.
        checkpoint: All content of the file.

    Raises:
        WeightsError: Its source is unknown.
    """
    plain = _unwrapped(raw, file)
    card = dict(card or {})
    names = [key for key in plain if not re.search(NOT_NETWORK, key)]
    row = HRSEG if card.get("network") else recognize(names, file)
    state: dict[str, torch.Tensor] = {}
    left_out, foreign_head = [], []
    for name, key in plain.items():
        renamed = rename(name, row.rules)
        if re.search(NOT_NETWORK, name) or re.search(row.needless, name):
            left_out.append(key)
        elif re.search(row.foreign_head, name) or re.search(row.foreign_head, renamed):
            foreign_head.append(key)
        else:
            _refuse_double(renamed in state, key, renamed, file)
            state[renamed] = raw[key]
    notes = [note for name in row.conversions if (note := CONVERSIONS[name](state))]
    return Translated(
        file=file,
        format=row,
        state=state,
        left_out=tuple(left_out),
        foreign_head=tuple(foreign_head),
        notes=tuple(notes),
        spec=card.get("network"),
        card=card,
        meta={k: v for k, v in (checkpoint or {}).items() if k not in CONTAINERS and not isinstance(v, torch.Tensor)},
    )


def _warnings(found: Translated) -> list[str]:
    """Return sentences about content that makes the weights doubtful."""
    warnings = []
    wrong = [k for k, v in found.state.items() if v.is_floating_point() and not v.isfinite().all()]
    if wrong:
        warnings.append(f"{len(wrong)} tensors hold NaN or infinity (such as {wrong[0]})")
    meta = found.meta.get("meta")
    config = (meta.get("config") or meta.get("cfg")) if isinstance(meta, Mapping) else None
    # Only text: the text of lists that hold each other many times is endless.
    if not isinstance(config, str) or not found.format.name.startswith("mmseg"):
        return warnings
    if re.search(r"align_corners\s*=\s*True", config):
        warnings.append(
            "its config aligns corners in the head, which no policy of hrseg does beside mmsegmentation's fusions: "
            "logits will differ"
        )
    return warnings


def _unwrapped(raw: Iterable[str], file: str) -> dict[str, str]:
    """Return name without wrappers → key of the file."""
    plain: dict[str, str] = {}
    for key in raw:
        name = rename(key, WRAPPERS)
        _refuse_double(name in plain, key, name, file)
        plain[name] = key
    return plain


def _refuse_double(double: bool, key: str, name: str, file: str) -> None:
    if double:
        raise WeightsError(
            f"{file} holds {name} twice, the second time as {key}, so it holds two networks. Save the one that you "
            "mean alone."
        )


def state_dict_of(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Find the tensors of the network in a checkpoint; averaged weights (EMA) win over raw ones.

    Raises:
        WeightsError: The checkpoint holds no tensors.
    """
    nested = (checkpoint[name] for name in CONTAINERS if isinstance(checkpoint.get(name), Mapping))
    state = next(nested, checkpoint)
    tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    averaged = {k[len("ema.module.") :]: v for k, v in tensors.items() if k.startswith("ema.module.")}
    if averaged:
        return averaged
    if not tensors:
        raise WeightsError(
            f"The checkpoint holds no tensors; its keys are {', '.join(map(str, list(checkpoint)[:5]))}. "
            "Give a file that holds a state_dict."
        )
    return {k: v for k, v in tensors.items() if not k.startswith("ema.")}


def _written_by_hrseg(path: str | Path, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card of a release or a run's checkpoint, with the network's spec under "network"."""
    path = Path(path)
    entry = checkpoint.get("hrseg")
    if entry is not None:
        card = check_card(entry, path)
        model = (card.get("config") or {}).get("model")
        if "network" not in card and model:
            card["network"] = {
                **{name: model[name] for name in DEFAULTS if name in model},
                "backbone": model.get("backbone"),
                "head": model.get("head"),
            }
        return card
    beside = card_path(path)
    if path.suffix == ".safetensors" and beside.is_file() and _is_card(beside):
        return read_release(path)[1]  # compares the hash
    return {}


def _is_card(path: Path) -> bool:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "network" in content


State = dict[str, torch.Tensor]

_COUNTER = "num_batches_tracked"
_NORM = ".running_var"
_OCR_BIAS = re.compile(r"^(head\.ocr_distri_head\.(?:object_context_block\.f_\w+|conv_bn_dropout))\.(\d)\.bias$")
_BEFORE_NORMS = (
    *("head.last_layer.0", "head.aux_head.0", "head.conv3x3_ocr.0"),
    *(f"head.downsamp_modules.{branch}.0" for branch in range(3)),
    "head.final_layer.0",
)
"""Convolutions that have a bias in the official code although a norm follows."""


def in_place_norms(state: State) -> str | None:
    """Convert the norms of torch 0.4.1 files, whose in-place layer used abs(weight) + 1e-5.

    Files of that layer have no batch counter at all. Loaded as they are, their negative gammas invert channels: the
    network runs, and its logits are wrong by more than their own spread.

    Source: the `master` branch of the official code, class InPlaceABNSync.
    """
    if not _all_counters_absent(state):
        return None
    norms = _norms(state)
    negative = sum(int((state[f"{norm}.weight"] < 0).sum()) for norm in norms)
    for norm in norms:
        state[f"{norm}.weight"] = state[f"{norm}.weight"].abs() + 1e-5
    batch_counters(state)
    return (
        f"{len(norms)} norms of torch 0.4.1's in-place layer converted: gamma := abs(gamma) + 1e-5 "
        f"({negative:,} were negative), batch counters added"
    )


def batch_counters(state: State) -> str | None:
    """Add the batch counters where none is stored; they do not enter the result."""
    if not _all_counters_absent(state):
        return None
    norms = _norms(state)
    for norm in norms:
        state[f"{norm}.{_COUNTER}"] = torch.tensor(0)
    return f"{len(norms)} batch counters added, which the source does not store"


def zero_biases(state: State) -> str | None:
    """Add zero biases to the head's convolutions before norms, which mmsegmentation and ssld build without."""
    bare = [name for name in _BEFORE_NORMS if f"{name}.weight" in state and f"{name}.bias" not in state]
    for name in bare:
        weight = state[f"{name}.weight"]
        state[f"{name}.bias"] = weight.new_zeros(weight.shape[0])
    return f"zero bias for {', '.join(bare)}, which the source builds without one" if bare else None


def fold_biases(state: State) -> str | None:
    """Fold biases that our OCR convolutions lack into the norm behind them: running_mean -= bias."""
    folded = 0
    for key in list(state):
        found = _OCR_BIAS.match(key)
        if found:
            mean = f"{found[1]}.{int(found[2]) + 1}.0.running_mean"
            if mean in state:
                state[mean] = state[mean] - state.pop(key)
                folded += 1
    return f"{folded} biases folded into the norms behind them" if folded else None


def _norms(state: Mapping[str, torch.Tensor]) -> list[str]:
    return [key.removesuffix(_NORM) for key in state if key.endswith(_NORM)]


def _all_counters_absent(state: Mapping[str, torch.Tensor]) -> bool:
    """Some absent means a damaged file, which the comparison with the network reports."""
    return bool(_norms(state)) and not any(key.endswith(_COUNTER) for key in state)


CONVERSIONS: dict[str, Callable[[State], str | None]] = {
    "in_place_norms": in_place_norms,
    "batch_counters": batch_counters,
    "zero_biases": zero_biases,
    "fold_biases": fold_biases,
}

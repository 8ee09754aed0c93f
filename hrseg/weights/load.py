"""Loading of weight files of any source into a network, with a report of every key.

`foreign` translates a file into our names; here it is compared with the network, key by key and shape by shape. What
keys cannot show (resize policy, padding) is compared with the values of the file's card, catalog row or format.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrseg.errors import WeightsError
from hrseg.weights.catalog import check_backbone, is_tag, looks_like_tag, resolve
from hrseg.weights.checkpoint_io import read_checkpoint
from hrseg.weights.foreign import DEFAULTS, Translated, open_foreign, state_dict_of
from hrseg.weights.formats import CLASSIFIERS, HRSEG, WRAPPERS, head_of, rename


@dataclass(frozen=True)
class LoadReport:
    """Result of loading, for each key.

    Attributes:
        source: The file or tag.
        matched: Keys that were loaded.
        left_out: Keys of the file that are no part of this network, such as an ImageNet classifier.
        new: Keys of the network that keep their initial values, a fresh head.
        notes: Sentences for the user, such as a change of resize policy.
        format: Name of the file's format.
    """

    source: str
    matched: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    format: str = HRSEG.name

    def __str__(self) -> str:
        kind = "" if self.format == HRSEG.name else f" ({self.format})"
        text = f"{self.source}{kind}: {len(self.matched):,} tensors loaded"
        if self.new:
            text += f", {len(self.new)} start fresh ({self.new[0]}, …)"
        if self.left_out:
            text += f", {len(self.left_out)} of the file not needed ({self.left_out[0]}, …)"
        return "; ".join([text, *self.notes]) + "."


def load_weights(
    network: nn.Module,
    file_or_tag: str | Path,
    *,
    new_head: bool = False,
    new_classifier: bool = False,
    resize: str | None = None,
    inflate_stem: bool = False,
) -> LoadReport:
    """Load a checkpoint into a network, wholly or not at all.

    Files of hrseg, of the official code (segmentation with either head, torch 0.4.1, ImageNet), timm,
    mmsegmentation, PaddleSeg and CSAILVision are recognized by their names; see `formats.FORMATS`.

    Args:
        network: From `create_model`.
        file_or_tag: A weight file, or a tag of the catalog such as "hrnet_w48.ms_in1k", which is fetched
            once; `hrseg weights list` shows them.
        new_head: Keep the backbone only and leave the head as it is, for another set of classes. A file
            without a segmentation head (ImageNet) implies it.
        new_classifier: Keep all but the last layer of the head, which may have other classes or be absent.
        resize: Resize policy that overrides the file's; it must be the network's own.
        inflate_stem: Let a file for RGB start a network of other bands: every band gets the mean of the
            three kernels of the first convolution, times 3 / bands, so that a gray image gives the same
            maps as before. A file of the network's own bands is loaded as it is.

    Returns:
        A LoadReport; print it.

    Raises:
        WeightsError: The file cannot be read, a tensor that was asked for is missing or has another
            shape, or the file belongs to a network that resizes or pads otherwise. The network is
            unchanged then.
    """
    spec = getattr(network, "spec", {})
    if "backbone" in spec and (is_tag(file_or_tag) or looks_like_tag(file_or_tag)):
        check_backbone(str(file_or_tag), str(spec["backbone"]))  # before anything is fetched
    found = _for_network(file_or_tag, network.state_dict())
    if inflate_stem:
        found = _inflated(found, network.state_dict())
    return load_translated(network, found, new_head=new_head, new_classifier=new_classifier, resize=resize)


def load_translated(
    network: nn.Module,
    found: Translated,
    *,
    new_head: bool = False,
    new_classifier: bool = False,
    resize: str | None = None,
    compare: bool = True,
) -> LoadReport:
    """Load a file that `foreign` has translated; other arguments as for `load_weights`.

    Args:
        network: From `create_model`.
        found: The file in our names.
        compare: Whether resize policy and padding are compared; not for a network that was built from them.

    Raises:
        WeightsError: See `load_weights`.
    """
    own = network.state_dict()
    state, left_out = dict(found.state), list(found.left_out)
    backbone_only = new_head or _brings_no_head(found, own)
    if backbone_only:
        left_out += [key for key in state if key.startswith("head.")]
        left_out += found.foreign_head
    elif found.foreign_head:
        raise WeightsError(
            f"{found.file} is {found.format.name}: {len(found.foreign_head):,} of its tensors (such as "
            f"{found.foreign_head[0]}) are {found.format.foreign_reason}. Its backbone fits: new_head=True "
            "(model.new_head=true, --new-head) loads that alone."
        )
    skipped = "^head\\." if backbone_only else CLASSIFIERS if new_classifier else None
    wanted = _without(own, skipped)
    _refuse_misfits(found, wanted, _without(state, skipped), new_classifier)
    finished = not backbone_only
    notes = _compare_function(network, found, resize, finished=finished) if compare else ()
    network.load_state_dict({**own, **{key: state[key] for key in wanted}})
    fresh = tuple(key for key in own if key not in wanted)
    return LoadReport(
        found.file,
        tuple(wanted),
        tuple(left_out),
        fresh,
        (*found.notes, *notes),
        found.format.name,
    )


def _for_network(file: str | Path, own: Mapping[str, torch.Tensor]) -> Translated:
    """Translate a file; baselines have no renaming rules, since their files hold their own names."""
    if is_hrnet(own):
        return open_foreign(file)
    direct, left_out = _by_own_names(state_dict_of(read_checkpoint(resolve(file))), own)
    return Translated(str(file), HRSEG, direct, tuple(left_out))


def _by_own_names(
    raw: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Strip wrappers only as far as the network's own names ask for."""
    found, left_out = {}, []
    for key, value in raw.items():
        name = key
        while name not in own and rename(name, WRAPPERS) != name:
            name = name.split(".", 1)[1]
        if name not in own and name.startswith(("loss.", "metrics.")):
            left_out.append(key)
        else:
            found[name] = value
    return found, left_out


def is_hrnet(own: Iterable[str]) -> bool:
    """Return whether parameter names are those of an HRNet, not of a baseline.

    Example:
        >>> is_hrnet(["backbone.stage4.0.branches.0.0.conv1.weight"]), is_hrnet(["encoder.conv1"])
        (True, False)
    """
    return any(key.startswith("backbone.stage4.") for key in own)


def _brings_no_head(found: Translated, own: Mapping[str, torch.Tensor]) -> bool:
    """ImageNet files, and bare backbones, leave a segmentation head to the network."""
    brings = any(key.startswith("head.") for key in found.state)
    needs_head = any(key.startswith("head.") for key in own)
    fits = found.head != "classification" or head_of(own) == "classification"
    return needs_head and not (brings and fits) and not found.foreign_head


_STEM = "backbone.conv1.weight"


def _inflated(found: Translated, own: Mapping[str, torch.Tensor]) -> Translated:
    """Spread the stem's kernels of RGB over the network's bands."""
    kernels, wanted = found.state.get(_STEM), own.get(_STEM)
    if kernels is None or wanted is None or kernels.shape[1] != 3 or wanted.shape[1] == 3:
        return found
    bands = wanted.shape[1]
    spread = (kernels.mean(dim=1, keepdim=True) * (3 / bands)).expand(-1, bands, -1, -1)
    note = f"the stem's kernels of RGB became their mean times 3/{bands} for each of {bands} bands"
    return dataclasses.replace(found, state={**found.state, _STEM: spread.contiguous()}, notes=(*found.notes, note))


def _without(state: Mapping[str, torch.Tensor], pattern: str | None) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if pattern is None or not re.search(pattern, k)}


def _refuse_misfits(
    found: Translated,
    wanted: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    new_classifier: bool,
) -> None:
    missing = [key for key in wanted if key not in state]
    shapes = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]
    extra = [key for key in state if key not in wanted]
    if not (missing or shapes or extra):
        return
    matched = len(wanted) - len(missing) - len(shapes)
    parts = [f"{matched:,} of {len(wanted):,} tensors match"]
    if missing:
        parts.append(f"{len(missing):,} missing (such as {missing[0]})")
    if extra:
        parts.append(f"{len(extra):,} unexpected (such as {extra[0]})")
    if shapes:
        key = shapes[0]
        parts.append(
            f"{len(shapes):,} of another shape (such as {key}: {tuple(state[key].shape)} in the file, "
            f"{tuple(wanted[key].shape)} in the network)"
        )
    wrong = [*missing, *shapes, *extra]
    step = _next_step(wrong, new_classifier)
    raise WeightsError(f"{found.file} does not fit this network: {'; '.join(parts)}. {step}")


def _next_step(wrong: Iterable[str], new_classifier: bool) -> str:
    if not all(key.startswith("head.") for key in wrong):
        return "Nothing was loaded. Choose the backbone the file was made for."
    advice = (
        "Only the head differs: model.new_head=true (new_head=True in Python) loads the backbone and starts a "
        "fresh head"
    )
    if not new_classifier and all(re.search(CLASSIFIERS, key) for key in wrong):
        advice += "; new_classifier=True starts only its last layer afresh"
    return f"{advice}."


def _compare_function(network: nn.Module, found: Translated, resize: str | None, *, finished: bool) -> tuple[str, ...]:
    """Compare what keys cannot show; a complete network must not change its function silently."""
    spec: dict[str, Any] | None = getattr(network, "spec", None)
    if spec is None or not is_hrnet(network.state_dict()):
        return ()
    own = {name: spec.get(name, value) for name, value in DEFAULTS.items()}
    if resize is not None and resize != own["resize"]:
        raise WeightsError(
            f"resize='{resize}' was asked for, but this network resizes '{own['resize']}'. Build it with "
            f"create_model(…, resize='{resize}'), or leave the argument out."
        )
    stored = found.function if resize is None else {**found.function, "resize": resize}
    differ = [name for name in DEFAULTS if stored[name] != own[name]]
    fields = ", ".join(f"{name} '{stored[name]}' (this network '{own[name]}')" for name in differ)
    if finished and differ and (found.certain or differ != ["resize"]):
        step = "Set " + ", ".join(f"model.{name}={stored[name]}" for name in differ)
        if differ == ["resize"]:
            step += f", or pass resize='{own['resize']}' (--resize of hrseg weights import) if you want the change"
        raise WeightsError(
            f"{found.file} ({found.format.name}) is a finished network with {fields}: the same weights would give "
            f"other logits, without an error. {found.reason[:1].upper()}{found.reason[1:]}. {step}."
        )
    if finished:
        if found.certain or resize is not None:
            return ()
        but = f", and this network resizes '{own['resize']}'" if differ else ""
        return (f"resize '{stored['resize']}' is assumed, since keys cannot show it ({found.reason}){but}",)
    notes = []
    if "resize" in differ:
        tail = ", as the official recipes do" if stored["resize"] == "nearest" else ""
        notes.append(
            f"the backbone was trained with resize '{stored['resize']}', this network resizes '{own['resize']}'{tail}"
        )
    notes += [
        f"the backbone was trained with {name} '{stored[name]}', this network has '{own[name]}'"
        for name in differ
        if name != "resize"
    ]
    return tuple(notes)

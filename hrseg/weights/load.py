"""Putting foreign weights into a network, with a receipt: nothing is dropped in silence.

Source of the names: hrseg's own, the official segmentation and ImageNet code and timm share the backbone's
parameter names, key for key; only prefixes and heads differ.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrseg.errors import WeightsError
from hrseg.weights.files import read_checkpoint
from hrseg.weights.imagenet import is_imagenet_tag, pull_imagenet

log = logging.getLogger(__name__)

_WRAPPERS = ("module.", "model.", "network.")
_IMAGENET_HEAD = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
_NOT_NETWORK = ("loss.", "metrics.")


@dataclass(frozen=True)
class LoadReport:
    """What happened to each key.

    Attributes:
        source: The file or tag.
        matched: Keys that were loaded.
        left_out: Keys of the file that are no part of this network, such as an ImageNet classifier.
        new: Keys of the network that keep their first values, a fresh head.
        notes: Sentences a reader should see, such as a change of resize policy.
    """

    source: str
    matched: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        text = f"{self.source}: {len(self.matched):,} tensors loaded"
        if self.new:
            text += f", {len(self.new)} start fresh ({self.new[0]}, …)"
        if self.left_out:
            text += f", {len(self.left_out)} of the file not needed ({self.left_out[0]}, …)"
        return "; ".join([text, *self.notes]) + "."


def load_weights(
    network: nn.Module, file_or_tag: str | Path, *, new_head: bool = False
) -> LoadReport:
    """Load a checkpoint into a network, wholly or not at all.

    Args:
        network: From `create_model`.
        file_or_tag: A .ckpt, .pth or .safetensors file with hrseg, official or timm names, or the tag of
            an ImageNet backbone such as "hrnet_w48.ms_in1k", which is downloaded once.
        new_head: Keep the backbone only and leave the head as it is, for another set of classes. A file
            without a segmentation head (ImageNet) implies it.

    Returns:
        A LoadReport; print it.

    Raises:
        WeightsError: The file cannot be read, or any backbone tensor (and any head tensor, unless
            new_head) is missing or has another shape. The network is unchanged then.
    """
    if is_imagenet_tag(str(file_or_tag)):
        state, source = pull_imagenet(str(file_or_tag), network), str(file_or_tag)
    else:
        state, source = state_dict_of(read_checkpoint(file_or_tag)), str(file_or_tag)
    own = network.state_dict()
    found, left_out = _translate(state, own)
    headless = _has_head(own) and not _has_head(found)
    backbone_only = new_head or headless
    wanted = {k: v for k, v in own.items() if not (backbone_only and k.startswith("head."))}
    if new_head:
        left_out += [key for key in found if key.startswith("head.")]
    _refuse_misfits(source, wanted, found, left_out)
    network.load_state_dict({**own, **{key: found[key] for key in wanted}})
    notes = _policy_note(network) if headless else ()
    fresh = tuple(key for key in own if key not in wanted)
    return LoadReport(source, tuple(wanted), tuple(left_out), fresh, notes)


def _has_head(keys: Iterable[str]) -> bool:
    return any(key.startswith("head.") for key in keys)


def state_dict_of(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Find the tensors of the network in a checkpoint; averaged weights (EMA) win over raw ones.

    Raises:
        WeightsError: The checkpoint holds no tensors.
    """
    state = checkpoint.get("state_dict", checkpoint)
    tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    averaged = {
        k[len("ema.module.") :]: v for k, v in tensors.items() if k.startswith("ema.module.")
    }
    if averaged:
        return averaged
    if not tensors:
        raise WeightsError(
            f"The checkpoint holds no tensors; its keys are {', '.join(map(str, list(checkpoint)[:5]))}. "
            "Give a file that holds a state_dict."
        )
    return {k: v for k, v in tensors.items() if not k.startswith("ema.")}


def _translate(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    found: dict[str, torch.Tensor] = {}
    left_out: list[str] = []
    for key, value in state.items():
        name = key
        while name not in own and name.startswith(_WRAPPERS):
            name = name.split(".", 1)[1]
        if name not in own and f"backbone.{name}" in own:
            name = f"backbone.{name}"
        elif name not in own and f"head.{name}" in own:
            name = f"head.{name}"
        if name.startswith((*_IMAGENET_HEAD, *_NOT_NETWORK)):
            left_out.append(key)
        else:
            found[name] = value
    return found, left_out


def _refuse_misfits(
    source: str,
    wanted: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    left_out: list[str],
) -> None:
    missing = [key for key in wanted if key not in found]
    shapes = [key for key in wanted if key in found and wanted[key].shape != found[key].shape]
    extra = [key for key in found if key not in wanted and key not in left_out]
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
            f"{len(shapes):,} of another shape (such as {key}: {tuple(found[key].shape)} in the file, "
            f"{tuple(wanted[key].shape)} in the network)"
        )
    only_head = not missing and not extra and all(key.startswith("head.") for key in shapes)
    step = (
        "Only the head differs: model.new_head=true (new_head=True in Python) keeps the backbone and starts a "
        "fresh head."
        if only_head
        else "Nothing was loaded. Choose the backbone the file was made for."
    )
    raise WeightsError(f"{source} does not fit this network: {'; '.join(parts)}. {step}")


def _policy_note(network: nn.Module) -> tuple[str, ...]:
    policy = getattr(network, "resize", "nearest")
    if policy == "nearest":
        return ()
    return (
        f"ImageNet backbones were trained with resize 'nearest', this network resizes '{policy}', "
        "as the official recipes do",
    )

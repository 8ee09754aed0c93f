"""What a network's tensors say about it: backbone, bands, head and class count, without building anything."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from hrseg.errors import WeightsError
from hrseg.models import BACKBONES
from hrseg.weights.foreign import Translated
from hrseg.weights.formats import NO_HEAD


def infer_spec(found: Translated) -> dict[str, Any]:
    """Return arguments of `create_model` as the shapes imply them; a card's own go first.

    Args:
        found: A file in our names.

    Raises:
        WeightsError: The shapes are no known HRNet's.
    """
    stored = dict(found.spec or {})
    if stored.get("backbone") not in (None, *BACKBONES):  # a baseline of ours
        return stored
    try:
        seen = _seen(found.state)
        bands = int(found.state["backbone.conv1.weight"].shape[1])
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{found.file} ({found.format.name}) lacks {error.args[0]}, so its width cannot be told. It is probably "
            "incomplete; copy it again."
        ) from error
    for name, variant in BACKBONES.items():
        if seen == {field: getattr(variant, field) for field in seen}:
            head = found.head or NO_HEAD
            spec = {**stored, "backbone": name, "head": head, "in_channels": bands}
            if head != NO_HEAD and found.num_classes is not None:
                spec["num_classes"] = found.num_classes
            return spec
    told = ", ".join(f"{field} {value}" for field, value in seen.items())
    raise WeightsError(
        f"{found.file} ({found.format.name}) is an HRNet of another shape: {told}. hrseg knows "
        f"{', '.join(BACKBONES)}."
    )


def _seen(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the fields of a Variant as the tensors show them."""
    return {
        "width": int(state["backbone.stage4.0.branches.0.0.conv1.weight"].shape[0]),
        "stem_blocks": _count(state, r"^backbone\.layer1\.(\d+)\."),
        "stem_channels": int(state["backbone.layer1.0.conv1.weight"].shape[0]),
        "modules": tuple(
            _count(state, rf"^backbone\.stage{stage}\.(\d+)\.") for stage in (2, 3, 4)
        ),
        "blocks": _count(state, r"^backbone\.stage4\.0\.branches\.0\.(\d+)\."),
    }


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    compiled = re.compile(pattern)
    return len({found[1] for key in state if (found := compiled.search(key))})

"""Opening a model: a training checkpoint, a release, a shipped model's tag, all become one plain record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hrseg.data.labels import LabelSet
from hrseg.errors import ConfigError, DataError, WeightsError, did_you_mean
from hrseg.models import create_model
from hrseg.weights import (
    DEFAULT_TAG,
    packaged_models,
    read_checkpoint,
    read_release,
    state_dict_of,
)


@dataclass(frozen=True)
class OpenedModel:
    """A network with all that its images and labels need.

    Attributes:
        network: In evaluation mode, on the CPU.
        labels: Its classes.
        mean: Per-band mean of its images, in 0 … 1.
        std: Per-band standard deviation.
        source: File it came from.
        config: Resolved recipe as plain types, where the file holds one.
    """

    network: nn.Module
    labels: LabelSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: Path
    config: dict[str, Any]


def open_model(model: str | Path | None = None) -> OpenedModel:
    """Open a model by file or tag.

    Args:
        model: A .ckpt of a run, a .safetensors release with its card, the tag of a shipped model, or None for
            the default one.

    Raises:
        WeightsError: Unknown tag, damaged file, or a file of another program.
    """
    shipped = packaged_models()
    path = shipped.get(str(model or DEFAULT_TAG)) or Path(str(model))
    if not path.exists() and path.suffix not in (".ckpt", ".safetensors", ".pth", ".pt"):
        raise WeightsError(
            f"No model '{model}': it is neither a file nor a shipped model ({', '.join(shipped)}). Give a .ckpt of a "
            f"run or a .safetensors release.{did_you_mean(str(model), shipped)}"
        )
    if path.suffix == ".safetensors":
        state, card = read_release(path)
        entry = {**card, "config": card.get("config", {})}
    else:
        checkpoint = read_checkpoint(path)
        entry = _entry(checkpoint, path)
        state = state_dict_of(checkpoint)
        raw = {k.removeprefix("network."): v for k, v in state.items()}
        state = {k: v for k, v in raw.items() if k.startswith(("backbone.", "head.", "network."))}
    return _build(entry, state, path)


def _entry(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    entry = checkpoint.get("hrseg")
    if isinstance(entry, dict):
        return entry
    raise WeightsError(
        f"{path} was not written by hrseg: it says nothing of classes and colours. To use its weights, give it to "
        "a recipe with model.weights=FILE, or load it in Python with hrseg.load_weights."
    )


def _build(entry: dict[str, Any], state: dict[str, Any], path: Path) -> OpenedModel:
    try:
        network = create_model(**entry["network"]).eval()
        network.load_state_dict(state)
        labels = LabelSet.from_dict(entry["labels"])
        mean, std = tuple(map(float, entry["mean"])), tuple(map(float, entry["std"]))
    except (KeyError, TypeError, RuntimeError, ConfigError, DataError) as error:
        raise WeightsError(
            f"{path} cannot be opened: {str(error).splitlines()[0]}. It is damaged or from another version of hrseg; "
            "copy it again, or use another checkpoint of the run."
        ) from error
    return OpenedModel(network, labels, mean, std, path, dict(entry.get("config") or {}))

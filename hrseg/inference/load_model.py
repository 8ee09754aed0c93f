"""Opening of trained models: checkpoints, releases, exported files and tags, as one record."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrseg.errors import ConfigError, WeightsError
from hrseg.inference.exported import RUNTIMES, is_exported, open_exported
from hrseg.labels import LabelSet
from hrseg.models import create_model
from hrseg.weights import (
    DEFAULT_TAG,
    check_card,
    packaged_models,
    read_checkpoint,
    read_release,
)
from hrseg.weights.catalog import is_tag, looks_like_tag, resolve_all, suggest
from hrseg.weights.convert import open_tag, refuse_headless
from hrseg.weights.foreign import DEFAULTS
from hrseg.weights.hub import is_hub, pull

_SUFFIXES = {".ckpt", ".safetensors", ".pth", ".pt", *RUNTIMES}


@dataclass(frozen=True)
class OpenedModel:
    """A network with its classes and input format.

    Attributes:
        name: Path or tag, for messages.
        network: In evaluation mode, on the CPU.
        labels: Its classes.
        mean: Per-band mean of its images, in 0 … 1.
        std: Per-band standard deviation.
        source: File it came from.
        config: Resolved recipe as plain types, where the file holds one.
        bands: Bands of an image file that it sees, as stored; None reads files as RGB of 8 bits.
        value_range: The stored value that becomes 1; None takes the type's.
    """

    name: str
    network: nn.Module
    labels: LabelSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: Path
    config: dict[str, Any]
    bands: tuple[int, ...] | None = None
    value_range: float | None = None

    @property
    def banded(self) -> dict[str, Any]:
        """Entries of a card about bands; none for RGB."""
        if self.bands is None:
            return {}
        return {"bands": list(self.bands), "value_range": self.value_range}


def open_model(model: str | Path | None = None) -> OpenedModel:
    """Open a model by file or tag.

    Args:
        model: A .ckpt of a run, the run's folder (its best.ckpt), a .safetensors release with its card, an
            exported .onnx, .xml or .pt2 file, the tag of a shipped model, a tag of the catalog or hf:org/name
            of the Hugging Face hub (fetched once), or None for the default one.

    Raises:
        WeightsError: Unknown tag, damaged file, or a file of another program.
    """
    if str(model) not in packaged_models() and (is_tag(str(model)) or looks_like_tag(str(model))):
        return _from_catalog(str(model))
    path = _find(model)
    if is_exported(path):
        exported, fields = open_exported(path)
        config = dict(fields.config)
        return OpenedModel(str(model), exported, fields.labels, fields.mean, fields.std, path, config)
    if path.suffix == ".safetensors":
        state, entry = read_release(path)
    else:
        checkpoint = read_checkpoint(path)
        entry = _entry(checkpoint, path)
        state = _network_state(checkpoint)
    name = str(model or DEFAULT_TAG)
    refuse_headless(entry.get("network", {}).get("head"), str(path))
    try:
        labels = LabelSet.from_dict(entry["labels"])
        network: nn.Module = create_model(**_spec(entry, labels))
        network.load_state_dict(state)
        mean, std = tuple(map(float, entry["mean"])), tuple(map(float, entry["std"]))
        bands = None if entry.get("bands") is None else tuple(entry["bands"])
        value_range = None if entry.get("value_range") is None else float(entry["value_range"])
    except KeyError as error:
        raise _unusable(path, f"it has no entry '{error.args[0]}'") from error
    except (TypeError, ValueError, RuntimeError) as error:  # ConfigError and DataError too
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # torch lists all mismatches: the first is enough
        raise _unusable(path, " ".join(lines[:2])[:240].rstrip(".")) from error
    config = dict(entry.get("config") or {})
    return OpenedModel(name, network.eval(), labels, mean, std, path, config, bands, value_range)


def _find(model: str | Path | None) -> Path:
    if is_hub(str(model)):
        return pull(str(model))
    shipped = packaged_models()
    path = shipped.get(str(model or DEFAULT_TAG), Path(str(model or DEFAULT_TAG)))
    if (path / "best.ckpt").is_file():
        return path / "best.ckpt"
    if path.is_dir():
        raise WeightsError(
            f"Folder {path} holds no best.ckpt. Give a run's folder, or a file such as {path / 'last.ckpt'}."
        )
    if not path.exists() and path.suffix not in _SUFFIXES:
        raise WeightsError(
            f"No model '{path}': it is neither a file nor a tag. Give a .ckpt of a run, a .safetensors release, a "
            f"tag that hrseg weights list shows, or hf:org/name of the hub.{suggest(str(path))}"
        )
    return path


def _entry(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    entry = checkpoint.get("hrseg")
    if entry is not None:
        return check_card(entry, path)
    raise WeightsError(
        f"{path} was not written by hrseg: it holds no classes and colors. Import it first: hrseg weights "
        f"import {shlex.quote(str(path))} --out NAME.safetensors. To train from it, give a recipe "
        f"{shlex.quote(f'model.weights={path}')}."
    )


def _from_catalog(tag: str) -> OpenedModel:
    """Download and convert published weights."""
    network, labels, foreign = open_tag(tag)
    file = resolve_all(tag)[0]
    return OpenedModel(tag, network.eval(), labels, foreign.mean, foreign.std, file, {})


def _spec(entry: dict[str, Any], labels: LabelSet) -> dict[str, Any]:
    """Return the arguments of `create_model` from a card, or from a run's config."""
    if "network" in entry:
        spec = dict(entry["network"])
        if spec.get("num_classes") != labels.num_classes:
            raise ConfigError(f"it names {labels.num_classes} classes for a network of {spec.get('num_classes')}")
        spec.pop("encoder_weights", None)  # its own weights follow, so nothing is downloaded
        return spec
    model = entry["config"]["model"]
    # recipes of older runs lack some
    form = {name: model[name] for name in DEFAULTS if name in model}
    return {
        "backbone": model["backbone"],
        "head": model["head"],
        "num_classes": labels.num_classes,
        **form,
    }


def _network_state(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the network's tensors, of the moving average where the run has one."""
    state = checkpoint.get("state_dict", {})
    averaged = any(key.startswith("ema.module.") for key in state)
    prefix = "ema.module." if averaged else "network."
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def _unusable(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{path} cannot be opened: {reason}. It is damaged or from another version of hrseg; copy it again, or use "
        "another checkpoint of the run."
    )

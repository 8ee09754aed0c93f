"""What can be timed: a checkpoint, a tag, an exported file, a recipe or the name of a network, all as one thing."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from hrseg.config import find_config, list_recipes, load_config
from hrseg.data.street import scene
from hrseg.errors import ConfigError, HrsegError, unknown_choice
from hrseg.export.network import ExportedNetwork, as_logits
from hrseg.imaging import to_tensor
from hrseg.inference.engines import ENGINES
from hrseg.inference.predictor import Predictor
from hrseg.inference.prepare import PRECISIONS
from hrseg.models import BACKBONES, HEADS, create_model, list_models, summary

UNTIL = {
    "labels": "uint8 images in, label maps out: what predict does for masks and overlays, but the files",
    "logits": "normalised images in, float32 logits at image size out",
    "head": "normalised images in, logits at the head's own resolution out: network and head alone",
}
"""Where the timed work ends → what that is."""
KINDS = ("model", "config", "architecture")
CLASSES = 19
_DRAWN = (256, 512)


class Choice(NamedTuple):
    """What is to be timed: a word, what kind of word it is (None finds out), a precision and an engine."""

    word: str | None = None
    kind: str | None = None
    precision: str = "auto"
    engine: str = "auto"


@dataclass(frozen=True)
class Subject:
    """Something to time.

    Attributes:
        name: As it was asked for.
        precision: That it computes in.
        device: Where.
        feed: Makes its input of uint8 images (N, H, W, B), untimed.
        work: What is timed; takes that input.
        labels: Classes of what came out, (N, h, w).
        bands: Of its images.
        network: To count multiply-adds of; None where an exported file does not say what it holds.
        num_classes: K.
    """

    name: str
    precision: str
    device: torch.device
    feed: Callable[[np.ndarray], Any]
    work: Callable[[Any], Any]
    labels: Callable[[Any], np.ndarray]
    bands: int
    network: nn.Module | None
    num_classes: int

    def multiply_adds(self, size: tuple[int, int], batch: int = 1) -> int | None:
        """Count those of some whole images by the plain network, whatever computes it."""
        if self.network is None:
            return None
        return batch * summary(self.network, size).multiply_adds


def open_subject(
    choice: Choice, *, device: str = "auto", until: str = "labels", classes: int = CLASSES
) -> Subject:
    """Open what is to be timed.

    Args:
        choice: Its word is a checkpoint, release, tag or exported file, the name of a recipe, or a network such as
            hrnet_w48 or hrnet_w48/ocr. Recipes and networks get random weights from one seed; None is the model that
            ships.
        device: "auto", "cpu" or "cuda".
        until: A key of UNTIL.
        classes: K of a network given by name.

    Raises:
        ConfigError: An unknown name, or work that this one cannot do.
        WeightsError: The file cannot be opened.
    """
    if until not in UNTIL:
        raise ConfigError(unknown_choice("end", until, UNTIL))
    kind = choice.kind or _kind_of(choice.word)
    if kind not in KINDS:
        raise ConfigError(unknown_choice("kind of subject", kind, KINDS))
    model = choice.word if kind == "model" else _RANDOM[kind](str(choice.word), classes)
    named: dict[str, Any] = {}
    if kind == "config":
        config = load_config(str(choice.word))
        bands = 3 if config.data.bands is None else len(config.data.bands)
        named = {"mean": (0.5,) * bands, "std": (0.25,) * bands, "bands": config.data.bands}
    named |= {"device": device, "precision": choice.precision, "engine": choice.engine}
    predictor = Predictor(model, keep=(), **named)
    name = str(choice.word or "the model that ships")
    name += "" if choice.engine == "auto" else f" by {choice.engine}"
    return subject_of(predictor, name, until)


def subject_of(predictor: Predictor, name: str, until: str = "labels") -> Subject:
    """Make a predictor something to time; see `open_subject`."""
    if isinstance(predictor.network, ExportedNetwork):
        return _exported(name, predictor, until)
    return _checkpoint(name, predictor, until)


def split_word(word: str, base: Choice) -> Choice:
    """Read a word of --compare: a model, a precision, an engine, or some of them joined by "+".

    What is left out is the base's; the model comes first.

    Example:
        >>> tuple(split_word("fp32", Choice("a.ckpt")))
        ('a.ckpt', None, 'fp32', 'auto')
        >>> tuple(split_word("hrnet_w48+bf16+openvino", Choice("a.ckpt")))
        ('hrnet_w48', None, 'bf16', 'openvino')
    """
    parts = word.split("+")
    found: dict[str, Any] = {}
    while parts and parts[-1] in (*PRECISIONS, *ENGINES):
        last = parts.pop()
        found["precision" if last in PRECISIONS else "engine"] = last
    if parts:
        found |= {"word": "+".join(parts), "kind": None}
    return base._replace(**found)


def pictures(size: tuple[int, int], batch: int = 1, bands: int = 3) -> np.ndarray:
    """Draw streets of a size, the same every time; large ones are small ones side by side.

    Shape:
        → uint8 (N, H, W, B)
    """
    drawn = np.stack([scene(index, _DRAWN)[0] for index in range(min(batch, 4))])
    tiles = [-(-side // small) for side, small in zip(size, _DRAWN, strict=True)]
    wide = np.tile(drawn, (-(-batch // len(drawn)), *tiles, -(-bands // 3)))
    return np.ascontiguousarray(wide[:batch, : size[0], : size[1], :bands])


def random_network(backbone: str, head: str = "v2", classes: int = CLASSES) -> nn.Module:
    """Build a network with random weights, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = create_model(backbone, head, classes)
    return network.eval()


def _kind_of(word: str | None) -> str:
    if word is None or Path(word).exists():
        return "model"
    if word.partition("/")[0] in BACKBONES:
        return "architecture"
    return "config" if word.endswith(".yaml") or word in list_recipes() else "model"


def _architecture(word: str, classes: int) -> nn.Module:
    backbone, _, head = word.partition("/")
    if backbone not in BACKBONES:
        raise ConfigError(unknown_choice("architecture", backbone, list_models()))
    pixels = [name for name, row in HEADS.items() if (row.family, row.gives) == ("hrnet", "pixels")]
    if head and head not in pixels:
        raise ConfigError(unknown_choice("head", head, pixels))
    return random_network(backbone, head or "v2", classes)


def _recipe(word: str, classes: int) -> nn.Module:
    from hrseg.building.data import build_data  # brings lightning; nothing else here needs it
    from hrseg.building.network import build_network

    config = load_config(find_config(word))
    labels = build_data(config).labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(config, labels, load=False).eval()


_RANDOM: dict[str, Callable[[str, int], nn.Module]] = {
    "architecture": _architecture,
    "config": _recipe,
}


def _checkpoint(name: str, predictor: Predictor, until: str) -> Subject:
    coarse = getattr(predictor.logits_fn, "coarse", None)
    if until == "head" and coarse is None:
        raise ConfigError(
            f"{name} ends at image size, it has no smaller logits. Use --until logits."
        )
    statistics = (predictor.mean, predictor.std, predictor.value_range)

    def normalised(images: np.ndarray) -> torch.Tensor:
        tensors = torch.stack([to_tensor(image, *statistics) for image in images])
        return tensors.to(predictor.device)

    def masks(found: Sequence[Any]) -> np.ndarray:
        return np.stack([one.mask for one in found])

    def classes(logits: torch.Tensor) -> np.ndarray:
        return np.asarray(logits.argmax(dim=1).cpu())

    ways: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., np.ndarray]]] = {
        "labels": (list, predictor.batch, masks),
        "logits": (normalised, predictor.scorer, classes),
        "head": (normalised, coarse or predictor.scorer, classes),
    }
    feed, work, labels = ways[until]
    return Subject(
        name,
        predictor.precision,
        predictor.device,
        feed,
        work,
        labels,
        predictor.in_channels,
        predictor.network,
        predictor.labels.num_classes,
    )


def _exported(name: str, predictor: Predictor, until: str) -> Subject:
    """Time the file itself, as other programs call it: pixels in, what it gives out."""
    network: Any = predictor.network
    if until == "head" or (until == "logits" and "logits" not in network.outputs):
        raise ConfigError(
            f"{name} gives {', '.join(network.outputs)}, and {until} is not among them. Use --until labels, or export "
            "it with --outputs logits."
        )

    def labels(answers: Any) -> np.ndarray:
        return np.asarray(as_logits(answers, network.num_classes).argmax(dim=1))

    return Subject(
        name,
        network.precision,
        torch.device("cpu"),
        lambda images: images,
        network.runner,
        labels,
        3,
        _inside(network.runner.card),
        network.num_classes,
    )


def _inside(card: str | None) -> nn.Module | None:
    """Build the network that a file was exported from, to count it; nothing is loaded."""
    spec = json.loads(card or "{}").get("network") or {}
    try:
        with torch.device("meta"):
            built: nn.Module = create_model(**{**spec, "encoder_weights": None})
            return built
    except (HrsegError, TypeError):
        return None

"""Timing of models: each alone at several sizes, or two alternately on the same images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from hrseg.benchmark import results, timing
from hrseg.config import list_recipes, load_config
from hrseg.data.street import scene
from hrseg.errors import ConfigError, HrsegError, unknown_choice
from hrseg.imaging import to_tensor
from hrseg.inference.backends import ENGINES, set_threads
from hrseg.inference.exported import ExportedNetwork, as_logits
from hrseg.inference.predictor import Predictor
from hrseg.inference.prepare import PRECISIONS
from hrseg.models import BACKBONES, HEADS, create_model, summary

Size = tuple[int, int]


class Choice(NamedTuple):
    """A network to time: its name, kind ("model", "config", "architecture"; None detects it), precision and engine.

    A model is a checkpoint, release, tag or exported file, or None for the one that ships; a config the name of a
    recipe; an architecture such as hrnet_w48 or hrnet_w48/ocr. The last two get random weights from one seed.
    """

    word: str | None = None
    kind: str | None = None
    precision: str = "auto"
    engine: str = "auto"


@dataclass(frozen=True)
class Settings:
    """Settings of a run: `until` is a key of results.UNTIL, `seconds` are for each row or for both of a comparison.

    Threads None takes as many as predict; classes are those of networks given by name.
    """

    batch: int = 1
    device: str = "auto"
    until: str = "labels"
    threads: int | None = None
    seconds: float = 5.0
    classes: int = 19


@dataclass(frozen=True)
class TimedModel:
    """An opened model: `feed`, untimed, converts uint8 images (N, H, W, B) to the input of `work`, which is timed.

    `network` is what multiply-adds are counted of; None for an exported file without its specification.
    """

    name: str
    precision: str
    device: torch.device
    feed: Callable[[np.ndarray], Any]
    work: Callable[[Any], Any]
    bands: int
    network: nn.Module | None
    num_classes: int

    def multiply_adds(self, size: Size, batch: int = 1) -> int | None:
        """Count multiply-adds of a batch in the plain network, whatever engine computes it."""
        return batch * summary(self.network, size).multiply_adds if self.network is not None else None

    def run_on(self, images: np.ndarray) -> Callable[[], Any]:
        """Return the timed function for these images."""
        given = self.feed(images)
        return lambda: self.work(given)

    def labels(self, found: Any) -> np.ndarray:
        """Return the classes of an output of `work`. Shape: → (N, h, w)."""
        if isinstance(found, list):
            return np.stack([prediction.mask for prediction in found])
        logits = as_logits(found, self.num_classes) if isinstance(found, dict) else found
        return np.asarray(logits.argmax(dim=1).cpu())


def benchmark(choices: Sequence[Choice], sizes: Sequence[Size], settings: Settings = Settings()) -> results.Report:
    """Time models one after the other, each at all sizes (height, width) from small to large.

    Raises:
        ConfigError, WeightsError: See `open_timed`.
    """
    set_threads(settings.threads)
    rows, device = [], torch.device("cpu")
    for choice in choices:
        model = open_timed(choice, settings)
        device = model.device
        before = timing.matrix_ceiling(device, model.precision)
        counts = {size: model.multiply_adds(size, settings.batch) for size in sizes}
        timing.release_memory()  # counting is not part of the network's peak
        base = timing.resident()
        order = sorted(sizes, key=math.prod)
        found = {size: measure(model, size, settings, base) for size in order}
        after = timing.matrix_ceiling(device, model.precision)
        ceiling = None if before is None or after is None else max(before, after)
        rows += [found[size].against(counts[size], ceiling) for size in sizes]
    return results.Report(results.describe(device), settings.until, tuple(rows))


def measure(model: TimedModel, size: Size, settings: Settings, base: int | None = None, least: int = 3) -> results.Row:
    """Time one model at one size: a first run, a second for its memory above `base`, then at least `least` runs."""
    work = model.run_on(pictures(size, settings.batch, model.bands))
    first, memory = timing.seconds_of(work), timing.peak_memory(work, model.device, base)
    taken = timing.time_in_turns({"": work}, settings.seconds, least)[""]
    name, shape = (model.name, model.precision), (settings.batch, *size)
    return results.summarize(name, shape, first, taken, memory)


def compare(choices: tuple[Choice, Choice], size: Size, settings: Settings = Settings()) -> results.Comparison:
    """Time two models alternately on the same images.

    Raises:
        ConfigError: See `open_timed`; or the two see images of different bands.
    """
    set_threads(settings.threads)
    models = one, other = [open_timed(choice, settings) for choice in choices]
    if one.bands != other.bands:
        raise ConfigError(
            f"{one.name} sees {one.bands} bands and {other.name} {other.bands}; they cannot read the same images. "
            "Compare two of the same bands."
        )
    images = pictures(size, settings.batch, one.bands)
    works = {mark: model.run_on(images) for mark, model in zip("AB", models, strict=True)}
    a, b = (model.labels(work()) for model, work in zip(models, works.values(), strict=True))
    comparable = one.num_classes == other.num_classes and a.shape == b.shape
    taken = timing.time_in_turns(works, settings.seconds)
    return results.Comparison(
        *(results.describe(one.device), settings.until, *size, settings.batch),
        (f"{one.name}, {one.precision}", f"{other.name}, {other.precision}"),
        (float(np.median(taken["A"])), float(np.median(taken["B"]))),
        results.paired_ratio(taken["A"], taken["B"]),
        float(np.mean(a == b)) if comparable else None,
    )


def open_timed(choice: Choice, settings: Settings = Settings()) -> TimedModel:
    """Open a choice for timing.

    Raises:
        ConfigError: An unknown name, or an end that the model lacks.
        WeightsError: The file cannot be opened.
    """
    kind, word = choice.kind or _kind_of(choice.word), str(choice.word)
    model: Any = choice.word
    options: dict[str, Any] = {"precision": choice.precision, "engine": choice.engine}
    if kind == "config":
        from hrseg.training.build import (
            build_data,  # brings lightning; nothing else here needs it
            build_network,
        )

        config = load_config(word)
        classes, bands = build_data(config).labels, config.data.bands
        model, count = (
            _seeded(lambda: build_network(config, classes, load=False)),
            len(bands or "RGB"),
        )
        options |= {"mean": (0.5,) * count, "std": (0.25,) * count, "bands": bands}
    elif kind == "architecture":
        backbone, _, head = word.partition("/")
        pixels = [n for n, row in HEADS.items() if (row.family, row.gives) == ("hrnet", "pixels")]
        if head and head not in pixels:
            raise ConfigError(unknown_choice("head", head, pixels))
        model = random_network(backbone, head or "v2", settings.classes)
    predictor = Predictor(model, keep=(), device=settings.device, **options)
    engine = "" if choice.engine == "auto" else f" by {choice.engine}"
    return timed(predictor, f"{choice.word or 'the model that ships'}{engine}", settings.until)


def timed(predictor: Predictor, name: str, until: str = "labels") -> TimedModel:
    """Wrap a predictor for timing; an exported file takes pixels, as in other programs."""

    def normalized(images: np.ndarray) -> torch.Tensor:
        statistics = (predictor.mean, predictor.std, predictor.value_range)
        return torch.stack([to_tensor(one, *statistics) for one in images]).to(predictor.device)

    network: Any = predictor.network
    precision, device = predictor.precision, predictor.device
    ends: dict[str, tuple[Any, Any]]
    ends = {"labels": (list, predictor.batch), "logits": (normalized, predictor.inference)}
    if isinstance(network, ExportedNetwork):
        ends = dict.fromkeys(("labels", *network.outputs), (partial(_of_size, network.size, name), network.runner))
        precision, device, network = network.precision, torch.device("cpu"), _inside(network.spec)
    elif coarse := getattr(predictor.logits_fn, "coarse", None):
        ends["head"] = (normalized, coarse)
    if until not in results.UNTIL or until not in ends:
        offered = " or ".join(end for end in results.UNTIL if end in ends)
        raise ConfigError(
            f"{name} has no end '{until}'. Use --until {offered}. An exported file gives logits where it was written "
            "with --outputs logits."
        )
    bands, classes = predictor.in_channels, predictor.labels.num_classes
    return TimedModel(name, precision, device, *ends[until], bands, network, classes)


def _of_size(size: Size | None, name: str, images: np.ndarray) -> np.ndarray:
    if size is not None and images.shape[1:3] != size:
        raise ConfigError(f"{name} takes images of {size[0]} x {size[1]} pixels only. Use: --size {size[0]} {size[1]}")
    return np.asarray(images)


def _inside(spec: dict[str, Any]) -> nn.Module | None:
    """Build the network of an exported file without weights, to count multiply-adds."""
    try:
        with torch.device("meta"):
            return create_model(**{**spec, "encoder_weights": None})
    except (HrsegError, TypeError):
        return None


def split_word(word: str, base: Choice) -> Choice:
    """Parse an argument of --compare: a model, a precision, an engine, or some joined by "+"; the rest is the base's.

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


def pictures(size: Size, batch: int = 1, bands: int = 3) -> np.ndarray:
    """Tile synthetic scenes to a size, deterministically. Shape: → uint8 (N, H, W, B)."""
    small = (256, 512)
    drawn = np.stack([scene(index, small)[0] for index in range(min(batch, 4))])
    tiles = [-(-side // part) for side, part in zip(size, small, strict=True)]
    wide = np.tile(drawn, (-(-batch // len(drawn)), *tiles, -(-bands // 3)))
    return np.ascontiguousarray(wide[:batch, : size[0], : size[1], :bands])


def random_network(backbone: str, head: str = "v2", classes: int = 19) -> nn.Module:
    """Build a network with random weights of a fixed seed."""
    return _seeded(lambda: create_model(backbone, head, classes))


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def _kind_of(word: str | None) -> str:
    if word is None or Path(word).exists():
        return "model"
    if word.partition("/")[0] in BACKBONES:
        return "architecture"
    return "config" if word.endswith(".yaml") or word in list_recipes() else "model"

"""Predictor: images in, predictions out. Tensors and labels only, no config and no command line."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn, TypedDict, Unpack

import numpy as np
import torch
from PIL import Image
from torch import nn

from hrseg.errors import ConfigError, DataError, did_you_mean, name_text, path_text, unknown_choice
from hrseg.imaging import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LoadedImage,
    load_image,
    stretched,
    to_tensor,
)
from hrseg.inference.backends import ForkGuard, open_engine
from hrseg.inference.load_model import open_model
from hrseg.inference.prediction import LAZY_MAPS, MAPS, Prediction, Reduction
from hrseg.inference.prepare import precision_of, resolve_device
from hrseg.inference.protocols import Protocol, choose_protocol
from hrseg.inference.tta import SlidingWindowInference, aligns, input_scale
from hrseg.inference.windows import Blend, PixelSource
from hrseg.labels import Label, LabelSet, distinct_colors
from hrseg.ops.upsample import CoarseLogits, labels_from_logits
from hrseg.weights.checkpoint_io import file_digest, weights_digest
from hrseg.weights.hub import repository

__all__ = ["Prediction", "Predictor", "from_pretrained", "open_predictor"]

Source = str | Path | Image.Image | np.ndarray | torch.Tensor | LoadedImage
"""Inputs that can be segmented."""


class PredictorOptions(TypedDict, total=False):
    """Options of `Predictor` that change the model's own input format, or parts of the protocol.

    Attributes:
        mean: Per-band mean that the network was trained with; a file brings its own, else ImageNet's.
        std: Per-band standard deviation.
        bands: Bands of an image file that the network sees, as stored; a file brings its own. None reads RGB.
        value_range: The stored value that becomes 1; None takes the type's: 255, 65535, or 1 for float32.
        bits: Significant bits of 16-bit files, 8 to 16; a model brings its own, else the file's tag counts, else 16.
        window: (height, width) of sliding windows, or None for whole images.
        overlap: Shared fraction of neighboring windows; None is 0.25.
        blend: Weights of overlapping windows, one of `windows.BLENDS`; None is "gaussian".
        scales: Scales of test-time augmentation, such as (0.75, 1.0, 1.25).
        flip: Whether the mirrored image is run too.
        merge: What is averaged over them: "softmax", "logits" or "exp".
    """

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    bands: Sequence[int] | None
    value_range: float | None
    bits: int | None
    window: tuple[int, int] | None
    overlap: float | None
    blend: Blend | None
    scales: Sequence[float]
    flip: bool | None
    merge: str | None


class Predictor:
    """Segmentation of images with one network, in the fastest form for the device.

    Images are run whole at their own size. Those above 4.7 megapixels, as the network sees them, are cut into windows,
    so that memory stays bounded (see docs/large_images.md); a requested window is used for all images.

    Args:
        model: A network; a .ckpt of a run, the run's folder, a .safetensors release or an exported file; a tag of
            `hrseg weights list`, downloaded once; hf:org/name; or None for the default model.
        labels: Classes of the network; a file brings its own, and a network without them gets numbers.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" or 1, "mps", or a `torch.device`.
        precision: "auto" (bf16 where the device has it), "fp32" or "bf16".
        engine: "auto", "torch", "openvino" or "compile", see `inference.backends`.
        protocol: Name of an inference protocol, such as "tta", or a `Protocol`.
        keep: Maps beside the mask: "confidence", "probabilities", "entropy", "margin". Of an image that is run whole,
            all but probabilities are computed when they are read first; of others, at once. () keeps none of them.
        classes: Names of the classes whose probabilities are stored; none means all.
        pixels: Of all images together, where that is known: engine "auto" leaves out what costs more than it gains.
        options: Input format and parts of the protocol, see `PredictorOptions`.

    Raises:
        ConfigError: A choice that cannot work.
        WeightsError: The file cannot be opened.

    Example:
        >>> from hrseg.models import create_model
        >>> predictor = Predictor(create_model("hrnet_w18_small_v1", num_classes=2))
        >>> predictor(np.zeros((5, 7, 3), np.uint8)).mask.shape
        (5, 7)
    """

    def __init__(
        self,
        model: nn.Module | str | Path | None = None,
        labels: LabelSet | None = None,
        *,
        device: str | int | torch.device = "auto",
        precision: str = "auto",
        engine: str = "auto",
        protocol: str | Protocol = "whole",
        keep: Sequence[str] = ("confidence",),
        classes: Sequence[str] = (),
        pixels: int | None = None,
        **options: Unpack[PredictorOptions],
    ) -> None:
        changes: dict[str, Any] = dict(options)  # of the protocol, after the input format
        if unknown := changes.keys() - PredictorOptions.__annotations__:
            raise TypeError(f"Predictor got an unexpected keyword argument '{min(unknown)}'.")
        mean, std, bands, value_range, bits = (
            changes.pop(name, None) for name in ("mean", "std", "bands", "value_range", "bits")
        )
        self.protocol = choose_protocol(protocol, **changes)
        self.source: Path | None = None
        if isinstance(model, nn.Module):
            network, self.name = model, type(model).__name__
            labels = labels or _numbered(network)
        else:
            opened = open_model(model)
            network, self.source, self.name = opened.network, opened.source, opened.name
            labels, mean, std = labels or opened.labels, mean or opened.mean, std or opened.std
            bands = opened.bands if bands is None else tuple(bands)
            value_range = value_range or opened.value_range
            bits = bits or (opened.config.get("data") or {}).get("bits")
        _check_classes(network, labels)
        self.labels = labels
        self.mean, self.std = tuple(mean or IMAGENET_MEAN), tuple(std or IMAGENET_STD)
        self.bands, self.value_range, self.bits = bands, value_range, bits
        self.in_channels = _check_bands(network, self.mean, self.std, bands)
        self.device = resolve_device(device)
        self.precision = precision_of(network, precision, self.device)
        self.keep = _check_keep(keep)
        self.probability_ids = _train_ids(classes, labels) if "probabilities" in self.keep else ()
        self.network = network
        self._fork_guard = ForkGuard(self.device)
        views = sum(scale**2 for scale in self.protocol.scales) * (1 + self.protocol.flip)
        seen = None if pixels is None else pixels * views * input_scale(network) ** 2
        self.logits_fn = open_engine(network, self.device, self.precision, engine, seen)
        self._inference = SlidingWindowInference(
            self.logits_fn,
            self.protocol,
            flip_order=labels.flip_order,
            mean=self.mean,
            std=self.std,
            rgb=self.plain,
            aligned=aligns(network),
            input_scale=input_scale(network),
            device=self.device,
        )

    @property
    def inference(self) -> SlidingWindowInference:
        """Logits and labels of tensors.

        Raises:
            ConfigError: This process was forked from the one that opened the predictor, see `backends.ForkGuard`.
        """
        self._fork_guard.check(self.engine)
        return self._inference

    def __repr__(self) -> str:
        return (
            f"Predictor({self.name}: {self.labels.num_classes} classes of '{self.labels.name}', {self.device}, "
            f"{self.precision}, {getattr(self.logits_fn, 'name', 'torch')})"
        )

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            "A predictor cannot be pickled or copied: its engine belongs to its process. Send the model's name, and "
            "open a predictor in each process."
        )

    def __call__(self, image: Source) -> Prediction:
        """Segment one image.

        Args:
            image: A path, a PIL image, or an array: uint8 gray, RGB or RGBA (laid on white), or for a network of
                other bands those bands as uint8, uint16 or float32.

        Raises:
            DataError: It is not an image, or an array of another form.

        Shape:
            array (H, W, B) → Prediction.mask (H, W)
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[Source], names: Sequence[str] | None = None) -> list[Prediction]:
        """Segment several images; those of one size go through the network together.

        Args:
            images: As for one.
            names: Of the images; None takes the stems of their files.

        Returns:
            One prediction for each image, in order.

        Raises:
            DataError: One of them is not an image.
        """
        loaded = [self.load(image) for image in images]
        done: dict[int, Prediction] = {}
        for first, one in enumerate(loaded):
            if first not in done:
                shape = one.pixels.shape
                same = [i for i, other in enumerate(loaded) if other.pixels.shape == shape]
                maps = self._reduce([loaded[i].pixels for i in same])
                for n, i in enumerate(same):
                    done[i] = self._prediction(images[i], loaded[i], maps.of(n, loaded[i].valid))
        predictions = [done[i] for i in range(len(loaded))]
        if names is None:
            return predictions
        return [replace(one, name=name) for one, name in zip(predictions, names, strict=True)]

    def _reduce(self, pixels: Sequence[np.ndarray]) -> Reduction:
        """Run images of one size, and reduce their logits to the maps of `keep`, block by block."""
        inference = self.inference  # first: a forked child would hang in any step of torch
        source = PixelSource(pixels, self.mean, self.std, self.value_range)
        coarse = inference.coarse(source) if set(self.keep) <= set(LAZY_MAPS) else None
        reduction = Reduction(len(pixels), source.size, self.keep if coarse is None else (), self.probability_ids)
        if coarse is not None:
            for strip in labels_from_logits(coarse, source.size, policy=inference.policy, want=("samples",)):
                reduction.put(strip)
            if self.keep:
                reduction.coarse = CoarseLogits(coarse, source.size, inference.policy)
        elif not self.keep:
            for strip in inference.label_strips(source, ("samples",)):
                reduction.put(strip)
        else:
            for top, left, logits in inference.blocks(source):
                reduction.add(top, left, logits)
                del logits  # memory: not to be held while the network runs
        return reduction

    def _prediction(self, image: Source, loaded: LoadedImage, maps: dict[str, Any]) -> Prediction:
        path = Path(image) if isinstance(image, str | Path) else None
        return Prediction(
            labels=self.labels,
            image=loaded.pixels if self.plain else stretched(loaded.pixels),
            name=name_text(path.stem) if path else "image",
            origin=path_text(path) if path else "",
            probability_ids=self.probability_ids,
            valid=loaded.valid,
            georeference=loaded.georeference,
            notes=loaded.notes,
            **maps,
        )

    @property
    def engine(self) -> str:
        """Name of the engine that runs."""
        return getattr(self.logits_fn, "name", "torch")

    @property
    def plain(self) -> bool:
        """Whether images are RGB of 8 bits."""
        return self.bands is None and self.in_channels == 3

    @property
    def stored_bands(self) -> tuple[int, ...] | None:
        """Bands of a file that the network sees, None for RGB."""
        return None if self.plain else tuple(self.bands or range(self.in_channels))

    def load(self, image: Source | bytes, name: str | None = None) -> LoadedImage:
        """Decode an image as the network sees it, before normalization; safe in threads.

        Args:
            image: As for one; also the bytes of a file, or an open one.
            name: For error messages; None takes its path.

        Raises:
            DataError: It is not an image, or an array of another form.
        """
        if isinstance(image, LoadedImage):
            return image
        if isinstance(image, np.ndarray) and self.plain and _is_gray_or_rgba(image):
            image = Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image)
        if isinstance(image, np.ndarray | torch.Tensor):
            return LoadedImage(self._checked_array(image), None, None, ())
        if not (isinstance(image, str | Path | bytes | Image.Image) or hasattr(image, "read")):
            raise DataError(
                f"An object of type {type(image).__name__} is not an image. Pass a path, a PIL image or an array; of "
                "several images, batch([...])."
            )
        return load_image(image, bands=self.stored_bands, bits=self.bits, name=name)

    def _checked_array(self, image: np.ndarray | torch.Tensor) -> np.ndarray:
        bands, tensor = self.in_channels, isinstance(image, torch.Tensor)
        types = ("uint8",) if self.plain else ("uint8", "uint16", "float32")
        fits = image.ndim == 3 and image.shape[2] == bands and 0 not in image.shape
        if isinstance(image, np.ndarray) and fits and image.dtype.name in types:
            return image
        shape = "RGB of shape (H, W, 3)" if self.plain else f"of shape (H, W, {bands})"
        raise DataError(
            f"{'A tensor' if tensor else 'An array'} of shape {tuple(image.shape)} and type {image.dtype} is not an "
            f"image. Pass {', '.join(types)} {shape}, a path or a PIL image{_conversion(image, bands, types)}."
        )

    def settings(self) -> dict[str, Any]:
        """Return all settings that results depend on, as plain values; the weights as a digest."""
        return {
            "model": _digest(self.network, self.source),
            "labels": self.labels.to_dict(),
            "mean": list(self.mean),
            "std": list(self.std),
            "bands": None if self.bands is None else list(self.bands),
            "value_range": self.value_range,
            "bits": self.bits,
            "precision": self.precision,
            "engine": self.engine,
            "protocol": asdict(self.protocol),
            "classes": list(self.probability_ids),
        }

    def logits(self, image: np.ndarray) -> torch.Tensor:
        """Return logits at image size. Shape: (H, W, B) → float32 (1, K, H, W)."""
        inference = self.inference
        return inference(to_tensor(image, self.mean, self.std, self.value_range)[None])


open_predictor = Predictor
"""The same, under the name of a function."""


def from_pretrained(name: str, revision: str | None = None, **options: Any) -> Predictor:
    """Open a model of the Hugging Face hub, ready to segment images; it is downloaded once.

    `create_model` and `load_weights(network, "hf:org/name")` put its weights into a network of your own.

    Args:
        name: "org/name", from `hrseg weights push`.
        revision: A branch, tag or commit; None takes the newest.
        options: Of `Predictor`.

    Raises:
        WeightsError: There is no such model, it is not a model of hrseg, or it cannot be reached.
        MissingExtraError: The hub's client is not installed.
    """
    return Predictor(str(repository(f"{name}@{revision}" if revision else name)), **options)


def _is_gray_or_rgba(image: np.ndarray) -> bool:
    form = image.dtype == np.uint8 and image.size > 0
    return form and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 4)))


def _conversion(image: np.ndarray | torch.Tensor, bands: int, types: Sequence[str]) -> str:
    """Return the expression that makes an image of an array, as the end of a sentence; empty if there is none."""
    tensor = isinstance(image, torch.Tensor)
    array = image.detach().cpu().float().numpy() if isinstance(image, torch.Tensor) else image
    text = "image.detach().cpu().numpy()" if tensor else "image"
    if array.ndim == 4 and len(array):
        array, text = array[0], f"{text}[0]"
    if array.ndim == 3 and array.shape[0] == bands != array.shape[2]:
        array, text = array.transpose(1, 2, 0), f"{text}.transpose(1, 2, 0)"
    if array.ndim != 3 or array.shape[2] != bands or not array.size or array.dtype.kind not in "biuf":
        return ""
    low, high = float(array.min()), float(array.max())
    if types == ("uint8",) and (tensor or array.dtype != np.uint8):
        if not (low >= 0 and high <= 65535):  # normalized, or not finite
            return ", before normalization"
        scale = " * 255" if high <= 1 else " / 257" if high > 255 else ""
        text = f'({text}{scale}).round().astype("uint8")' if scale else f'{text}.astype("uint8")'
    elif array.dtype.name not in types:
        text = f'{text}.astype("float32")'
    return f": {text}"


def _check_keep(keep: Iterable[str]) -> tuple[str, ...]:
    keep = tuple(dict.fromkeys(keep))
    for name in keep:
        if name not in MAPS:
            raise ConfigError(unknown_choice("map", name, MAPS))
    return keep


def _train_ids(names: Sequence[str], labels: LabelSet) -> tuple[int, ...]:
    """Return the trainIds of classes in the order of their names; of all where none is named."""
    by_name = {name.lower(): i for i, name in reversed(list(enumerate(labels.names)))}
    for name in names:
        if name.lower() not in by_name:
            raise ConfigError(
                f"'{labels.name}' has no class '{name}'.{did_you_mean(name, labels.names)} Classes: "
                f"{', '.join(labels.names)}."
            )
    return tuple(dict.fromkeys(by_name[name.lower()] for name in names)) or tuple(range(labels.num_classes))


def _digest(network: nn.Module, source: Path | None) -> str:
    """Hash the weights; of an exported file, which holds them itself, the file."""
    state, spec = network.state_dict(), repr(getattr(network, "spec", ""))
    files = [source, source.with_suffix(".bin")] if source is not None and not state else []
    digests = [file_digest(file) for file in dict.fromkeys(files) if file.is_file()]
    return weights_digest(state, "".join([spec, *digests]))


def _numbered(network: nn.Module) -> LabelSet:
    """Return numbered classes for a network that came without labels."""
    count = getattr(network, "num_classes", None)
    if not isinstance(count, int):
        raise ConfigError(
            f"This {type(network).__name__} has no attribute num_classes. Pass labels=, such as "
            'hrseg.labels.load_labels("cityscapes").'
        )
    colors = enumerate(distinct_colors(count))
    return LabelSet("numbered", tuple(Label(i, i, f"class {i}", color) for i, color in colors))


def _check_classes(network: nn.Module, labels: LabelSet) -> None:
    count = getattr(network, "num_classes", labels.num_classes)
    if count != labels.num_classes:
        raise ConfigError(
            f"The network has {count} classes, the labels '{labels.name}' name {labels.num_classes}. "
            "Pass the labels it was trained with."
        )


def _check_bands(
    network: nn.Module,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    bands: Sequence[int] | None,
) -> int:
    """Return the bands of the network's images; raise where mean, std or bands have another number."""
    wanted = int(getattr(network, "spec", {}).get("in_channels", len(mean)))
    named = wanted if bands is None else len(bands)
    if not len(mean) == len(std) == named == wanted:
        raise ConfigError(
            f"The network sees {wanted} bands; mean has {len(mean)} numbers, std {len(std)}"
            + ("" if bands is None else f", and bands names {named}")
            + f". Pass {wanted} of each."
        )
    return wanted

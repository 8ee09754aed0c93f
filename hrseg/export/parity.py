"""Parity of an exported file with its network: verification images, comparison, tolerances and report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hrseg.data.street import scene
from hrseg.errors import DataError, ExportError
from hrseg.imaging import read_image, read_mask, to_tensor
from hrseg.inference.exported import Runner
from hrseg.inference.prepare import LogitsFunction
from hrseg.inference.sources import expand
from hrseg.labels import IGNORE_INDEX, LabelSet
from hrseg.metrics.confusion import ConfusionMatrix

SCENE_SIZES = ((97, 101), (128, 256), (33, 47), (181, 240), (64, 64), (250, 333))
"""Sizes of synthetic images: odd, even, and multiples of 32."""
CROP_SIZES = ((97, 101), (64, 96), (33, 47), (127, 160))
"""Each given image is also compared as one crop, of these sizes in turn."""
TOLERANCE = {"fp32": 0.01, "fp16": 0.5, "bf16": 2.0, "int8": 5.0}
"""Precision → share of pixels, in per cent, that may change class."""
LOGIT_TOLERANCE = 1e-3
"""Largest difference of fp32 logits over their standard deviation."""
PROBABILITY_TOLERANCE = 1e-3
"""Largest difference of fp32 probabilities."""
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
_ADVICE = {
    "fp32": "A newer or older runtime may do better.",
    "fp16": "Use fp32, or allow more with --tolerance PERCENT.",
    "bf16": "Use fp32, or allow more with --tolerance PERCENT.",
    "int8": "Calibrate with more images like those it will meet, use fp16, or allow more with --tolerance PERCENT.",
}


class VerificationImage(NamedTuple):
    """A uint8 RGB image (H, W, 3), and its mask of trainIds (H, W) or None."""

    image: np.ndarray
    mask: np.ndarray | None = None


def choose_verification_images(
    images: str | Path | None,
    masks: str | Path | None,
    labels: LabelSet,
    max_images: int,
    size: tuple[int, int] | None = None,
) -> list[VerificationImage]:
    """Return the images that a file is compared on.

    Args:
        images: Folder, glob or file; None takes synthetic scenes.
        masks: Folder of masks in the dataset's ids, named as their images.
        labels: Classes of the masks.
        max_images: Of more, evenly spaced ones are taken.
        size: The only (height, width) that the file takes: images are cropped or padded to it.

    Raises:
        DataError: No image, or an image without mask.
    """
    if images is None:
        if masks is not None:
            raise DataError(f"Masks were given ({masks}) without images. Add --images FOLDER.")
        sizes = ([size] * 3 if size else SCENE_SIZES)[:max_images]
        return [VerificationImage(scene(i, size)[0]) for i, size in enumerate(sizes)]
    chosen = []
    for number, path in enumerate(evenly(expand([images]), max_images)):
        image = read_image(path)
        mask = None if masks is None else _read_mask(path, Path(masks), labels, image)
        if size is not None:
            chosen.append(_fitted(VerificationImage(image, mask), size))
            continue
        height, width = CROP_SIZES[number % len(CROP_SIZES)]
        crop = np.ascontiguousarray(image[-height:, -width:])
        chosen += [VerificationImage(image, mask), VerificationImage(crop)]
    return chosen


def _fitted(one: VerificationImage, size: tuple[int, int]) -> VerificationImage:
    """Crop at the lower right, where streets are, or pad with the border; padding has no class."""
    height, width = size
    image, mask = (None if a is None else a[-height:, -width:] for a in one)
    assert image is not None
    missing = ((0, height - image.shape[0]), (0, width - image.shape[1]))
    if mask is not None:
        mask = np.pad(mask, missing, constant_values=IGNORE_INDEX)
    return VerificationImage(np.pad(image, (*missing, (0, 0)), mode="edge"), mask)


def read_calibration(
    folder: str | Path, max_images: int, size: tuple[int, int] | None = None
) -> tuple[list[np.ndarray], list[VerificationImage]]:
    """Split a folder into images for int8 ranges, and a held-out fifth for verification; size as above.

    Raises:
        DataError: Fewer than two images.
    """
    paths = expand([folder])
    if len(paths) < 2:
        raise DataError(f"{folder} holds {len(paths)} image; int8 needs a few dozen, similar to those of later use.")
    rest = [path for number, path in enumerate(paths) if number % 5]
    ranges, held_out = (
        [VerificationImage(read_image(path)) for path in evenly(part, count)]
        for part, count in ((rest, 5 * max_images), (paths[::5], max_images))
    )
    if size is not None:
        ranges, held_out = ([_fitted(one, size) for one in part] for part in (ranges, held_out))
    return [one.image for one in ranges], held_out


def evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """Return evenly spaced paths where there are more than count.

    Example:
        >>> evenly([Path(c) for c in "abcdef"], 3)
        [PosixPath('a'), PosixPath('c'), PosixPath('e')]
    """
    count = min(count, len(paths))
    return [paths[number * len(paths) // count] for number in range(count)]


def _read_mask(image: Path, folder: Path, labels: LabelSet, pixels: np.ndarray) -> np.ndarray:
    path = next((p for s in _MASK_SUFFIXES if (p := folder / f"{image.stem}{s}").is_file()), None)
    if path is None:
        raise DataError(f"{folder} holds no mask {image.stem}.png for {image}. Masks are named as their images.")
    mask = labels.encode(read_mask(path), str(path))
    if mask.shape != pixels.shape[:2]:
        raise DataError(f"{path} is {mask.shape}, its image {pixels.shape[:2]} pixels; both must have one size.")
    return mask


@dataclass
class RuntimeParity:
    """Parity of a file under one runtime.

    Attributes:
        pixels: Number compared.
        changed: Pixels of another class than the network's.
        logits: Largest difference of logits.
        spread: Standard deviation of the network's logits.
        miou: mIoU of the network and of the file, where masks with labels were given.
        probabilities: Largest difference of the probabilities of all classes, where the file gives them.
    """

    pixels: int = 0
    changed: int = 0
    logits: float = 0.0
    spread: float = 0.0
    miou: tuple[float, float] | None = None
    probabilities: float | None = None

    @property
    def changed_percent(self) -> float:
        """Share of changed pixels in per cent."""
        return 100 * self.changed / max(1, self.pixels)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values: dict[str, Any] = {
            "pixels": self.pixels,
            "changed_pixels": self.changed,
            "changed_percent": self.changed_percent,
            "max_logit_difference": self.logits,
            "logit_standard_deviation": self.spread,
        }
        if self.miou is not None:
            values |= {"miou_before": 100 * self.miou[0], "miou_after": 100 * self.miou[1]}
        if self.probabilities is not None:
            values["max_probability_difference"] = self.probabilities
        return values


@dataclass(frozen=True)
class ParityReport:
    """Parity of a file under all runtimes; saved as certificate.json.

    Attributes:
        runtimes: Name → parity.
        sizes: (height, width) of every image.
        precision: Of the file.
        tolerance: Per cent of pixels that may change class.
        metadata: Further entries: hashes, versions.
    """

    runtimes: dict[str, RuntimeParity]
    sizes: list[tuple[int, int]]
    precision: str
    tolerance: float
    metadata: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a file that differs too much.

        Raises:
            ExportError: With the runtime, the difference and the next step.
        """
        for name, found in self.runtimes.items():
            near = self.precision != "fp32" or (
                found.logits <= LOGIT_TOLERANCE * found.spread and (found.probabilities or 0.0) <= PROBABILITY_TOLERANCE
            )
            if found.changed_percent <= self.tolerance and near:
                continue
            limit = f"{self.tolerance:g} % of pixels"
            limit += "" if near else f" and {LOGIT_TOLERANCE:g} of the logits' spread"
            also = "" if found.probabilities is None else f", probabilities by {found.probabilities:.3g}"
            raise ExportError(
                f"Under {name} {found.changed_percent:.4f} % of {found.pixels:,} pixels change class, and logits "
                f"differ by up to {found.logits:.3g} (spread {found.spread:.3g}){also}; {self.precision} allows "
                f"{limit}. Nothing was written. {_ADVICE[self.precision]}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **self.metadata,
            "precision": self.precision,
            "tolerance_percent": self.tolerance,
            "sizes": [list(size) for size in self.sizes],
            "runtimes": {name: found.to_dict() for name, found in self.runtimes.items()},
        }

    def __str__(self) -> str:
        lines = []
        for name, found in self.runtimes.items():
            line = f"{name}: {found.changed} of {found.pixels:,} pixels changed ({found.changed_percent:.4f} %)"
            line += f", logits differ by at most {found.logits:.2g} (spread {found.spread:.2g})"
            if found.miou is not None:
                line += f", mIoU {100 * found.miou[0]:.2f} -> {100 * found.miou[1]:.2f} %"
            lines.append(line)
        return "\n".join(lines)


def compare(
    network: LogitsFunction,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    runners: Mapping[str, Sequence[Runner]],
    images: Sequence[VerificationImage],
    labels: LabelSet,
) -> dict[str, RuntimeParity]:
    """Compare the outputs of runtimes with the network's.

    Args:
        network: In fp32.
        statistics: Mean and std of its images.
        runners: Runtime → files whose outputs are merged; later ones override.
        images: To compare on.
        labels: The classes.
    """
    parities = {name: RuntimeParity() for name in runners}
    scores = {name: ConfusionMatrix(labels.num_classes) for name in ["", *runners]}
    squares, total, count = 0.0, 0.0, 0
    for one in images:
        logits = network(to_tensor(one.image, *statistics)[None])[0].double().numpy()  # (K, H, W)
        pred = logits.argmax(axis=0)
        total, squares, count = (
            total + logits.sum(),
            squares + (logits**2).sum(),
            count + logits.size,
        )
        _score(scores[""], pred, one.mask)
        for name, files in runners.items():
            outputs: dict[str, np.ndarray] = {}
            for runner in files:
                given = runner(one.image[None])
                outputs |= given
            # those of the file that is written, where it gives any
            labels_given = next(
                (_labels(given[kind][0]) for kind in _WITH_LABELS if kind in given), outputs["labels"][0]
            )
            parity = parities[name]
            if "probabilities" in outputs:
                difference = float(np.abs(outputs["probabilities"][0] - _softmax(logits)).max())
                parity.probabilities = max(parity.probabilities or 0.0, difference)
            parity.pixels += pred.size
            parity.changed += int((labels_given != pred).sum())
            difference = float(np.abs(outputs["logits"][0] - logits).max())
            parity.logits = max(parity.logits, difference)
            _score(scores[name], labels_given, one.mask)
    spread = float(np.sqrt(max(0.0, squares / count - (total / count) ** 2)))
    scored = any(one.mask is not None for one in images) and bool(scores[""].matrix.any())
    for name, parity in parities.items():
        parity.spread = spread
        if scored:
            parity.miou = (scores[""].compute()["miou"], scores[name].compute()["miou"])
    return parities


_WITH_LABELS = ("labels", "logits", "probabilities")


def _labels(answer: np.ndarray) -> np.ndarray:
    """Return labels (H, W) of themselves, or of logits or probabilities (K, H, W)."""
    return answer if answer.ndim == 2 else answer.argmax(axis=0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(dim=0).numpy()


def _score(scores: ConfusionMatrix, pred: np.ndarray, mask: np.ndarray | None) -> None:
    if mask is not None:
        scores.update(*(torch.from_numpy(one.astype(np.int64))[None] for one in (pred, mask)))

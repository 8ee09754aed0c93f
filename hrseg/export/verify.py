"""The certificate of an exported file: how far its answers are from the network's, and whether that is near enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.data.street import scene
from hrseg.errors import DataError, ExportError
from hrseg.imaging import read_image, read_mask, to_tensor
from hrseg.inference.exported import Runner
from hrseg.inference.prepare import LogitsFunction
from hrseg.inference.sources import expand
from hrseg.labels import LabelSet
from hrseg.metrics.confusion import ConfusionMatrix

DRAWN = ((97, 101), (128, 256), (33, 47), (181, 240), (64, 64), (250, 333))
"""Sizes of drawn streets: odd, even, and those that 32 divides."""
CUTS = ((97, 101), (64, 96), (33, 47), (127, 160))
"""Besides each whole image one cut, these in turn."""
_MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class Look:
    """One image of a certificate.

    Attributes:
        image: uint8 RGB (H, W, 3).
        mask: trainIds (H, W), or None.
    """

    image: np.ndarray
    mask: np.ndarray | None = None


def choose_verification_images(
    images: str | Path | None, masks: str | Path | None, labels: LabelSet, most: int
) -> list[Look]:
    """Return what a file is looked at with.

    Args:
        images: Folder, glob or file; None draws streets.
        masks: Folder of masks in the dataset's ids, named as their images.
        labels: Classes of the masks.
        most: Images at most; of more, evenly spaced ones are taken.

    Raises:
        DataError: No image, or an image without mask.
    """
    if images is None:
        if masks is not None:
            raise DataError(f"Masks were given ({masks}) without images. Add --images FOLDER.")
        return [Look(scene(i, DRAWN[i % len(DRAWN)])[0]) for i in range(min(most, len(DRAWN)))]
    looks = []
    for number, path in enumerate(evenly(expand([images]), most)):
        image = read_image(path)
        mask = None if masks is None else _mask(path, Path(masks), labels, image)
        looks.append(Look(image, mask))
        height, width = CUTS[number % len(CUTS)]
        looks.append(Look(np.ascontiguousarray(image[-height:, -width:])))
    return looks


def read_calibration(folder: str | Path, most: int) -> tuple[list[np.ndarray], list[Look]]:
    """Split a folder into images that int8 ranges are taken from, and a fifth that judges them.

    Raises:
        DataError: Fewer than two images.
    """
    paths = expand([folder])
    if len(paths) < 2:
        raise DataError(
            f"{folder} holds {len(paths)} image; int8 needs a few dozen that look like those the network will meet."
        )
    held_out = paths[::5]
    kept = [path for path in paths if path not in set(held_out)]
    return (
        [read_image(path) for path in evenly(kept, 5 * most)],
        [Look(read_image(path)) for path in evenly(held_out, most)],
    )


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """Take evenly spaced ones where there are too many.

    Example:
        >>> evenly([Path(c) for c in "abcdef"], 3)
        [PosixPath('a'), PosixPath('c'), PosixPath('e')]
    """
    if len(paths) <= most:
        return list(paths)
    return [paths[number * len(paths) // most] for number in range(most)]


def _mask(image: Path, folder: Path, labels: LabelSet, pixels: np.ndarray) -> np.ndarray:
    path = next((p for s in _MASKS if (p := folder / f"{image.stem}{s}").is_file()), None)
    if path is None:
        raise DataError(
            f"{folder} holds no mask {image.stem}.png for {image}. Masks are named as their images."
        )
    mask = labels.encode(read_mask(path), str(path))
    if mask.shape != pixels.shape[:2]:
        raise DataError(
            f"{path} is {mask.shape}, its image {pixels.shape[:2]} pixels; both must have one size."
        )
    return mask


TOLERANCE = {"fp32": 0.01, "fp16": 0.5, "bf16": 2.0, "int8": 5.0}
"""Precision → share of pixels, in per cent, that may change class."""
LOGITS = 1e-3
"""In fp32 logits may differ by this fraction of their spread."""


@dataclass
class Agreement:
    """What one runtime answered.

    Attributes:
        pixels: Compared.
        changed: Of another class than the network says.
        logits: Largest difference of logits.
        spread: Standard deviation of the network's logits.
        miou: mIoU of the network and of the file, where masks were given.
    """

    pixels: int = 0
    changed: int = 0
    logits: float = 0.0
    spread: float = 0.0
    miou: tuple[float, float] | None = None

    @property
    def changed_percent(self) -> float:
        """Share of changed pixels in per cent."""
        return 100 * self.changed / max(1, self.pixels)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        values: dict[str, Any] = {
            "pixels": self.pixels,
            "changed_pixels": self.changed,
            "changed_percent": self.changed_percent,
            "max_logit_difference": self.logits,
            "logit_standard_deviation": self.spread,
        }
        if self.miou is not None:
            values |= {"miou_before": 100 * self.miou[0], "miou_after": 100 * self.miou[1]}
        return values


@dataclass(frozen=True)
class Certificate:
    """How a file answered on some images.

    Attributes:
        agreements: Runtime → how it agreed.
        sizes: (height, width) of every image.
        precision: Of the file.
        tolerance: Per cent of pixels that may change.
        told: More that belongs beside it: hashes, versions.
    """

    agreements: dict[str, Agreement]
    sizes: list[tuple[int, int]]
    precision: str
    tolerance: float
    told: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a file that is too far from its network.

        Raises:
            ExportError: With the runtime, the difference and what may be done.
        """
        for name, found in self.agreements.items():
            near = self.precision != "fp32" or found.logits <= LOGITS * found.spread
            if found.changed_percent <= self.tolerance and near:
                continue
            limit = f"{self.tolerance:g} % of pixels"
            limit += "" if near else f" and {LOGITS:g} of the logits' spread"
            raise ExportError(
                f"Under {name} {found.changed_percent:.4f} % of {found.pixels:,} pixels change class, and logits "
                f"differ by up to {found.logits:.3g} (spread {found.spread:.3g}); {self.precision} allows {limit}. "
                f"Nothing was written. {_ADVICE[self.precision]}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            **self.told,
            "precision": self.precision,
            "tolerance_percent": self.tolerance,
            "sizes": [list(size) for size in self.sizes],
            "runtimes": {name: found.to_dict() for name, found in self.agreements.items()},
        }

    def text(self) -> str:
        """Say it in a line for each runtime."""
        lines = []
        for name, found in self.agreements.items():
            line = f"{name}: {found.changed} of {found.pixels:,} pixels changed ({found.changed_percent:.4f} %)"
            line += f", logits differ by at most {found.logits:.2g} (spread {found.spread:.2g})"
            if found.miou is not None:
                line += f", mIoU {100 * found.miou[0]:.2f} -> {100 * found.miou[1]:.2f} %"
            lines.append(line)
        return "\n".join(lines)


_ADVICE = {
    "fp32": "A newer or older runtime may do better.",
    "fp16": "Use fp32, or allow more with --tolerance PERCENT.",
    "bf16": "Use fp32, or allow more with --tolerance PERCENT.",
    "int8": "Calibrate with more images like those it will meet, use fp16, or allow more with --tolerance PERCENT.",
}


def certify(
    network: LogitsFunction,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    runners: Mapping[str, Sequence[Runner]],
    looks: Sequence[Look],
    labels: LabelSet,
) -> dict[str, Agreement]:
    """Compare what runtimes answer with the network.

    Args:
        network: Ours, in fp32.
        statistics: Mean and std of its images.
        runners: Runtime → opened files whose answers complete one another; a later one counts more.
        looks: The images.
        labels: The classes.
    """
    agreements = {name: Agreement() for name in runners}
    scores = {name: ConfusionMatrix(labels.num_classes) for name in ["", *runners]}
    squares, total, values = 0.0, 0.0, 0
    for look in looks:
        ours = network(to_tensor(look.image, *statistics)[None])[0].double().numpy()  # (K, H, W)
        mask = ours.argmax(axis=0)
        total, squares, values = total + ours.sum(), squares + (ours**2).sum(), values + ours.size
        _count(scores[""], mask, look)
        for name, opened in runners.items():
            answers: dict[str, np.ndarray] = {}
            for runner in opened:
                answers |= runner(look.image[None])
            given = answers["labels"][0]
            found = agreements[name]
            found.pixels += mask.size
            found.changed += int((given != mask).sum())
            found.logits = max(found.logits, float(np.abs(answers["logits"][0] - ours).max()))
            _count(scores[name], given, look)
    spread = float(np.sqrt(max(0.0, squares / values - (total / values) ** 2)))
    masked = any(look.mask is not None for look in looks)
    for name, found in agreements.items():
        found.spread = spread
        if masked:
            found.miou = (scores[""].compute()["miou"], scores[name].compute()["miou"])
    return agreements


def _count(scores: ConfusionMatrix, mask: np.ndarray, look: Look) -> None:
    if look.mask is not None:
        pred = torch.from_numpy(mask.astype(np.int64))[None]
        scores.update(pred, torch.from_numpy(look.mask.astype(np.int64))[None])

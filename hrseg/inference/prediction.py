"""Predictions of one image, in memory and as files, and their reduction from logits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.errors import ConfigError, HrsegError, MissingExtraError, path_text, percent, printable
from hrseg.imaging import Georeference
from hrseg.labels import IGNORE_INDEX, LabelSet
from hrseg.ops.upsample import STEP, CoarseLogits, LabelStrip, reduce_slices
from hrseg.viz import overlay

LAZY_MAPS = ("confidence", "entropy", "margin")
"""Maps that follow from the logits at stride 4 when they are read."""
MAPS = (*LAZY_MAPS, "probabilities")
"""Maps that `Predictor(keep=...)` gives beside the mask."""


@dataclass(frozen=True)
class Prediction:
    """Segmentation of one image. Pixels without data are 255 in the mask and NaN in all other maps.

    Attributes:
        mask: trainIds, uint8 (H, W).
        labels: The classes.
        image: The segmented image, uint8 RGB (H, W, 3); of other bands the first three, stretched.
        name: Stem of the image's file, or "image".
        maps: Those of MAPS that are computed already.
        logits: At stride 4, for the other maps of an image that was run whole; None where only labels were asked for.
        probability_ids: trainIds of the classes of `probabilities`, in their order.
        origin: Path or address of the image.
        valid: Which pixels of the image have data, bool (H, W); None where all do.
        georeference: Of the image, if it has one.
        notes: Remarks on the image file, in sentences.
        mean_confidence: Mean probability of the chosen classes, over every eighth row and column.
    """

    mask: np.ndarray
    labels: LabelSet
    image: np.ndarray
    name: str = "image"
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    logits: CoarseLogits | None = None
    probability_ids: tuple[int, ...] = ()
    origin: str = ""
    valid: np.ndarray | None = None
    georeference: Georeference | None = None
    notes: tuple[str, ...] = ()
    mean_confidence: float = math.nan

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def confidence(self) -> np.ndarray | None:
        """Probability of the chosen class, float32 (H, W); None where only labels were asked for."""
        return self._map("confidence")

    @property
    def entropy(self) -> np.ndarray | None:
        """Entropy of the probabilities of all classes, relative to its maximum, 0 … 1, float32 (H, W), or None."""
        return self._map("entropy")

    @property
    def margin(self) -> np.ndarray | None:
        """Largest probability less the second, float32 (H, W), or None."""
        return self._map("margin")

    @property
    def probabilities(self) -> np.ndarray | None:
        """Probabilities of the chosen classes, float16 (k, H, W); None where none were asked for."""
        return self.maps.get("probabilities")

    def _map(self, name: str) -> np.ndarray | None:
        if name not in self.maps and self.logits is not None:
            values = _scaled(name, self.logits.map(name), self.logits.values.shape[1]).numpy()
            if self.valid is not None:
                values[~self.valid] = np.nan
            self.maps[name] = values
        return self.maps.get(name)

    def require_map(self, name: str) -> np.ndarray:
        """Return one of MAPS.

        Raises:
            ConfigError: It was not kept.
        """
        values: np.ndarray | None = getattr(self, name)
        if values is None:
            raise ConfigError(f"The {name} of '{self.name}' was not kept. Open the predictor with keep=('{name}',).")
        return values

    def ids(self) -> np.ndarray:
        """Return the mask in the dataset's own ids; pixels without data are `labels.nodata_id`. Shape: (H, W)."""
        ids = self.labels.decode(self.mask)
        if self.valid is not None:
            nodata = self.labels.nodata_id
            ids = ids.astype(np.uint16 if nodata > IGNORE_INDEX else ids.dtype)
            ids[~self.valid] = nodata
        return ids

    def counts(self) -> np.ndarray:
        """Return how many pixels with data each trainId has, 255 as well. Shape: (256,)."""
        return np.bincount((self.mask if self.valid is None else self.mask[self.valid]).ravel(), minlength=256)

    def shares(self) -> dict[str, float]:
        """Return class name → share of the pixels with data, largest first, absent classes left out."""
        return class_shares(self.counts(), self.labels)

    def overlay(self, alpha: float = 0.55, legend: bool = True) -> np.ndarray:
        """Return the image under its classes, with a legend. Shape: uint8 (H', W', 3)."""
        return overlay(self.image, self.mask, self.labels, alpha=alpha, legend=legend)

    def __repr__(self) -> str:
        height, width = self.size
        shares = ", ".join(f"{name} {percent(share)}" for name, share in islice(self.shares().items(), 3))
        return f"Prediction('{self.name}', {width} x {height} pixels: {shares or 'no data'})"

    def _repr_html_(self) -> str:
        """Return the overlay and the shares of the classes, for a notebook."""
        from hrseg.viz.pages import jpeg, render  # Jinja2, for notebooks and pages only

        picture = jpeg(self.overlay(legend=False))
        return render("prediction.html", prediction=self, picture=picture, rows=self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        """Return name, numbers, color, pixels and share of each class that occurs, largest first."""
        counts = self.counts()
        total = max(1, int(counts.sum()))
        rows = [
            {
                "name": self.labels.names[number],
                "train_id": number,
                "color": tuple(int(part) for part in self.labels.palette[number]),
                "pixels": int(counts[number]),
                "share": int(counts[number]) / total,
            }
            for number in range(self.labels.num_classes)
            if counts[number]
        ]
        return sorted(rows, key=lambda row: -row["pixels"])

    def plot(self, axes: Any = None, alpha: float = 0.55) -> Any:
        """Draw the image under its classes with matplotlib, and return the axes.

        Args:
            axes: Of a figure of yours; None makes a figure.
            alpha: Opacity of the classes, 0 … 1.
        """
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.figure(layout="constrained").add_subplot()
        from matplotlib.patches import Patch

        axes.imshow(self.overlay(alpha, legend=False))
        axes.set(title=self.name, xticks=[], yticks=[])
        handles = [
            Patch(
                color=tuple(part / 255 for part in row["color"]),
                label=f"{row['name']} {percent(row['share'])}",
            )
            for row in self._rows()[:12]
        ]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return axes

    def to_pandas(self) -> Any:
        """Return a row for each class that occurs, largest first: name, train_id, pixels, share.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError("A table needs pandas. Install it: pip install pandas") from error
        return pandas.DataFrame(self._rows(), columns=["name", "train_id", "pixels", "share"])

    def save(
        self,
        folder: str | Path,
        stem: str | None = None,
        kinds: Sequence[str] = ("mask", "overlay"),
    ) -> tuple[Path, ...]:
        """Write STEM_mask.png (palette PNG of dataset ids), STEM_overlay.png or others, each atomically.

        Args:
            folder: Created if missing.
            stem: None takes the image's.
            kinds: Rows of `outputs.OUTPUTS`; the paths are returned in their order.

        Raises:
            ConfigError: An unknown kind, or one that needs a map that was not kept.
            DataError: A file cannot be written.
        """
        from hrseg.inference.outputs import write_all  # which writes what this file defines

        return tuple(write_all(self, folder, stem or self.name, kinds).values())


@dataclass(frozen=True)
class FileResult:
    """Files and statistics of one picture.

    Attributes:
        image: The file, or the origin of a picture without one: an address, "clip.mp4#12.04s".
        files: Kind of result → file; empty if the picture failed.
        size: (height, width) of the picture; None if it failed.
        classes: Class name → share of the pixels, largest first.
        confidence: Mean probability of the chosen classes, over every eighth row and column; None if the picture
            failed.
        seconds: Reading, its part of the network's time, and writing. Pictures overlap, so that all take less; of a
            large image, from opening it to the last file on disk.
        error: Why it failed, else None.
        name: Stem of its results.
        time: Seconds from the beginning of its clip.
        notes: Remarks on the file, in sentences.
        resumed: Rows of a large image that an earlier run had finished.
    """

    image: Path | str
    files: dict[str, Path] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    classes: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    seconds: float = 0.0
    error: HrsegError | None = None
    name: str = ""
    time: float | None = None
    notes: tuple[str, ...] = ()
    resumed: int = 0

    @property
    def mask(self) -> Path | None:
        """Dataset ids, as palette PNG or GeoTIFF; None if the picture failed or no mask was asked for."""
        return self.files.get("mask")

    @property
    def overlay(self) -> Path | None:
        """The picture with its legend; None if it failed or no overlay was asked for."""
        return self.files.get("overlay")

    def __str__(self) -> str:
        """One line: the picture, its four largest classes, and the overlay (or the last file).

        Example:
            >>> print(FileResult(Path("a.png"), {"overlay": Path("b.png")}, classes={"road": 0.5}))
            a.png: road 50.0 %  -> b.png
        """
        if self.error is not None:
            return printable(f"{self.image}: {self.error}")
        shown = [f"{name} {percent(share)}" for name, share in self.classes.items()]
        rest = f", {len(shown) - 4} more" if len(shown) > 4 else ""
        last = self.overlay or next(reversed(self.files.values()), None)
        where = f"  -> {last}" if last else ""
        return printable(f"{self.image}: {', '.join(shown[:4])}{rest}{where}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        files = {kind: path_text(path) for kind, path in self.files.items()}
        return {
            "image": path_text(self.image),
            "name": self.name,
            "time": self.time if self.time is None else round(self.time, 6),
            "mask": files.get("mask"),
            "overlay": files.get("overlay"),
            "files": files,
            "height": self.size and self.size[0],
            "width": self.size and self.size[1],
            "classes": {name: round(share, 6) for name, share in self.classes.items()},
            "confidence": self.confidence and round(self.confidence, 6),
            "seconds": round(self.seconds, 4),
            "notes": [path_text(note) for note in self.notes],
            "error": self.error and path_text(str(self.error)),
        }


class Reduction:
    """Maps of some images of one size, filled block by block, and the mean confidence of each.

    Args:
        count: Images, N.
        size: (height, width).
        keep: Maps beside the mask: "confidence", "probabilities", "entropy", "margin".
        probability_ids: trainIds of the classes whose probabilities are stored.

    Example:
        >>> maps = Reduction(1, (1, 2), keep=("margin",))
        >>> maps.add(0, 0, torch.tensor([[[[0.0, 9.0]], [[0.0, 0.0]]]]))
        >>> maps.of(0)["mask"].tolist(), maps.of(0)["maps"]["margin"].round(2).tolist()
        ([[0, 0]], [[0.0, 1.0]])
        >>> maps.of(0)["mean_confidence"]
        0.5
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        keep: tuple[str, ...] = (),
        probability_ids: tuple[int, ...] = (),
    ) -> None:
        self.probability_ids = list(probability_ids)
        self.maps: dict[str, np.ndarray] = {"mask": np.empty((count, *size), np.uint8)}
        for name in keep:
            if name == "probabilities":
                self.maps[name] = np.empty((count, len(probability_ids), *size), np.float16)
            else:
                self.maps[name] = np.empty((count, *size), np.float32)
        self.scores = tuple(name for name in keep if name != "probabilities")
        height, width = size
        sampled = (count, -(-height // STEP), -(-width // STEP))
        self.samples = np.full(sampled, np.nan, np.float32)  # confidence of every STEP-th pixel
        self.coarse: CoarseLogits | None = None  # of all images, for maps that are not kept

    def add(self, top: int, left: int, logits: torch.Tensor) -> None:
        """Reduce one block. Shape: logits (N, K, rows, columns)."""
        want = (*self.scores, "samples")
        for strip, rows in reduce_slices(top, left, logits, want):
            self.put(strip, left, logits.shape[1])
            if "probabilities" in self.maps:
                total = torch.logsumexp(rows, dim=1, keepdim=True)  # (N, 1, rows, W)
                probabilities = torch.exp(rows[:, self.probability_ids] - total).half()
                _put(self.maps["probabilities"], strip.top, left, probabilities)

    def put(self, strip: LabelStrip, left: int = 0, classes: int = 2) -> None:
        """Store a strip that is already reduced.

        Args:
            strip: With "samples" and the scores that are stored.
            left: Its first column.
            classes: K, whose logarithm is the largest entropy.
        """
        _put(self.maps["mask"], strip.top, left, strip.labels)
        for name in self.scores:
            _put(self.maps[name], strip.top, left, _scaled(name, getattr(strip, name), classes))
        if strip.samples is not None:
            _put(self.samples, -(-strip.top // STEP), -(-left // STEP), strip.samples)

    def of(self, index: int, valid: np.ndarray | None = None) -> dict[str, Any]:
        """Return what a `Prediction` has of one image; copies, so that other images can be freed.

        Args:
            index: Of the image.
            valid: Pixels with data, bool (H, W); the others become 255 in the mask and NaN elsewhere.
        """
        alone = len(self.maps["mask"]) == 1
        maps = {name: m[index] if alone else m[index].copy() for name, m in self.maps.items()}
        samples = self.samples[index]  # (H / STEP, W / STEP), rounded up
        if valid is not None:
            samples = samples[valid[::STEP, ::STEP]]
            for name, values in maps.items():
                values[..., ~valid] = IGNORE_INDEX if name == "mask" else np.nan
        samples = samples[~np.isnan(samples)]
        mean = float(samples.mean(dtype=np.float64)) if samples.size else math.nan
        coarse = self.coarse
        if coarse is not None:
            own = coarse.values[index : index + 1]
            coarse = replace(coarse, values=(own if alone else own.clone()).cpu())
        return {"mask": maps.pop("mask"), "maps": maps, "logits": coarse, "mean_confidence": mean}


def _scaled(name: str, values: torch.Tensor, classes: int) -> torch.Tensor:
    """Return entropies relative to their maximum, so that 0 is certain and 1 undecided; other maps as they are."""
    return values.div_(math.log(max(2, classes))).clamp_(0, 1) if name == "entropy" else values


def _put(target: np.ndarray, top: int, left: int, values: torch.Tensor) -> None:
    rows, columns = (slice(a, a + n) for a, n in zip((top, left), values.shape[-2:], strict=True))
    target[..., rows, columns] = values.cpu().numpy()


def class_shares(counts: np.ndarray, labels: LabelSet) -> dict[str, float]:
    """Return class name → share of the counted pixels, largest first, absent classes left out."""
    total = max(1, int(counts.sum()))
    order = np.argsort(-counts[: labels.num_classes], kind="stable")
    return {labels.names[i]: float(counts[i] / total) for i in order if counts[i]}

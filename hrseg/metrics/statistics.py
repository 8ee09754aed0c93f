"""Per-image statistics of an evaluation, from which every score follows without inference.

Integer counts of boundaries, contours and bands, bins of confidence, and the logits of a few pixels of each image,
stored in one .npz file together with the confusion matrices. `measure` counts one image, `Statistics` holds all.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from json import loads
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.errors import ConfigError, DataError
from hrseg.labels import IGNORE_INDEX
from hrseg.metrics.boundary import (
    BANDS,
    DISTANCES,
    RATIO,
    band_counts,
    boundary_counts,
    boundary_width,
    check_distances,
    contour_counts,
    label_maps,
)
from hrseg.metrics.calibration import BINS, COARSER, bin_counts
from hrseg.metrics.confusion import NOT_SCORED, confusion_counts
from hrseg.metrics.records import ImageRecords, read_records

MAX_PIXELS = 200_000
"""Upper bound of the pixels of a whole set whose logits are stored."""
MAX_VALUES = 8_000_000
"""Upper bound of the stored logits."""
COUNTS = ("boundary", "contours", "bands", "bins", "confidence", "nll")
_SAMPLES = ("logits", "truth", "image")


@dataclass(frozen=True)
class EvaluationSettings:
    """Widths, distances and bins of an evaluation.

    Attributes:
        ratio: Width of Boundary IoU as a part of the image's diagonal.
        distances: Pixels, for contours; Boundary IoU is counted at these widths too.
        bands: Pixels, for the trimap curve.
        bins: Of confidence, as shown.

    Raises:
        ConfigError: A value that cannot be measured.
    """

    ratio: float = RATIO
    distances: tuple[int, ...] = DISTANCES
    bands: tuple[int, ...] = BANDS
    bins: int = BINS

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 0.5:
            raise ConfigError(
                f"A boundary of {self.ratio:g} of the diagonal cannot be measured. Published is 0.02; give more than "
                "0 and at most 0.5."
            )
        check_distances("Distances", self.distances)
        check_distances("Bands", self.bands)
        if self.bins not in COARSER:
            listed = ", ".join(map(str, COARSER))
            raise ConfigError(f"{self.bins} bins cannot be formed. Choose of {listed}.")


def pixels_per_image(images: int, classes: int) -> int:
    """Return how many pixels of each image have their logits stored."""
    return max(1, min(MAX_PIXELS, MAX_VALUES // classes) // max(1, images))


def measure(
    logits: torch.Tensor,
    mask: torch.Tensor,
    name: str,
    settings: EvaluationSettings,
    pixels: int,
) -> dict[str, np.ndarray]:
    """Count one image.

    Args:
        logits: At the size of the mask.
        mask: trainIds.
        name: Seeds the choice of the pixels whose logits are stored.
        settings: Widths, distances and bins.
        pixels: How many of them.

    Returns:
        Name of a count → its array; see `Statistics.counts`.

    Shape:
        logits (K, H, W), mask (H, W)
    """
    classes = len(logits)
    best, winner = logits.float().max(dim=0)  # (H, W) each
    normal = torch.logsumexp(logits.float(), dim=0)  # (H, W)
    valid = mask != IGNORE_INDEX
    chosen, true = winner[valid], mask[valid]  # (M,)
    confidence = torch.exp(best - normal)[valid].cpu().numpy()  # (M,)
    own = logits.float().permute(1, 2, 0)[valid].gather(1, true[:, None])[:, 0]  # (M,)
    pred, truth = chosen.cpu().numpy(), true.cpu().numpy()
    maps = label_maps(mask.cpu().numpy(), winner.cpu().numpy())  # (H, W) each
    width = boundary_width(mask.shape[0], mask.shape[1], settings.ratio)
    generator = np.random.default_rng(zlib.crc32(os.fsencode(name)))
    picked = np.sort(generator.choice(len(truth), min(pixels, len(truth)), replace=False))
    columns = valid.flatten().nonzero()[torch.from_numpy(picked).to(valid.device), 0]  # (pixels,)
    sample = logits.flatten(1)[:, columns].T.float()  # (pixels, K)
    sample = sample - sample.max(dim=1, keepdim=True).values  # float16 is finest near 0
    return {
        "matrices": confusion_counts(true, chosen, classes).cpu().numpy(),
        "boundary": boundary_counts(*maps, classes, [width, *settings.distances]),
        "contours": contour_counts(*maps, classes, settings.distances),
        "bands": band_counts(*maps, classes, settings.bands),
        "bins": bin_counts(confidence, pred == truth),
        "confidence": np.bincount(pred, confidence.astype(np.float64), classes),
        "nll": np.array(float((normal[valid] - own).double().sum())),
        "logits": sample.cpu().numpy().astype(np.float16),
        "truth": truth[picked].astype(np.uint8),
    }


@dataclass(frozen=True)
class Statistics:
    """Counts of the images of one split.

    Attributes:
        records: Confusion matrix of each image.
        settings: Widths, distances and bins of the counts.
        counts: Name → one row per image: "boundary" (N, 1 + D, 3, K), "contours" (N, 2, 1 + D, K) and "bands"
            (N, R, 3, K) as in `boundary`, "bins" (N, FINE, 3) as in `calibration`, "confidence" (N, K), summed by
            predicted class, and "nll" (N,), summed over pixels.
        samples: "logits" float16 (M, K) whose largest is 0, their "truth" (M,), and the number of their "image" (M,).
        colors: Of the classes, uint8 (K, 3).
        protocol: Description of the evaluation protocol.
        metadata: Further metadata for the report, such as the split.
    """

    records: ImageRecords
    settings: EvaluationSettings
    counts: Mapping[str, np.ndarray]
    samples: Mapping[str, np.ndarray]
    colors: np.ndarray
    protocol: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def take(self, names: Sequence[str]) -> "Statistics":
        """Return the statistics of some images, in the given order."""
        place = {name: index for index, name in enumerate(self.records.names)}
        chosen = [place[name] for name in names]
        rows = [np.flatnonzero(self.samples["image"] == index) for index in chosen]
        picked = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        samples = {name: values[picked] for name, values in self.samples.items()}
        samples["image"] = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        counts = {name: values[chosen] for name, values in self.counts.items()}
        return replace(self, records=self.records.take(names), counts=counts, samples=samples)

    def save(self, path: str | Path) -> None:
        """Write everything as one .npz file, which `read_records` and `hrseg compare` open too.

        Raises:
            DataError: The file cannot be written.
        """
        about = {
            "rulers": asdict(self.settings),
            "looked": self.protocol,
            "facts": dict(self.metadata),
        }
        arrays = {f"count_{name}": values for name, values in self.counts.items()}
        arrays |= {f"sample_{name}": values for name, values in self.samples.items()}
        self.records.save(path, {"evidence": about}, colors=self.colors, **arrays)


def collect(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    classes: Sequence[str],
    colors: np.ndarray,
    settings: EvaluationSettings,
    model: str = "",
    protocol: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Statistics:
    """Stack the counts of all images, in the order of their names.

    Raises:
        DataError: There is no image with a label.
    """
    names = sorted(rows)
    if not names:
        raise DataError(NOT_SCORED)
    matrices = np.stack([rows[name]["matrices"] for name in names]).astype(np.int64)
    records = ImageRecords(tuple(names), tuple(classes), matrices, model)
    counts = {kind: np.stack([rows[name][kind] for name in names]) for kind in COUNTS}
    for kind in ("boundary", "contours", "bands"):
        counts[kind] = counts[kind].astype(np.int32)
    samples = {kind: np.concatenate([rows[name][kind] for name in names]) for kind in ("logits", "truth")}
    lengths = [len(rows[name]["truth"]) for name in names]
    samples["image"] = np.repeat(np.arange(len(names)), lengths)
    return Statistics(records, settings, counts, samples, colors, protocol, dict(metadata or {}))


def read_statistics(path: str | Path) -> Statistics:
    """Read what `Statistics.save` wrote.

    Raises:
        DataError: The file is missing, damaged, or holds confusion matrices only.
    """
    records = read_records(path)
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about: dict[str, Any] = loads(str(file["about"]))["evidence"]
            settings: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in about["rulers"].items()
            }
            return Statistics(
                records,
                EvaluationSettings(**settings),
                {name: file[f"count_{name}"] for name in COUNTS},
                {name: file[f"sample_{name}"] for name in _SAMPLES},
                file["colors"],
                str(about["looked"]),
                dict(about["facts"]),
            )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{path} is a ledger without the counts of boundaries and confidence. Make one with: hrseg evaluate MODEL "
            "--out FOLDER"
        ) from error

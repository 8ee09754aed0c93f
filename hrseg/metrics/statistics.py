"""All that an evaluation counts of each image, so that its figures come again without inference.

Integers of boundaries, contours and bands, bins of confidence, and the logits of a few pixels of each image. It is
kept in one .npz file together with the ledger, and that file is a ledger too.

`measure` looks at one image; `Evidence` holds all of them; what follows from the sums is in `figures.py`'s neighbors
`boundary`, `trimap` and `calibration`.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.errors import ConfigError, DataError
from hrseg.imaging import write_atomic
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
from hrseg.metrics.records import Ledger, read_ledger

MOST_PIXELS = 200_000
MOST_VALUES = 8_000_000
"""Logits that are kept of a whole set: so many pixels, and so many numbers."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured with.

    Attributes:
        ratio: Width of Boundary IoU as a part of the image's diagonal.
        distances: Pixels, for contours; Boundary IoU is counted at these widths too.
        bands: Pixels, for the trimap curve.
        bins: Of confidence, as shown.

    Raises:
        ConfigError: On making: something that cannot be measured.
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


def quota(images: int, classes: int) -> int:
    """Return how many pixels of each image keep their logits."""
    return max(1, min(MOST_PIXELS, MOST_VALUES // classes) // max(1, images))


def measure(
    logits: torch.Tensor,
    mask: torch.Tensor,
    name: str,
    rulers: EvaluationSettings,
    pixels: int,
) -> dict[str, np.ndarray]:
    """Count one image.

    Args:
        logits: Of the image, at the size of the mask.
        mask: trainIds.
        name: Of the image; it decides which pixels keep their logits.
        rulers: What is measured with.
        pixels: How many of them.

    Returns:
        Name of a count → its array; see `Evidence.counts`.

    Shape:
        logits (K, H, W), mask (H, W)
    """
    classes = len(logits)
    best, winner = logits.float().max(dim=0)
    normal = torch.logsumexp(logits.float(), dim=0)
    valid = mask != IGNORE_INDEX
    chosen, true = winner[valid], mask[valid]
    confidence = torch.exp(best - normal)[valid].cpu().numpy()
    own = logits.float().permute(1, 2, 0)[valid].gather(1, true[:, None])[:, 0]
    cells = torch.bincount(true * classes + chosen, minlength=classes**2).cpu().numpy()
    found, truth = chosen.cpu().numpy(), true.cpu().numpy()
    maps = label_maps(mask.cpu().numpy(), winner.cpu().numpy())
    width = boundary_width(mask.shape[0], mask.shape[1], rulers.ratio)
    draw = np.random.default_rng(zlib.crc32(os.fsencode(name)))
    picked = np.sort(draw.choice(len(truth), min(pixels, len(truth)), replace=False))
    columns = valid.flatten().nonzero()[torch.from_numpy(picked).to(valid.device), 0]
    sample = logits.flatten(1)[:, columns].T.float()  # (M, K)
    sample = sample - sample.max(dim=1, keepdim=True).values
    return {
        "matrices": cells.reshape(classes, classes),
        "boundary": boundary_counts(*maps, classes, [width, *rulers.distances]),
        "contours": contour_counts(*maps, classes, rulers.distances),
        "bands": band_counts(*maps, classes, rulers.bands),
        "bins": bin_counts(confidence, found == truth),
        "confidence": np.bincount(found, confidence.astype(np.float64), classes),
        "nll": np.array(float((normal[valid] - own).double().sum())),
        "logits": sample.cpu().numpy().astype(np.float16),
        "truth": truth[picked].astype(np.uint8),
    }


COUNTS = ("boundary", "contours", "bands", "bins", "confidence", "nll")
_SAMPLES = ("logits", "truth", "image")


@dataclass(frozen=True)
class Evidence:
    """What was counted of the images of one split.

    Attributes:
        ledger: The confusion matrix of each image.
        rulers: What was measured with.
        counts: Name → one row per image: "boundary" (N, 1 + D, 3, K) and "contours" (N, 2, 1 + D, K) as in
            `boundary`, "bands" (N, R, 3, K) as in `trimap`, "bins" (N, FINE, 3) as in `calibration`, "confidence"
            (N, K), summed by chosen class, and "nll" (N,), summed over pixels.
        samples: "logits" float16 (M, K) whose largest is 0, their "truth" (M,), and the number of their "image" (M,).
        colors: Of the classes, uint8 (K, 3).
        looked: How the images were looked at, in words.
    """

    ledger: Ledger
    rulers: EvaluationSettings
    counts: Mapping[str, np.ndarray]
    samples: Mapping[str, np.ndarray]
    colors: np.ndarray
    looked: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def take(self, names: Sequence[str]) -> "Evidence":
        """Return the evidence of some images, in the given order."""
        place = {name: index for index, name in enumerate(self.ledger.names)}
        chosen = [place[name] for name in names]
        rows = [np.flatnonzero(self.samples["image"] == index) for index in chosen]
        whole = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        samples = {name: values[whole] for name, values in self.samples.items()}
        samples["image"] = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        counts = {name: values[chosen] for name, values in self.counts.items()}
        ledger = self.ledger.take(names)
        return Evidence(
            ledger, self.rulers, counts, samples, self.colors, self.looked, dict(self.facts)
        )

    def save(self, path: str | Path) -> None:
        """Write everything as one .npz file, which `read_ledger` and `hrseg compare` open too.

        Raises:
            DataError: The file cannot be written.
        """
        ledger = self.ledger
        about = {
            "version": 1,
            "classes": ledger.classes,
            "model": ledger.model,
            "evidence": {
                "rulers": asdict(self.rulers),
                "looked": self.looked,
                "facts": dict(self.facts),
            },
        }
        arrays: dict[str, Any] = {f"count_{name}": values for name, values in self.counts.items()}
        arrays |= {f"sample_{name}": values for name, values in self.samples.items()}
        with write_atomic(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                about=np.array(json.dumps(about)),
                names=np.array(ledger.names),
                matrices=ledger.matrices,
                colors=self.colors,
                **arrays,
            )


def gathered(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    classes: Sequence[str],
    colors: np.ndarray,
    rulers: EvaluationSettings,
    model: str = "",
    looked: str = "",
    facts: Mapping[str, str] | None = None,
) -> Evidence:
    """Put the counts of all images together, in the order of their names.

    Raises:
        DataError: There is no image.
    """
    names = sorted(rows)
    if not names:
        raise DataError(
            "No image has a mask, so nothing can be evaluated. Choose a split with masks, such as --split val."
        )
    ledger = Ledger(
        tuple(names),
        tuple(classes),
        np.stack([rows[name]["matrices"] for name in names]).astype(np.int64),
        model,
    )
    counts = {kind: np.stack([rows[name][kind] for name in names]) for kind in COUNTS}
    for kind in ("boundary", "contours", "bands"):
        counts[kind] = counts[kind].astype(np.int32)
    samples = {
        kind: np.concatenate([rows[name][kind] for name in names]) for kind in ("logits", "truth")
    }
    lengths = [len(rows[name]["truth"]) for name in names]
    samples["image"] = np.repeat(np.arange(len(names)), lengths)
    return Evidence(ledger, rulers, counts, samples, colors, looked, dict(facts or {}))


def read_evidence(path: str | Path) -> Evidence:
    """Read what `Evidence.save` wrote.

    Raises:
        DataError: The file is missing, damaged, or a ledger without evidence.
    """
    ledger = read_ledger(path)
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about: dict[str, Any] = json.loads(str(file["about"]))["evidence"]
            rulers: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in about["rulers"].items()
            }
            return Evidence(
                ledger,
                EvaluationSettings(**rulers),
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

"""Per-image confusion matrices of an evaluation, stored so that every score follows without inference.

Summed they are the matrix of the whole set; resampled they give confidence intervals; sorted, the worst images.
"""

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hrseg.errors import DataError, parse_json
from hrseg.imaging import write_atomic
from hrseg.metrics.confusion import Scores, scores


@dataclass(frozen=True)
class ImageRecords:
    """Confusion matrices of the images of one split.

    Attributes:
        names: Image names, in order.
        classes: Class names by trainId.
        matrices: int64 (N, K, K): rows the true class, columns the predicted.
        model: Name of the evaluated model.

    Example:
        >>> matrices = np.array([[[3, 1], [0, 4]], [[2, 0], [0, 0]]])
        >>> round(ImageRecords(("a", "b"), ("road", "sky"), matrices).scores()["miou"], 4)
        0.8167
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    matrices: np.ndarray
    model: str = ""

    def __post_init__(self) -> None:
        wanted = (len(self.names), len(self.classes), len(self.classes))
        if self.matrices.shape != wanted:
            raise DataError(
                f"A ledger of {wanted[0]} images and {wanted[1]} classes has matrices of {wanted}; these are "
                f"{self.matrices.shape}."
            )

    def scores(self) -> Scores:
        """Return the scores of all images together."""
        return scores(torch.from_numpy(self.matrices.sum(axis=0)))

    def take(self, names: Sequence[str]) -> "ImageRecords":
        """Return the records of some images, in the given order."""
        place = {name: index for index, name in enumerate(self.names)}
        chosen = [place[name] for name in names]
        return ImageRecords(tuple(names), self.classes, self.matrices[chosen], self.model)

    def save(self, path: str | Path, about: dict[str, object] | None = None, **arrays: np.ndarray) -> None:
        """Write the records as an .npz file, with further metadata and arrays where given.

        Raises:
            DataError: The file cannot be written.
        """
        header = {"version": 1, "classes": self.classes, "model": self.model, **(about or {})}
        with write_atomic(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                about=np.array(json.dumps(header)),
                names=np.array(self.names),
                matrices=self.matrices,
                **arrays,  # type: ignore[arg-type]
            )


def class_counts(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hits, true and predicted pixels of each class. Shape: (…, K, K) → three (…, K)."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)  # (…, K)
    return hits, matrices.sum(axis=-1), matrices.sum(axis=-2)


def read_records(path: str | Path) -> ImageRecords:
    """Read what `ImageRecords.save` wrote.

    Raises:
        DataError: The file is missing, damaged or another one.
    """
    advice = "Write one with: hrseg validate --ledger FILE.npz"
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = parse_json(str(file["about"]))
            return ImageRecords(
                tuple(map(str, file["names"])),
                tuple(about["classes"]),
                file["matrices"].astype(np.int64),
                str(about.get("model", "")),
            )
    except OSError as error:
        raise DataError(f"The ledger {path} cannot be opened: {error.strerror or error}. {advice}") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path} is not a ledger that can be read ({type(error).__name__}). {advice}") from error


def merge_ranks(
    ranks: Iterable[Sequence[tuple[str, np.ndarray]]],
) -> list[tuple[str, np.ndarray]]:
    """Merge the images of several devices, each once, sorted by name.

    Shards are padded with images whose mask is all ignored: those have an empty matrix and a name that
    another device has counted, so the larger matrix wins.
    """
    merged: dict[str, np.ndarray] = {}
    for rows in ranks:
        for name, matrix in rows:
            if name not in merged or matrix.sum() > merged[name].sum():
                merged[name] = matrix
    return sorted(merged.items())

"""The ledger of an evaluation: the confusion matrix of every image, so that any score comes without inference.

Summed it is the matrix of the whole set; resampled it says how sure a difference is; sorted it shows the worst images.
"""

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hrseg.errors import DataError
from hrseg.imaging import write_atomic
from hrseg.metrics.confusion import Scores, scores

_VERSION = 1


@dataclass(frozen=True)
class Ledger:
    """Confusion matrices of the images of one split.

    Attributes:
        names: Of the images, in order.
        classes: Names by trainId.
        matrices: int64 (N, K, K): rows the true class, columns the predicted.
        model: What was evaluated.

    Example:
        >>> import numpy as np
        >>> ledger = Ledger(("a", "b"), ("road", "sky"), np.array([[[3, 1], [0, 4]], [[2, 0], [0, 0]]]))
        >>> round(ledger.scores()["miou"], 4)
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

    def take(self, names: Sequence[str]) -> "Ledger":
        """Return the ledger of some images, in the given order."""
        place = {name: index for index, name in enumerate(self.names)}
        chosen = [place[name] for name in names]
        return Ledger(tuple(names), self.classes, self.matrices[chosen], self.model)

    def save(self, path: str | Path) -> None:
        """Write the ledger as an .npz file.

        Raises:
            DataError: The file cannot be written.
        """
        about = {"version": _VERSION, "classes": self.classes, "model": self.model}
        with write_atomic(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                about=np.array(json.dumps(about)),
                names=np.array(self.names),
                matrices=self.matrices,
            )


def parts(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hits, true and found pixels of each class. Shape: (…, K, K) → three (…, K)."""
    return (
        np.diagonal(matrices, axis1=-2, axis2=-1),
        matrices.sum(axis=-1),
        matrices.sum(axis=-2),
    )


def read_ledger(path: str | Path) -> Ledger:
    """Read a ledger that `Ledger.save` wrote.

    Raises:
        DataError: The file is missing, damaged or another one.
    """
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            return Ledger(
                tuple(str(name) for name in file["names"]),
                tuple(about["classes"]),
                file["matrices"].astype(np.int64),
                str(about.get("model", "")),
            )
    except OSError as error:
        raise DataError(
            f"The ledger {path} cannot be opened: {error.strerror or error}. Write one with: hrseg validate --ledger "
            "FILE.npz"
        ) from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{path} is not a ledger that can be read ({type(error).__name__}). Write one with: hrseg validate "
            "--ledger FILE.npz"
        ) from error


def join(
    parts_of_ranks: Iterable[Sequence[tuple[str, np.ndarray]]],
) -> list[tuple[str, np.ndarray]]:
    """Put the images of several devices together, each once.

    Shards are filled up with images whose mask is all ignored; those have an empty matrix and a name that
    another device has counted.
    """
    found: dict[str, np.ndarray] = {}
    for rows in parts_of_ranks:
        for name, matrix in rows:
            if name not in found or matrix.sum() > found[name].sum():
                found[name] = matrix
    return sorted(found.items())

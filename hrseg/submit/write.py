"""An evaluation server's archive: checked prediction by prediction, and written whole or not at all.

PNG files in it hold ids in one channel, without a palette; they bear no date, so that the same predictions give the
same archive. Where the split has masks, the same predictions are scored here.
"""

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hrseg.data.labels import load_labels
from hrseg.data.layouts import Pair, find_pairs
from hrseg.errors import ConfigError, DataError, unknown_choice
from hrseg.imaging import read_mask, write_atomic
from hrseg.inference.predictor import Predictor
from hrseg.metrics import ConfusionMatrix, Scores, table
from hrseg.submit.predictions import Asked, check, of_folder, of_network
from hrseg.submit.servers import SERVERS


@dataclass(frozen=True)
class Submission:
    """An archive that was written.

    Attributes:
        path: The zip file.
        server: What people call the server.
        split: Whose images it holds.
        count: How many.
        scores: Against the split's masks; None where it has none.
        names: Of the classes.
        halves: Whether the server ranks by the mean of pixel accuracy and mIoU.
    """

    path: Path
    server: str
    split: str
    count: int
    scores: Scores | None
    names: tuple[str, ...]
    halves: bool = False

    @property
    def final(self) -> float | None:
        """What the server ranks by, as a fraction; None where there are no masks."""
        if self.scores is None:
            return None
        if self.halves:
            return (self.scores["miou"] + self.scores["pixel_accuracy"]) / 2
        return self.scores["miou"]

    def text(self) -> str:
        """Say it in a few lines."""
        size = self.path.stat().st_size / 1e6
        line = f"{self.path}  {self.count} predictions, {size:.1f} MB, for {self.server}, split {self.split}"
        if self.scores is None or self.final is None:
            return line
        ranks = "mean of pixel accuracy and mIoU" if self.halves else "mIoU"
        scored = table(self.scores, list(self.names))
        return f"{scored}\nThe server ranks by {ranks}: {100 * self.final:.2f}\n{line}"


def submit(
    server: str,
    root: str | Path,
    out: str | Path,
    *,
    predictor: Predictor | None = None,
    predictions: str | Path | None = None,
    split: str = "test",
    train_ids: bool = False,
    partial: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> Submission:
    """Write the archive that a server takes.

    Args:
        server: A row of `servers.SERVERS`.
        root: The dataset's folder.
        out: The .zip file.
        predictor: Predicts every image; or
        predictions: a folder of PNG files, such as one of hrseg predict.
        split: "test", or one whose masks are there, to see the score first.
        train_ids: Whether the files of the folder hold trainIds.
        partial: Take a split that lacks images.
        tell: Called with (done, all) after each image.

    Raises:
        ConfigError: An unknown server, or neither or both of predictor and predictions.
        DataError: The split or the predictions are not what the server takes.
    """
    if server not in SERVERS:
        raise ConfigError(unknown_choice("server", server, SERVERS))
    if (predictor is None) == (predictions is None):
        raise ConfigError("Give either a model that predicts, or a folder of predictions.")
    out = Path(out)
    if out.suffix.lower() != ".zip":
        raise ConfigError(
            f"The server takes a zip archive, and {out} is none. Call it such as {out.stem}.zip."
        )
    row = SERVERS[server]
    labels = load_labels(row.layout)
    pairs = find_pairs(row.layout, root, split)
    asked = Asked(row, split, pairs, labels)
    if not partial and len(pairs) != row.counts.get(split, len(pairs)):
        raise DataError(
            f"Split '{split}' has {row.counts[split]} images, {root} holds {len(pairs)} of them, and the server "
            "refuses archives that lack any. Complete the dataset, or add --partial to see a score on what is there."
        )
    found = (
        of_network(asked, predictor)
        if predictor is not None
        else of_folder(asked, Path(str(predictions)), train_ids)
    )
    metric = ConfusionMatrix(labels.num_classes)
    entries = []
    with write_atomic(out) as temporary:
        with zipfile.ZipFile(
            temporary, "w", zipfile.ZIP_STORED
        ) as archive:  # PNG is packed already
            for pair, mask in _checked(asked, found):
                entries.append(f"{asked.key(pair)}{row.ending}.png")
                archive.writestr(zipfile.ZipInfo(entries[-1]), _png(labels.decode(mask)))
                if pair.mask is not None:
                    metric.update(
                        torch.from_numpy(mask), torch.from_numpy(_truth(pair, row.layout))
                    )
                if tell is not None:
                    tell(len(entries), len(pairs))
        _verify(temporary, entries, len(pairs))
    truth = any(pair.mask is not None for pair in pairs)
    scores = metric.compute() if truth else None
    names = tuple(labels.names)
    return Submission(out, row.title, split, len(entries), scores, names, row.halves)


def _checked(
    asked: Asked, found: Iterable[tuple[Pair, np.ndarray]]
) -> Iterable[tuple[Pair, np.ndarray]]:
    for pair, mask in found:
        check(asked, pair, mask)
        yield pair, mask


def _truth(pair: Pair, layout: str) -> np.ndarray:
    assert pair.mask is not None
    return load_labels(pair.table or layout).encode(read_mask(pair.mask), str(pair.mask))


def _png(ids: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ids.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _verify(path: Path, entries: list[str], count: int) -> None:
    """Read the archive back before it gets its name."""
    with zipfile.ZipFile(path) as archive:
        names, damaged = archive.namelist(), archive.testzip()
    if damaged is not None or names != entries or len(set(names)) != count:
        raise DataError(
            f"The archive came back from the disk with {len(set(names))} of {count} files"
            f"{f', {damaged} damaged' if damaged else ''}. Check the disk, and run it again."
        )

"""Submission archives for benchmark servers, from a folder of predictions or from a network, checked first."""

import io
import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hrseg.data.layouts import Pair, find_pairs
from hrseg.errors import ConfigError, DataError, first_few, unknown_choice
from hrseg.imaging import image_size, read_mask, write_atomic
from hrseg.inference.predictor import Predictor
from hrseg.labels import IGNORE_INDEX, LabelSet, load_labels
from hrseg.metrics.confusion import ConfusionMatrix, Scores, table


@dataclass(frozen=True)
class Server:
    """One row of SERVERS.

    Attributes:
        title: Name of the benchmark.
        layout: Row of `data.layouts.LAYOUTS` whose split lists the images; its class table has the same name.
        counts: Split → number of images.
        key: Pattern of the part of a file's name that identifies its image.
        endings: Suffixes of the key in the name of a prediction; other files are no predictions.
        ending: Suffix of the key in the archive.
        mean_with_accuracy: Whether the server ranks by the mean of pixel accuracy and mIoU.
    """

    title: str
    layout: str
    counts: dict[str, int]
    key: re.Pattern[str]
    endings: tuple[str, ...]
    ending: str
    mean_with_accuracy: bool = False

    def key_of(self, pair: Pair) -> str:
        """Return the part of an image's name that its prediction shares."""
        stem = pair.name.rpartition("/")[2]
        match = self.key.match(f"{stem}.")
        return match[0] if match else stem


SERVERS = {
    # The server's rules are those of getPrediction in cityscapesscripts: CITY_SEQUENCE_FRAME*.png, labelIds, one file
    # for each image, in any folder; sizes are compared, and void ids count as wrong.
    "cityscapes": Server(
        "Cityscapes pixel-level semantic labeling",
        "cityscapes",
        {"test": 1525, "val": 500, "train": 2975},
        re.compile(r"[a-zA-Z-]+_\d+_\d+(?=_|\.)"),
        (
            *("", "_mask", "_leftImg8bit", "_leftImg8bit_mask", "_labelIds", "_pred_labelIds"),
            *("_gtFine_labelIds", "_trainids", "_leftImg8bit_trainids"),
        ),
        "_labelIds",
    ),
    # The challenge's development kit: a zip of files named like the images, but .png; ids 1 to 150.
    "ade20k": Server(
        "ADE20K scene parsing",
        "ade20k",
        {"test": 3352, "val": 2000, "train": 20210},
        re.compile(r"ADE_(?:train|val|test)_\d+(?=_|\.)"),
        ("", "_mask", "_trainids"),
        "",
        mean_with_accuracy=True,
    ),
}
"""Name → row."""


@dataclass(frozen=True)
class Submission:
    """An archive that was written.

    Attributes:
        path: The zip file.
        server: Its row.
        split: Of the images.
        count: Number of predictions.
        scores: Against the split's masks; None where it has none.
        names: Of the classes.
    """

    path: Path
    server: Server
    split: str
    count: int
    scores: Scores | None
    names: tuple[str, ...]

    @property
    def final(self) -> float | None:
        """Score that the server ranks by, a fraction; None where there are no masks, nan where they have no label."""
        if self.scores is None:
            return None
        if self.server.mean_with_accuracy:
            return (self.scores["miou"] + self.scores["pixel_accuracy"]) / 2
        return self.scores["miou"]

    def __str__(self) -> str:
        size = self.path.stat().st_size / 1e6
        line = f"{self.path}  {self.count} predictions, {size:.1f} MB, for {self.server.title}, split {self.split}"
        if self.scores is None or self.final is None:
            return line
        scored = table(self.scores, list(self.names))
        if math.isnan(self.final):
            return f"{scored}\n{line}"
        rank = "mean of pixel accuracy and mIoU" if self.server.mean_with_accuracy else "mIoU"
        return f"{scored}\nThe server ranks by {rank}: {100 * self.final:.2f}\n{line}"


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
    progress: Callable[[int, int], None] | None = None,
) -> Submission:
    """Write the archive that a server takes.

    Args:
        server: A key of `SERVERS`.
        root: The dataset's folder.
        out: The .zip file.
        predictor: Predicts every image; or
        predictions: a folder of PNG files, such as one of hrseg predict.
        split: "test", or one with masks, which is scored too.
        train_ids: Whether the files of the folder hold trainIds.
        partial: Accept a split that lacks images.
        progress: Called with (done, all) after each image.

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
        raise ConfigError(f"The server takes a zip archive, and {out} is none. Name it {out.stem}.zip, for example.")
    row = SERVERS[server]
    labels = load_labels(row.layout)
    pairs = find_pairs(row.layout, root, split)
    if not partial and len(pairs) != row.counts.get(split, len(pairs)):
        raise DataError(
            f"Split '{split}' has {row.counts[split]} images, {root} holds {len(pairs)} of them, and the server "
            "refuses incomplete archives. Complete the dataset, or add --partial to score the present images."
        )
    if predictor is not None:
        masks = _predict(row, labels, pairs, predictor)
    else:
        masks = _read_folder(row, labels, pairs, split, Path(str(predictions)), train_ids)
    metric = ConfusionMatrix(labels.num_classes)
    entries: list[str] = []
    with write_atomic(out) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed
            for pair, mask in zip(pairs, masks, strict=True):
                _check(pair, mask, labels)
                entries.append(f"{row.key_of(pair)}{row.ending}.png")
                archive.writestr(zipfile.ZipInfo(entries[-1]), _png(labels.decode(mask)))
                if pair.mask is not None:
                    table_of_mask = load_labels(pair.table or row.layout)
                    truth = table_of_mask.encode(read_mask(pair.mask), str(pair.mask))
                    metric.update(torch.from_numpy(mask), torch.from_numpy(truth))
                if progress is not None:
                    progress(len(entries), len(pairs))
        _verify(temporary, entries, len(pairs))
    scores = metric.compute() if any(pair.mask is not None for pair in pairs) else None
    return Submission(out, row, split, len(entries), scores, tuple(labels.names))


def _predict(server: Server, labels: LabelSet, pairs: Sequence[Pair], predictor: Predictor) -> Iterator[np.ndarray]:
    """Yield the predicted trainIds of each image, (H, W)."""
    learned, scored = predictor.labels.names, labels.names
    if learned != scored:
        missing = [name for name in scored if name not in learned]
        what = f"it has no {missing[0]}" if missing else "they are in another order"
        raise ConfigError(
            f"The model has {len(learned)} classes, {server.title} {len(scored)}: {what}. Choose a model trained on "
            f"{server.layout}; hrseg weights list shows some."
        )
    for pair in pairs:
        yield predictor(pair.image).mask


def _read_folder(
    server: Server,
    labels: LabelSet,
    pairs: Sequence[Pair],
    split: str,
    folder: Path,
    train_ids: bool,
) -> Iterator[np.ndarray]:
    """Yield the stored trainIds of each image, (H, W); all files are found before the first one is read."""
    files = _find(server, pairs, split, folder, train_ids)
    for pair in pairs:
        yield _read(files[server.key_of(pair)], server, labels, train_ids)


def _check(pair: Pair, mask: np.ndarray, labels: LabelSet) -> None:
    """Check size and classes of one prediction as the server will."""
    size = image_size(pair.image)
    if mask.shape != size:
        raise DataError(
            f"The prediction for {pair.name} is {mask.shape[0]} x {mask.shape[1]}, the image {size[0]} x {size[1]}. "
            "The server compares pixel by pixel: predict at the size of the image."
        )
    if int(mask.max()) >= labels.num_classes:
        raise DataError(
            f"The prediction for {pair.name} has pixels without a class, which count as wrong. Give every pixel one."
        )


def _find(server: Server, pairs: Sequence[Pair], split: str, folder: Path, train_ids: bool) -> dict[str, Path]:
    """Return key of an image → its file."""
    if not folder.is_dir():
        raise DataError(f"No folder {folder}. Name the folder of the predictions' PNG files.")
    wanted = {server.key_of(pair) for pair in pairs}
    found: dict[str, list[Path]] = defaultdict(list)
    unexpected = []
    for path in sorted(folder.rglob("*.png")):
        match = server.key.match(path.name)
        key = match[0] if match else path.stem
        ending = path.stem[len(key) :]
        if ending not in server.endings or (ending.endswith("_trainids") and not train_ids):
            continue
        if key in wanted:
            found[key].append(path)
        elif match:
            unexpected.append(path)
    twice = next((paths for paths in found.values() if len(paths) > 1), None)
    if twice is not None:
        raise DataError(f"Two predictions for one image: {twice[0]} and {twice[1]}. Keep one of them.")
    missing = sorted(wanted - set(found))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(wanted)} images of split '{split}' have no prediction in {folder}: "
            f"{first_few(missing, 3)}. Names are such as {missing[0]}{server.ending}.png or {missing[0]}_mask.png. "
            "Predict the rest, or name the folder above."
        )
    if unexpected:
        raise DataError(
            f"{len(unexpected)} predictions in {folder} belong to no image of split '{split}', such as "
            f"{unexpected[0].name}. Move them away, or choose another --split."
        )
    return {key: paths[0] for key, paths in found.items()}


def _read(path: Path, server: Server, labels: LabelSet, train_ids: bool) -> np.ndarray:
    """Return stored ids or trainIds as trainIds, (H, W)."""
    stored = read_mask(path)
    if stored.ndim == 3:
        raise DataError(
            f"{path} is a picture of colors. Ids in one channel are right, such as NAME_mask.png of hrseg predict."
        )
    ids = sorted(label.id for label in labels.classes)
    allowed = range(labels.num_classes) if train_ids else ids
    values = np.unique(stored)
    wrong = values[~np.isin(values, list(allowed))]
    if len(wrong):
        right = f"the ids of its {len(ids)} classes, from {ids[0]} to {ids[-1]}"
        hint = "Give every pixel a class"
        if train_ids:
            right = f"trainIds 0 to {labels.num_classes - 1}"
        elif values.max() < labels.num_classes:
            hint = "If these are trainIds, add --trainids"
        raise DataError(
            f"{path} holds {first_few(wrong.tolist(), 6)}, which {server.title} does not score. Right are {right}. "
            f"{hint}."
        )
    if train_ids:
        return stored.astype(np.uint8)
    lookup = np.full(int(values.max()) + 1, IGNORE_INDEX, np.uint8)
    for label in labels.classes:
        if label.id < len(lookup):
            lookup[label.id] = label.train_id
    mask: np.ndarray = lookup[stored]
    return mask


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

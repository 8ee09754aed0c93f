"""Predictions for a split, from a folder or from a network, each looked at before it goes into an archive."""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hrseg.data.layouts import Pair, find_pairs
from hrseg.errors import ConfigError, DataError, unknown_choice
from hrseg.imaging import image_size, read_mask, write_atomic
from hrseg.inference.predictor import Predictor
from hrseg.labels import IGNORE_INDEX, LabelSet, load_labels
from hrseg.metrics.confusion import ConfusionMatrix, Scores, table


@dataclass(frozen=True)
class Server:
    """One row of SERVERS.

    Attributes:
        title: What people call it.
        layout: Row of `data.layouts.LAYOUTS` whose split lists the images; its class table has the same name.
        counts: Split → how many images it has.
        key: Matches the part of a file's name that says which image it belongs to.
        endings: What may follow the key in the name of a prediction; other files are no predictions.
        ending: What follows it in the archive.
        halves: Whether the server ranks by the mean of pixel accuracy and mIoU.
    """

    title: str
    layout: str
    counts: dict[str, int]
    key: re.Pattern[str]
    endings: tuple[str, ...]
    ending: str
    halves: bool = False


SERVERS = {
    # The server's rules are those of getPrediction in cityscapesscripts: CITY_SEQUENCE_FRAME*.png, labelIds, one file
    # for each image, in any folder; sizes are compared, and void ids count as wrong.
    "cityscapes": Server(
        "Cityscapes pixel-level semantic labelling",
        "cityscapes",
        {"test": 1525, "val": 500, "train": 2975},
        re.compile(r"[a-zA-Z-]+_\d+_\d+(?=_|\.)"),
        (
            *("", "_mask", "_leftImg8bit", "_leftImg8bit_mask", "_labelIds", "_pred_labelIds"),
            *("_gtFine_labelIds", "_trainids", "_leftImg8bit_trainids"),
        ),
        "_labelIds",
    ),
    # As the development kit of the challenge says: a zip of files called like the images, but .png; ids 1 to 150.
    "ade20k": Server(
        "ADE20K scene parsing",
        "ade20k",
        {"test": 3352, "val": 2000, "train": 20210},
        re.compile(r"ADE_(?:train|val|test)_\d+(?=_|\.)"),
        ("", "_mask", "_trainids"),
        "",
        halves=True,
    ),
}
"""Name → row."""


Found = tuple[Pair, np.ndarray]
"""An image and its predicted trainIds, (H, W)."""


@dataclass(frozen=True)
class Asked:
    """What predictions are wanted.

    Attributes:
        server: Whose.
        split: Of which images.
        pairs: The images.
        labels: The server's classes.
    """

    server: Server
    split: str
    pairs: Sequence[Pair]
    labels: LabelSet

    def key(self, pair: Pair) -> str:
        """Return the part of an image's name that its prediction shares."""
        stem = pair.name.rpartition("/")[2]
        match = self.server.key.match(f"{stem}.")
        return match[0] if match else stem


def of_network(asked: Asked, predictor: Predictor) -> Iterator[Found]:
    """Predict each image.

    Raises:
        ConfigError: The network tells other classes apart than the server.
        DataError: An image cannot be read.
    """
    if predictor.labels.names != asked.labels.names:
        ours, theirs = predictor.labels.names, asked.labels.names
        lacking = [name for name in theirs if name not in ours]
        what = f"it has no {lacking[0]}" if lacking else "they stand in another order"
        raise ConfigError(
            f"The model tells {len(ours)} classes apart, {asked.server.title} {len(theirs)}: {what}. Choose a model "
            f"trained on {asked.server.layout}; hrseg weights list shows some."
        )
    for pair in asked.pairs:
        yield pair, predictor(pair.image).mask


def of_folder(asked: Asked, folder: Path, train_ids: bool = False) -> Iterator[Found]:
    """Read each image's prediction; all are found before the first one is read.

    Args:
        asked: What is wanted.
        folder: Of PNG files, in any subfolders.
        train_ids: Whether the files hold trainIds instead of the dataset's ids.

    Raises:
        DataError: Predictions are missing, or there are too many, or one holds what the server does not take.
    """
    files = _find(asked, folder, train_ids)
    for pair in asked.pairs:
        path = files[asked.key(pair)]
        yield pair, _read(path, asked, train_ids)


def check(asked: Asked, pair: Pair, mask: np.ndarray) -> None:
    """Look at one prediction as the server will.

    Raises:
        DataError: Another size than the image, or a pixel without a class.
    """
    size = image_size(pair.image)
    if mask.shape != size:
        raise DataError(
            f"The prediction for {pair.name} is {mask.shape[0]} x {mask.shape[1]}, the image {size[0]} x {size[1]}. "
            "The server compares pixel by pixel: predict at the size of the image."
        )
    if int(mask.max()) >= asked.labels.num_classes:
        raise DataError(
            f"The prediction for {pair.name} has pixels without a class, which count as wrong. Give every pixel one."
        )


def _find(asked: Asked, folder: Path, train_ids: bool) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"No folder {folder}. Name the folder of the predictions' PNG files.")
    wanted = {asked.key(pair) for pair in asked.pairs}
    found: dict[str, list[Path]] = defaultdict(list)
    strange = []
    for path in sorted(folder.rglob("*.png")):
        match = asked.server.key.match(path.name)
        key = match[0] if match else path.stem
        ending = path.stem[len(key) :]
        foreign = ending.endswith("_trainids") and not train_ids
        if ending not in asked.server.endings or foreign:
            continue
        if key in wanted:
            found[key].append(path)
        elif match:
            strange.append(path)
    twice = next((paths for paths in found.values() if len(paths) > 1), None)
    if twice is not None:
        raise DataError(
            f"Two predictions for one image: {twice[0]} and {twice[1]}. Keep one of them."
        )
    missing = sorted(wanted - set(found))
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        ends = f"{missing[0]}{asked.server.ending}.png or {missing[0]}_mask.png"
        raise DataError(
            f"{len(missing)} of {len(wanted)} images of split '{asked.split}' have no prediction in {folder}: {shown}. "
            f"Files are called such as {ends}. Predict the rest, or name the folder above."
        )
    if strange:
        raise DataError(
            f"{len(strange)} predictions in {folder} belong to no image of split '{asked.split}', such as "
            f"{strange[0].name}. Move them away, or choose another --split."
        )
    return {key: paths[0] for key, paths in found.items()}


def _read(path: Path, asked: Asked, train_ids: bool) -> np.ndarray:
    stored = read_mask(path)
    if stored.ndim == 3:
        raise DataError(
            f"{path} is a picture of colors. Ids in one channel are right, such as NAME_mask.png of hrseg predict."
        )
    labels = asked.labels
    values = np.unique(stored)
    if train_ids:
        wrong = values[values >= labels.num_classes]
    else:
        ids = [label.id for label in labels.classes]
        wrong = values[~np.isin(values, ids)]
    if len(wrong):
        shown = ", ".join(str(int(value)) for value in wrong[:6]) + (
            ", …" if len(wrong) > 6 else ""
        )
        hint = "Give every pixel a class"
        if not train_ids and values.max() < labels.num_classes:
            hint = "If these are trainIds, add --trainids"
        raise DataError(
            f"{path} holds {shown}, which {asked.server.title} does not score. Right are "
            f"{_range(labels, train_ids)}. {hint}."
        )
    if train_ids:
        return stored.astype(np.uint8)
    table = np.full(int(values.max()) + 1, IGNORE_INDEX, np.uint8)
    for label in labels.classes:
        if label.id < len(table):
            table[label.id] = label.train_id
    mask: np.ndarray = table[stored]
    return mask


def _range(labels: LabelSet, train_ids: bool) -> str:
    if train_ids:
        return f"trainIds 0 to {labels.num_classes - 1}"
    ids = sorted(label.id for label in labels.classes)
    return f"the ids of its {len(ids)} classes, from {ids[0]} to {ids[-1]}"


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

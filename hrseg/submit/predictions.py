"""Predictions for a split, from a folder or from a network, each looked at before it goes into an archive."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.data.layouts import Pair
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import image_size, read_mask
from hrseg.inference.predictor import Predictor
from hrseg.submit.servers import Server

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
            f"{path} is a picture of colours. Ids in one channel are right, such as NAME_mask.png of hrseg predict."
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

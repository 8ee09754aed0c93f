"""From a pair of paths to a sample: read, compare sizes, encode to trainIds, vary, normalize.

One class serves every dataset. What differs is the list of pairs, the label table, and for data that have no
files the function that reads.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from hrseg.data.layouts import Pair
from hrseg.data.transforms import NO_CLASS, TrainRecipe
from hrseg.errors import DataError, MissingExtraError
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD, read_mask, to_tensor
from hrseg.imaging.png_rows import Picture, open_picture, pixels
from hrseg.labels import IGNORE_INDEX, LabelSet, load_labels


class Sample(TypedDict):
    """One image for a network.

    Attributes:
        image: Normalized float32 (3, h, w).
        mask: int64 trainIds (h, w).
        name: As in its Pair.
    """

    image: torch.Tensor
    mask: torch.Tensor
    name: str


@dataclass(frozen=True)
class Draw:
    """Which image comes next, and everything its augmentation depends on.

    It travels from the sampler to the loader processes, whose copy of the dataset is older than the epoch.

    Attributes:
        index: Position in the pairs. Below zero, -1-i is image i with a mask of 255: it counts nowhere and
            only fills a shard up.
        epoch: Of the training.
        turn: How often this image has come before in this epoch.
        wanted: Class the crop shall hold, or NO_CLASS.
    """

    index: int
    epoch: int = 0
    turn: int = 0
    wanted: int = NO_CLASS


Read = Callable[[Pair], tuple[np.ndarray | Picture, np.ndarray | None]]
"""Pair → image (H, W, 3), uint8 or still packed, and ids (H, W), colors (H, W, 3) or None without a mask."""


def read_ids(pair: Pair) -> np.ndarray | None:
    """Read the mask of a pair as stored, from an image or a MATLAB file."""
    if pair.mask is not None and pair.mask.suffix == ".mat":
        return read_matlab_mask(pair.mask)
    return None if pair.mask is None else read_mask(pair.mask)


def read_pair(
    pair: Pair, bands: Sequence[int] | None = None, bits: int | None = None
) -> tuple[np.ndarray | Picture, np.ndarray | None]:
    """Read both files of a pair; the image may stay packed until its window is known.

    Args:
        pair: The files.
        bands: Bands of the image as stored; None: RGB of 8 bits.
        bits: Significant bits of 16-bit files; None: what the file says.
    """
    return open_picture(pair.image, bands, bits), read_ids(pair)


class SegmentationDataset(Dataset[Sample]):
    """Images with their masks as trainIds.

    Args:
        pairs: The images.
        labels: The classes.
        recipe: Augmentation; None gives whole images as they are.
        read: How a pair becomes image and ids; files by default.
        mean: Subtracted from the image in 0..1.
        std: Divided by.
        value_range: The stored value that becomes 1 before that; None takes the type's.
        unmasked: The trainId of images without a mask.
        seed: With epoch and index it decides the augmentation.

    Raises:
        DataError: On reading: a broken file, sizes that differ, or an id that the table lacks.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        labels: LabelSet,
        recipe: TrainRecipe | None = None,
        *,
        read: Read = read_pair,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        value_range: float | None = None,
        unmasked: int = IGNORE_INDEX,
        seed: int = 0,
    ) -> None:
        self.pairs = pairs
        self.labels = labels
        self.recipe = recipe
        self.read = read
        self.mean, self.std = mean, std
        self.value_range = value_range
        self.unmasked = unmasked
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, draw: Draw | int) -> Sample:
        """Read one sample; a plain number is an image of epoch 0."""
        draw = draw if isinstance(draw, Draw) else Draw(draw)
        filler = draw.index < 0
        index = -1 - draw.index if filler else draw.index
        if index >= len(self.pairs):
            raise IndexError(index)  # ends a for loop over the dataset
        image, mask = self._open(self.pairs[index])
        if filler:
            mask = np.full_like(mask, IGNORE_INDEX)
        if self.recipe is not None:
            seeds = np.random.SeedSequence((self.seed, draw.epoch, index, draw.turn))
            seed = int(seeds.generate_state(1)[0])
            image, mask = self.recipe(image, mask, seed=seed, wanted=draw.wanted)
        return {
            "image": to_tensor(pixels(image), self.mean, self.std, self.value_range),
            "mask": torch.from_numpy(mask).long(),
            "name": self.pairs[index].name,
        }

    def read_trainids(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Read image and trainIds of a pair; without a mask all pixels are `unmasked`.

        Raises:
            DataError: Their sizes differ.

        Shape:
            (H, W, 3), (H, W)
        """
        image, mask = self._open(pair)
        return pixels(image), mask

    def _open(self, pair: Pair) -> tuple[np.ndarray | Picture, np.ndarray]:
        image, ids = self.read(pair)
        if ids is None:
            return image, np.full(image.shape[:2], self.unmasked, np.uint8)
        if ids.shape[:2] != image.shape[:2]:
            raise DataError(
                f"Image {pair.image} has {image.shape[0]}x{image.shape[1]} pixels (height x width), its mask "
                f"{pair.mask} {ids.shape[0]}x{ids.shape[1]}. They must be equal; check that they belong "
                "together."
            )
        return image, encode(pair, ids, self.labels)


def encode(pair: Pair, ids: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Turn the ids of a pair into trainIds, by the pair's own table where it has one.

    Raises:
        DataError: An id that the table does not know.

    Shape:
        (H, W) → (H, W)
    """
    table = labels if pair.table is None else _table(pair.table)
    return table.encode(ids, str(pair.mask))


_table = functools.cache(load_labels)


VARIABLES = ("S", "LabelMap")
"""Name of the label map in COCO-Stuff 10k and in PASCAL-Context."""


def read_matlab_mask(path: Path) -> np.ndarray:
    """Read the label map of a .mat file.

    Returns:
        int32 ids.

    Raises:
        DataError: The file cannot be read, or holds none of the known label maps.
        MissingExtraError: scipy is not installed.

    Shape:
        (H, W)
    """
    try:
        from scipy.io import loadmat, whosmat
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path} is a MATLAB file, which needs scipy. Run: pip install scipy, or convert the masks to PNG."
        ) from error
    try:
        found = [name for name, *_ in whosmat(path)]
        name = next((name for name in VARIABLES if name in found), None)
        values = None if name is None else np.asarray(loadmat(path, variable_names=[name])[name])
    except Exception as error:  # scipy raises whatever the bytes lead it to
        raise DataError(
            f"{path} cannot be read as a MATLAB file: {error}. Unpack it again."
        ) from error
    if values is None or values.ndim != 2 or values.dtype.kind not in "ui":
        raise DataError(
            f"{path} holds {', '.join(found) or 'nothing'}; a mask should be a map of whole numbers called "
            f"{' or '.join(VARIABLES)}. Convert it to PNG."
        )
    return values.astype(np.int32)

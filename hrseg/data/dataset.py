"""Segmentation samples: reading a pair of files, encoding its mask to trainIds, augmentation, normalization.

One dataset class serves every layout; the list of pairs, the label table and the reader differ.
"""

import contextlib
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from filelock import FileLock
from torch.utils.data import Dataset

from hrseg.config import DataConfig
from hrseg.data.layouts import Pair
from hrseg.data.transforms import NO_CLASS, TrainRecipe
from hrseg.errors import DataError, MissingExtraError
from hrseg.imaging import read_mask, to_tensor, write_atomic, write_text
from hrseg.imaging.archives import in_archive
from hrseg.imaging.png_rows import Picture, open_picture, pixels
from hrseg.labels import IGNORE_INDEX, LabelSet, load_labels

log = logging.getLogger(__name__)


class Sample(TypedDict):
    """One image for a network.

    Attributes:
        image: Normalized float32 (bands, h, w).
        mask: int64 trainIds (h, w).
        name: Name of its Pair.
    """

    image: torch.Tensor
    mask: torch.Tensor
    name: str


@dataclass(frozen=True)
class Draw:
    """One step of a sampler: an image and everything its augmentation depends on.

    It travels from the sampler to the loader processes, whose copy of the dataset is older than the epoch.

    Attributes:
        index: Position in the pairs. Below zero, -1-i is image i with a mask of 255: it fills a shard up and
            counts nowhere.
        epoch: Of the training.
        turn: Number of earlier draws of this image in the epoch.
        wanted: Class the crop shall hold, or NO_CLASS.
    """

    index: int
    epoch: int = 0
    turn: int = 0
    wanted: int = NO_CLASS


Read = Callable[[Pair], tuple[np.ndarray | Picture, np.ndarray | None]]
"""Pair → image (H, W, bands), still packed or not, and ids (H, W), colors (H, W, 3) or None without a mask."""


class SegmentationDataset(Dataset[Sample]):
    """Images with their masks as trainIds.

    Args:
        pairs: The images.
        labels: The classes.
        recipe: Augmentation; None gives whole images as they are.
        config: Normalization, bands, cache, and the class of images without a mask.
        read: How a pair becomes image and ids; None reads files, see `make_reader`.
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
        config: DataConfig | None = None,
        read: Read | None = None,
        seed: int = 0,
    ) -> None:
        config = config or DataConfig()
        self.pairs, self.labels, self.recipe = pairs, labels, recipe
        self.read = read or make_reader(config)
        self.mean, self.std, self.value_range = config.mean, config.std, config.value_range
        named = config.unmasked is not None
        self.unmasked = labels.names.index(str(config.unmasked)) if named else IGNORE_INDEX
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
        image, mask = self._open(self.pairs[index])  # (H, W, bands), (H, W)
        if filler:
            mask = np.full_like(mask, IGNORE_INDEX)  # the image is scored by another device
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
            (H, W, bands), (H, W)
        """
        image, mask = self._open(pair)
        return pixels(image), mask

    def _open(self, pair: Pair) -> tuple[np.ndarray | Picture, np.ndarray]:
        image, ids = self.read(pair)  # (H, W, bands), (H, W) or (H, W, 3)
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
        DataError: An id that the table lacks.

    Shape:
        (H, W) → (H, W)
    """
    table = labels if pair.table is None else _load_table(pair.table)
    return table.encode(ids, str(pair.mask))


_load_table = functools.cache(load_labels)


def make_reader(config: DataConfig) -> Read:
    """Return the reader of image files, through a cache where data.cache is set."""
    if config.cache is None:
        return functools.partial(read_pair, bands=config.bands, bits=config.bits)
    return CachedReader(config.cache, config.cache_gb, config.bands, config.bits)


def read_pair(
    pair: Pair, bands: Sequence[int] | None = None, bits: int | None = None
) -> tuple[np.ndarray | Picture, np.ndarray | None]:
    """Read both files of a pair; the image may stay packed until its window is known.

    Args:
        pair: The files.
        bands: Bands of the image as stored; None: RGB of 8 bits.
        bits: Significant bits of 16-bit files; None: those that the file declares.
    """
    return open_picture(pair.image, bands, bits), read_ids(pair)


def read_ids(pair: Pair) -> np.ndarray | None:
    """Read the mask of a pair as stored, from an image or a MATLAB file."""
    if pair.mask is None:
        return None
    return read_matlab_mask(pair.mask) if pair.mask.suffix == ".mat" else read_mask(pair.mask)


VARIABLES = ("S", "LabelMap")
"""Name of the label map in COCO-Stuff 10k and in PASCAL-Context."""


def read_matlab_mask(path: Path) -> np.ndarray:
    """Read the label map of a .mat file as int32 ids.

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
    except Exception as error:  # scipy raises anything on damaged bytes
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}. Unpack it again.") from error
    if values is None or values.ndim != 2 or values.dtype.kind not in "ui":
        raise DataError(
            f"{path} holds {', '.join(found) or 'nothing'}; a mask should be a map of whole numbers called "
            f"{' or '.join(VARIABLES)}. Convert it to PNG."
        )
    return values.astype(np.int32)


_HEADER_BYTES = 4096
"""Upper bound of what a cache entry adds to its pixels."""


class CachedReader:
    """Reader of pairs with a cache of decoded images on disk; it can be sent to loader processes.

    Each file becomes one array, mapped into memory, so that a crop reads only its own pages. An entry is named by the
    file's path, size and modification time; a changed file gets a new entry, and the old one is removed. Processes
    may share a cache: entries are written atomically, and a lock guards the byte count. A full cache takes nothing
    more in; it never drops an entry for another, since every epoch visits all of them.

    Args:
        folder: Of the cache; it is made.
        gigabytes: Most that the cache may hold, in 10^9 bytes.
        bands: Bands of the images, see `read_pair`.
        bits: Significant bits of 16-bit files.

    Raises:
        DataError: The folder cannot be made or written.
    """

    def __init__(
        self,
        folder: str | Path,
        gigabytes: float,
        bands: Sequence[int] | None = None,
        bits: int | None = None,
    ) -> None:
        self.bands, self.bits = bands, bits
        self.folder = Path(folder).expanduser().resolve()
        self.limit = int(gigabytes * 1e9)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"The cache {self.folder} cannot be made: {error.strerror}. Set data.cache to a folder that can be "
                "written, or to null."
            ) from error

    def __call__(self, pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
        """Read image and ids of a pair."""
        kind = "rgb" if self.bands is None else f"bands {list(self.bands)}"
        kind += "" if self.bits is None else f" of {self.bits} bits"
        image = self._cached(pair.image, kind, lambda: pixels(open_picture(pair.image, self.bands, self.bits)))
        if pair.mask is None:
            return image, None
        return image, self._cached(pair.mask, "ids", lambda: np.asarray(read_ids(pair)))

    def _cached(self, path: Path, kind: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        entry = self._entry(path, kind)
        with contextlib.suppress(OSError, ValueError, EOFError):  # missing or damaged: made anew
            return np.asarray(np.load(entry, mmap_mode="r", allow_pickle=False))
        values = decode()
        size = values.nbytes + _HEADER_BYTES
        if self._reserve(size, entry.parent):
            try:
                with write_atomic(entry) as temporary:
                    np.save(temporary, values, allow_pickle=False)
            except DataError:  # the disk is full before the cache is
                with self._lock:
                    self._write_count(self._count() - size)
        return values

    def _entry(self, path: Path, kind: str) -> Path:
        """Return the file of the entry that holds a file as it is now."""
        key = os.fsencode(f"{kind}:{os.path.abspath(path)}")
        name = hashlib.sha256(key).hexdigest()[:32]
        try:
            stat = (in_archive(path) or path).stat()
        except OSError as error:
            raise DataError(f"No such file: {path}. Check the path.") from error
        return self.folder / name[:2] / name / f"{stat.st_size}-{stat.st_mtime_ns}.npy"

    def _reserve(self, size: int, folder: Path) -> bool:
        """Count the bytes of a new entry if they fit, and remove older entries of its file."""
        with self._lock:
            used = self._count()
            for old in folder.glob("*.npy"):
                used -= old.stat().st_size  # an older version of the same file
                old.unlink()
            fits = used + size <= self.limit
            self._write_count(used + size if fits else used)
        if not fits and not (self.folder / "full").exists():
            with contextlib.suppress(OSError):
                (self.folder / "full").touch()
            message = "the cache %s is full (%.1f GB); other files are decoded each time"
            log.info(message, self.folder, used / 1e9)
        return fits

    @property
    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock", timeout=60)

    def _count(self) -> int:
        """Return the bytes counted so far; without a count, the sizes of all entries."""
        try:
            return int((self.folder / "bytes").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return sum(path.stat().st_size for path in self.folder.rglob("*.npy"))

    def _write_count(self, used: int) -> None:
        write_text(self.folder / "bytes", str(used))

"""LightningDataModule of a run: splits, datasets, samplers and loaders.

Everything is lazy: pairs are found on first use, pixels are read in the loader processes.
"""

import ctypes
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader, default_collate

from hrseg.config import DataConfig, data_config
from hrseg.data.dataset import Read, SegmentationDataset, make_reader, read_ids
from hrseg.data.layouts import LAYOUTS, Pair, find_pairs
from hrseg.data.mask_encoding import choose_tables
from hrseg.data.sampling import ShardSampler, pixels_by_image
from hrseg.data.street import scene
from hrseg.data.transforms import limit_threads, train_recipe
from hrseg.errors import ConfigError, DataError, first_process, unknown_choice
from hrseg.imaging.png_rows import pixels
from hrseg.imaging.values import band_statistics
from hrseg.labels import LabelSet, find_classes, load_labels

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
SCENE_SEEDS = {"train": 0, "val": 1, "test": 2}
"""Split → seed of its scenes. Independent of the run's seed: runs with other seeds stay comparable."""
MAX_CACHED_PIXELS = 2**16
"""Largest scene that stays in memory once drawn: 512 of them take 134 MB."""
MAX_WORKERS = 8


def warn_of_learned(pairs: Iterable[Pair], learned: Iterable[Pair]) -> None:
    """Warn where images that a network is scored on are among those that it learns from."""
    scored, known = [pair.image for pair in pairs], {pair.image for pair in learned}
    both = sum(image in known for image in scored)
    if both and first_process():
        text = "%d of %d images of the split are training images: the score says little about new images"
        log.warning(text, both, len(scored))


class SegmentationData(pl.LightningDataModule):
    """Training crops and whole evaluation images of one dataset.

    Args:
        config: The data section of a recipe, `config.data`; None starts from the defaults.
        seed: Of order and augmentation.
        options: Options of the data section by name, such as `crop=(64, 64)`. They replace those of `config` and
            are checked as a recipe is. `hrseg config explain data` lists them.

    Raises:
        ConfigError: An option that is unknown, wrong, or does not go with another.
        DataError: Label table or files that are not there or do not fit.

    Example:
        >>> data = SegmentationData(layout="synthetic", scenes=8, crop=(64, 64), batch_size=2)
        >>> tuple(data.sample_batch()["image"].shape)
        (2, 3, 64, 64)
    """

    def __init__(self, config: DataConfig | None = None, *, seed: int = 0, **options: Any) -> None:
        super().__init__()
        layout, known = options.get("layout", config and config.layout), [*LAYOUTS, SYNTHETIC]
        if layout not in (None, *known):
            raise ConfigError(unknown_choice("layout", str(layout), known))
        config = data_config(config, **options)
        if config.statistics == "compute":  # not known yet: no normalization
            bands = config.num_bands
            config = dataclasses.replace(config, mean=(0.0,) * bands, std=(1.0,) * bands)
        self.config = config
        self.seed = seed
        self.splits = {
            "train": config.train_split,
            "val": config.val_split,
            "test": config.test_split,
        }
        self.labels = _load_labels(config)
        if config.unmasked not in (None, *self.labels.names):
            raise ConfigError(unknown_choice("class of data.unmasked", str(config.unmasked), self.labels.names))
        self.recipe = train_recipe(config, self.labels.flip_order)

    @property
    def batch_size(self) -> int:
        """Images of a batch; Lightning's batch-size finder sets it."""
        return self.config.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self.config = dataclasses.replace(self.config, batch_size=size)

    # Pairs

    @cached_property
    def train_pairs(self) -> list[Pair]:
        """Training images."""
        return self._find("train")

    @cached_property
    def val_pairs(self) -> list[Pair]:
        """Validation images."""
        return self._find("val")

    @cached_property
    def test_pairs(self) -> list[Pair]:
        """Test images; their masks may be missing."""
        return self._find("test")

    def _find(self, use: str) -> list[Pair]:
        config, split = self.config, self.splits[use]
        if config.layout == SYNTHETIC:
            return self._synthetic_pairs(split)
        unmasked = config.unmasked is not None and use != "test"
        pairs = find_pairs(config.layout, config.root, split, masks=config.masks, bare=unmasked)
        bare = [pair.name for pair in pairs if pair.mask is None]
        if bare and use != "test" and not unmasked:
            raise DataError(
                f"{len(bare)} images of split '{split}' in {config.root} have no mask, such as "
                f"{', '.join(bare[:5])}. Set data.{use}_split to a split with masks, or data.unmasked "
                "to the class of all their pixels."
            )
        if self.labels.name != LAYOUTS[config.layout].table:
            # A pair's own table belongs to the layout's classes; the user's table replaces both.
            pairs = [pair._replace(table=None) for pair in pairs]
        return choose_tables(pairs, self.labels, self._read_ids, trusted=config.labels is not None)

    def _synthetic_pairs(self, split: str) -> list[Pair]:
        if split not in SCENE_SEEDS:
            raise DataError(unknown_choice("synthetic split", split, SCENE_SEEDS))
        scenes = self.config.scenes
        count = scenes if split == "train" else max(1, scenes // 4)
        paths = [Path(split, f"scene_{index:05d}.png") for index in range(count)]
        return [Pair(path, path, str(path.with_suffix(""))) for path in paths]

    @property
    def _read(self) -> Read:
        if self.config.layout == SYNTHETIC:
            return functools.partial(_draw_scene, self.config.scene_size)
        return make_reader(self.config)

    def _read_ids(self, pair: Pair) -> np.ndarray | None:
        if self.config.layout == SYNTHETIC:
            return _draw_scene(self.config.scene_size, pair)[1]
        return read_ids(pair)

    @cached_property
    def _counts(self) -> np.ndarray:
        """Pixels of each class in each training mask, for sampling and class weights. Shape: (N, K)."""
        return pixels_by_image(self.train_pairs, self.labels, self._read_ids)

    def count_classes(self) -> np.ndarray:
        """Count the pixels of each class in the training masks. Shape: int64 (K,)."""
        return self._counts.sum(axis=0)

    def compute_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of each band over the training images, in 0..1.

        Raises:
            DataError: A broken image, images of different bands, or a band that never changes.
        """
        log.info("mean and deviation of %d training images", len(self.train_pairs))
        by_image = {pair.image: pair for pair in self.train_pairs}

        def read(path: Path) -> np.ndarray:
            return pixels(self._read(by_image[path])[0])

        threads = min(4, os.cpu_count() or 1)
        return band_statistics(list(by_image), read, self.config.value_range, threads)

    # Lightning hooks

    def setup(self, stage: str) -> None:
        """Find the files of a stage, so that a missing folder is reported at once."""
        if stage == "fit":
            self.check_batch(self._world)
            warn_of_learned(self.val_pairs, self.train_pairs)
        if stage == "validate":
            _ = self.val_pairs
        if stage in ("test", "predict"):
            _ = self.test_pairs

    def train_dataloader(self) -> DataLoader[Any]:
        """Load shuffled, augmented crops; an epoch ends with the last full batch."""
        batch_size = self.config.batch_size
        sampler = ShardSampler(
            len(self.train_pairs),
            rank=self._rank,
            world=self._world,
            train=True,
            seed=self.seed,
            counts=self._counts if self.config.sampling == "rare" else None,
        )
        epoch, batches = resume_point(self.trainer) if self.trainer else (0, 0)
        sampler.start(epoch, batches * batch_size)
        return self._loader(self.train_set, sampler=sampler, batch_size=batch_size, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Load whole images, one at a time."""
        return self._evaluation_loader(self.val_pairs, self.config)

    def test_dataloader(self) -> DataLoader[Any]:
        """Load whole images, one at a time; images without a mask are ignored, regardless of data.unmasked."""
        return self._evaluation_loader(self.test_pairs, dataclasses.replace(self.config, unmasked=None))

    def predict_dataloader(self) -> DataLoader[Any]:
        """Load the test split."""
        return self.test_dataloader()

    def sample_batch(self) -> dict[str, Any]:
        """Load one training batch in this process, for inspection.

        Raises:
            DataError: There are fewer images than a batch holds.
        """
        self.check_batch(1)
        dataset = self.train_set
        samples = [dataset[i] for i in range(self.config.batch_size)]
        batch: dict[str, Any] = default_collate(samples)
        return batch

    @property
    def train_set(self) -> SegmentationDataset:
        """Augmented training samples."""
        return SegmentationDataset(
            self.train_pairs,
            self.labels,
            self.recipe,
            config=self.config,
            read=self._read,
            seed=self.seed,
        )

    def _evaluation_loader(self, pairs: list[Pair], config: DataConfig) -> DataLoader[Any]:
        dataset = SegmentationDataset(pairs, self.labels, config=config, read=self._read)
        sampler = ShardSampler(len(pairs), rank=self._rank, world=self._world)
        return self._loader(dataset, sampler=sampler, batch_size=1)

    def _loader(self, dataset: SegmentationDataset, **options: Any) -> DataLoader[Any]:
        workers, trainer = self.config.workers, self.trainer
        if workers is None:
            workers = default_workers(trainer.num_devices if trainer else 1)
        return DataLoader(
            dataset,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=prepare_worker,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            **options,
        )

    def check_batch(self, world: int) -> None:
        """Raise DataError where the training images do not fill one step of this many devices."""
        images, batch_size = len(self.train_pairs), self.config.batch_size
        if images < world * batch_size:
            step = f"Set data.batch_size={images // world} or less"
            if images < world:
                step = f"Use at most {images} devices with data.batch_size=1"
            raise DataError(
                f"{images} training images do not fill one step: {world} x {batch_size} (devices x "
                f"data.batch_size). {step}, or add images."
            )

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer else 1


def _load_labels(config: DataConfig) -> LabelSet:
    """Return the classes: those that data.labels names, the layout's own, or those of a file in the root."""
    own = SYNTHETIC if config.layout == SYNTHETIC else LAYOUTS[config.layout].table
    source = own if config.labels is None else config.labels
    if source is not None:
        return load_labels(source)
    table = find_classes(Path(config.root)) if config.root is not None else None
    if table is None:
        raise ConfigError(
            f"data.labels is not set. Layout '{config.layout}' has no classes of its own, and {config.root} holds no "
            "file of them: write labels.yaml there, or give any table of classes, data.labels=PATH."
        )
    return table.labels


def resume_point(trainer: pl.Trainer) -> tuple[int, int]:
    """Return the epoch that comes first, and how many of its batches a stopped run has learned.

    Lightning passes the epoch to the sampler only after the loader processes were given their first
    images, and starts an interrupted epoch over for the batches that remain.
    """
    loop: Any = trainer.fit_loop
    epoch, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress
    if epoch.ready == epoch.processed:
        return epoch.processed, 0
    if batches.is_last_batch and batches.current.processed == batches.current.ready:
        return epoch.processed + 1, 0
    return epoch.processed, batches.current.processed


def _draw_scene(size: tuple[int, int], pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    split, name = pair.image.parts
    draw = _cached_scene if size[0] * size[1] <= MAX_CACHED_PIXELS else scene
    return draw(int(Path(name).stem.removeprefix("scene_")), size, SCENE_SEEDS[split])


_cached_scene = functools.lru_cache(maxsize=512)(scene)  # drawing takes longer than learning

_RETAINED_BYTES = 2**28
"""Freed memory that a loader process keeps for its next image."""
_MMAP_BYTES = 2**25
"""Arrays from this size on come straight from the system; the most that the C library allows."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def prepare_worker(worker_id: int = 0) -> None:
    """Limit a loader process to one thread, and let it retain freed memory."""
    limit_threads(worker_id)
    retain_memory()


def retain_memory() -> None:
    """Let glibc retain freed memory instead of returning it after every image; without effect elsewhere.

    Getting a megabyte again costs as long as inflating half of it.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _RETAINED_BYTES)
        mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)


def default_workers(devices: int = 1) -> int:
    """Return loader processes per device: the cores divided among the devices, less one for training."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # a container or a batch queue may give us fewer
        cores = len(os.sched_getaffinity(0))
    return min(MAX_WORKERS, max(0, cores // devices - 1))

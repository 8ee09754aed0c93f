"""The data of a run as Lightning takes them: splits, datasets, samplers and loaders.

Nothing is read before somebody asks: pairs are found on first use, pixels in the loader processes.
"""

import functools
import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader, default_collate

from hrseg.data.cache import CachedReader
from hrseg.data.dataset import Read, SegmentationDataset, read_ids, read_pair
from hrseg.data.layouts import LAYOUTS, Pair, find_pairs
from hrseg.data.mask_encoding import settle
from hrseg.data.sampling import ShardSampler, default_workers, pixels_by_image, prepare_worker
from hrseg.data.street import scene
from hrseg.data.transforms import train_recipe
from hrseg.errors import ConfigError, DataError, unknown_choice
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD
from hrseg.imaging.bands import band_statistics
from hrseg.imaging.png_rows import pixels
from hrseg.labels import IGNORE_INDEX, LabelSet, find_classes, load_labels

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
SCENE_SEEDS = {"train": 0, "val": 1, "test": 2}
"""Split → its town. Independent of the run's seed: runs with other seeds stay comparable."""
KEPT_PIXELS = 2**16
"""Scenes up to this size are kept once drawn: 512 of them take 134 MB."""


class SegmentationData(pl.LightningDataModule):
    """Training crops and whole evaluation images of one dataset.

    Args:
        layout: A row of LAYOUTS, or "synthetic".
        root: The dataset's folder, or its zip archive.
        labels: Label table or file; None takes the layout's, or the one that lies in the folder.
        masks: Pattern of the mask of an image, see `mask_of`; for layout "folder".
        unmasked: Class of training and validation images without a mask; None refuses them.
        train_split: Split to learn from.
        val_split: Split for validation.
        test_split: Split for tests and predictions; its images need no masks.
        crop: (height, width) of training crops.
        base_size: See `train_recipe`, also for base_short_side to max_class_share.
        base_short_side: Short side at scale 1.
        first_resize: "none", "short_side" or "squash".
        scale_min: Smallest scale.
        scale_max: Largest scale.
        scale_step: Distance between scales.
        pad: "black", or "mean" for the color that is zero after normalization.
        flip: Probability of a mirrored image.
        flip_first: Mirror before the padding.
        brightness_shift: Largest shift of all channels.
        photometric: Strength of color changes.
        photometric_rule: "jitter" or "mmseg".
        max_class_share: Largest share of one class in a crop.
        sampling: "uniform", or "rare" for more of the images with rare classes.
        batch_size: Training images per device and step. Evaluation takes one at a time, at native size.
        workers: Loader processes per device; None looks at the machine.
        cache: Folder that keeps decoded images; None decodes them each time.
        cache_gb: Most that it may hold, in 10^9 bytes.
        bands: Bands of each file, as stored; None makes every image RGB of 8 bits.
        bits: Significant bits of 16-bit files that become RGB; None: what each file says, else 16.
        value_range: The stored value that becomes 1; None takes the type's.
        mean: Subtracted from images in 0..1.
        std: Divided by.
        seed: Of order and augmentation.
        scenes: Training scenes of the synthetic layout; a quarter of them validate.
        scene_size: Their (height, width).

    Raises:
        ConfigError: Unknown layout, or scales upside down.
        DataError: Label table or files that are not there or do not fit.

    Example:
        >>> data = SegmentationData(layout="synthetic", scenes=8, crop=(64, 64), batch_size=2)
        >>> tuple(data.sample_batch()["image"].shape)
        (2, 3, 64, 64)
    """

    def __init__(
        self,
        *,
        layout: str,
        root: str | Path | None = None,
        labels: str | Path | None = None,
        masks: str | None = None,
        unmasked: str | None = None,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        crop: tuple[int, int] = (512, 1024),
        base_size: int | None = None,
        base_short_side: int | None = None,
        first_resize: Literal["none", "short_side", "squash"] = "none",
        scale_min: float = 0.5,
        scale_max: float = 2.1,
        scale_step: float = 0.1,
        pad: Literal["black", "mean"] = "black",
        flip: float = 0.5,
        flip_first: bool = False,
        brightness_shift: int = 0,
        photometric: float = 0.0,
        photometric_rule: Literal["jitter", "mmseg"] = "jitter",
        max_class_share: float = 1.0,
        sampling: Literal["uniform", "rare"] = "uniform",
        batch_size: int = 3,
        workers: int | None = None,
        cache: str | Path | None = None,
        cache_gb: float = 20.0,
        bands: Sequence[int] | None = None,
        bits: int | None = None,
        value_range: float | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        seed: int = 0,
        scenes: int = 240,
        scene_size: tuple[int, int] = (128, 256),
    ) -> None:
        super().__init__()
        if layout != SYNTHETIC and layout not in LAYOUTS:
            raise ConfigError(unknown_choice("layout", layout, [*LAYOUTS, SYNTHETIC]))
        self.layout = layout
        self.root = root
        self.splits = {"train": train_split, "val": val_split, "test": test_split}
        self.labels = self._load_labels(labels)
        self.labels_chosen = labels is not None
        self.masks, self.unmasked = masks, unmasked
        if unmasked is not None and unmasked not in self.labels.names:
            raise ConfigError(unknown_choice("class of data.unmasked", unmasked, self.labels.names))
        self.recipe = train_recipe(
            crop=crop,
            base_size=base_size,
            base_short_side=base_short_side,
            first_resize=first_resize,
            scale_min=scale_min,
            scale_max=scale_max,
            scale_step=scale_step,
            fill=tuple(mean) if pad == "mean" else (0.0,),
            value_range=value_range,
            flip=flip,
            flip_first=flip_first,
            flip_order=self.labels.flip_order,
            brightness_shift=brightness_shift,
            photometric=photometric,
            photometric_rule=photometric_rule,
            max_class_share=max_class_share,
        )
        self.sampling = sampling
        self.batch_size = batch_size
        self.workers = workers
        self.cache, self.cache_gb = cache, cache_gb
        self.bands = None if bands is None else tuple(bands)
        self.bits, self.value_range = bits, value_range
        self.mean, self.std = tuple(mean), tuple(std)
        self.seed = seed
        self.scenes, self.scene_size = scenes, scene_size

    def _load_labels(self, source: str | Path | None) -> LabelSet:
        own = SYNTHETIC if self.layout == SYNTHETIC else LAYOUTS[self.layout].table
        if source is not None or own is not None:
            return load_labels(source if source is not None else str(own))
        table = find_classes(Path(self.root)) if self.root is not None else None
        if table is None:
            raise ConfigError(
                f"data.labels is not set. Layout '{self.layout}' has no classes of its own, and {self.root} holds no "
                "file of them: write labels.yaml there, or give any table of classes, data.labels=PATH."
            )
        return table.labels

    # Pairs

    @cached_property
    def train_pairs(self) -> list[Pair]:
        """Images to learn from."""
        return self._find("train")

    @cached_property
    def val_pairs(self) -> list[Pair]:
        """Images to validate with."""
        return self._find("val")

    @cached_property
    def test_pairs(self) -> list[Pair]:
        """Images of the test; their masks may be missing."""
        return self._find("test")

    def _find(self, use: str) -> list[Pair]:
        split = self.splits[use]
        if self.layout == SYNTHETIC:
            return self._synthetic_pairs(split)
        background = self.unmasked is not None and use != "test"
        pairs = find_pairs(self.layout, self.root, split, masks=self.masks, bare=background)
        bare = [pair.name for pair in pairs if pair.mask is None]
        if bare and use != "test" and not background:
            raise DataError(
                f"{len(bare)} images of split '{split}' in {self.root} have no mask, such as "
                f"{', '.join(bare[:5])}. Set data.{use}_split to a split with masks, or data.unmasked "
                "to the class of all their pixels."
            )
        if self.labels.name != LAYOUTS[self.layout].table:
            # A pair's own table belongs to the layout's classes; the user's table replaces both.
            pairs = [pair._replace(table=None) for pair in pairs]
        return settle(pairs, self.labels, self._read_ids, trusted=self.labels_chosen)

    def _synthetic_pairs(self, split: str) -> list[Pair]:
        if split not in SCENE_SEEDS:
            raise DataError(unknown_choice("synthetic split", split, SCENE_SEEDS))
        count = self.scenes if split == "train" else max(1, self.scenes // 4)
        paths = [Path(split, f"scene_{index:05d}.png") for index in range(count)]
        return [Pair(path, path, str(path.with_suffix(""))) for path in paths]

    @property
    def _read(self) -> Read:
        if self.layout == SYNTHETIC:
            return functools.partial(_draw_scene, self.scene_size)
        if self.cache is not None:
            return CachedReader(self.cache, self.cache_gb, self.bands, self.bits)
        return functools.partial(read_pair, bands=self.bands, bits=self.bits)

    @property
    def _read_ids(self) -> Callable[[Pair], np.ndarray | None]:
        if self.layout == SYNTHETIC:
            return functools.partial(_draw_scene_ids, self.scene_size)
        return read_ids

    @cached_property
    def _counts(self) -> np.ndarray:
        """Pixels of each class in each training mask, counted once for whoever asks. Shape: (N, K)."""
        return pixels_by_image(self.train_pairs, self.labels, self._read_ids)

    def count_classes(self) -> np.ndarray:
        """Count the pixels of each class in the training masks. Shape: int64 (K,)."""
        return self._counts.sum(axis=0)

    def compute_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and deviation of each band over the training images, in 0..1.

        Raises:
            DataError: A broken image, images of different bands, or a band that never changes.
        """
        log.info("mean and deviation of %d training images", len(self.train_pairs))
        by_image = {pair.image: pair for pair in self.train_pairs}

        def read(path: Path) -> np.ndarray:
            return pixels(self._read(by_image[path])[0])

        return band_statistics(list(by_image), read, self.value_range, min(4, os.cpu_count() or 1))

    # What Lightning calls

    def setup(self, stage: str) -> None:
        """Find the files the stage needs, so that a missing folder is named at once."""
        if stage == "fit":
            self._check_batch(self._world)
        if stage in ("fit", "validate"):
            _ = self.val_pairs
        if stage in ("test", "predict"):
            _ = self.test_pairs

    def train_dataloader(self) -> DataLoader[Any]:
        """Load shuffled, varied crops; an epoch ends with the last full batch."""
        sampler = ShardSampler(
            len(self.train_pairs),
            rank=self._rank,
            world=self._world,
            train=True,
            seed=self.seed,
            counts=self._counts if self.sampling == "rare" else None,
        )
        epoch, batches = resume_point(self.trainer) if self.trainer else (0, 0)
        sampler.start(epoch, batches * self.batch_size)
        return self._loader(
            self.train_set, sampler=sampler, batch_size=self.batch_size, drop_last=True
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Load whole images, one at a time."""
        return self._evaluation_loader(self.val_pairs, self._unmasked)

    def test_dataloader(self) -> DataLoader[Any]:
        """Load whole images, one at a time."""
        return self._evaluation_loader(self.test_pairs)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Load the test split."""
        return self.test_dataloader()

    def sample_batch(self) -> dict[str, Any]:
        """Load one training batch here and now, to look at.

        Raises:
            DataError: There are fewer images than a batch holds.
        """
        self._check_batch(1)
        dataset = self.train_set
        batch: dict[str, Any] = default_collate([dataset[i] for i in range(self.batch_size)])
        return batch

    @property
    def train_set(self) -> SegmentationDataset:
        """Samples to learn from, varied by the recipe."""
        return SegmentationDataset(
            self.train_pairs,
            self.labels,
            self.recipe,
            read=self._read,
            mean=self.mean,
            std=self.std,
            value_range=self.value_range,
            unmasked=self._unmasked,
            seed=self.seed,
        )

    @property
    def _unmasked(self) -> int:
        """The trainId of images without a mask."""
        return IGNORE_INDEX if self.unmasked is None else self.labels.names.index(self.unmasked)

    def _evaluation_loader(
        self, pairs: list[Pair], unmasked: int = IGNORE_INDEX
    ) -> DataLoader[Any]:
        dataset = SegmentationDataset(
            pairs,
            self.labels,
            unmasked=unmasked,
            read=self._read,
            mean=self.mean,
            std=self.std,
            value_range=self.value_range,
        )
        sampler = ShardSampler(len(pairs), rank=self._rank, world=self._world)
        return self._loader(dataset, sampler=sampler, batch_size=1)

    def _loader(self, dataset: SegmentationDataset, **options: Any) -> DataLoader[Any]:
        workers = default_workers(self._devices_here) if self.workers is None else self.workers
        return DataLoader(
            dataset,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=prepare_worker,
            pin_memory=self._on_cuda,
            **options,
        )

    def _check_batch(self, world: int) -> None:
        images = len(self.train_pairs)
        if images < world * self.batch_size:
            step = f"Set data.batch_size={images // world} or less"
            if images < world:
                step = f"Use at most {images} devices with data.batch_size=1"
            raise DataError(
                f"{images} training images do not fill one step: {world} x {self.batch_size} (devices x "
                f"data.batch_size). {step}, or add images."
            )

    # Where we are; alone as long as no Trainer has taken us

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _devices_here(self) -> int:
        return self.trainer.num_devices if self.trainer else 1

    @property
    def _on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def resume_point(trainer: pl.Trainer) -> tuple[int, int]:
    """Return the epoch that comes first, and how many batches of it a stopped run has learned.

    Lightning tells the sampler the epoch only after the loader processes were given their first
    images, and lets an interrupted epoch start over for the batches that remain.
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
    draw = _drawn_before if size[0] * size[1] <= KEPT_PIXELS else scene
    return draw(int(Path(name).stem.removeprefix("scene_")), size, SCENE_SEEDS[split])


_drawn_before = functools.lru_cache(maxsize=512)(scene)  # drawing takes longer than learning


def _draw_scene_ids(size: tuple[int, int], pair: Pair) -> np.ndarray:
    return _draw_scene(size, pair)[1]

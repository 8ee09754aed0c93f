"""The data of a run, and what of the config the training images decide."""

import dataclasses
import logging

from hrseg.config import Config
from hrseg.data.datamodule import SegmentationData

log = logging.getLogger(__name__)


def build_data(config: Config) -> SegmentationData:
    """Build the datamodule from the data section."""
    return SegmentationData(
        layout=config.data.layout,
        root=config.data.root,
        labels=config.data.labels,
        masks=config.data.masks,
        unmasked=config.data.unmasked,
        train_split=config.data.train_split,
        val_split=config.data.val_split,
        test_split=config.data.test_split,
        crop=config.data.crop,
        base_size=config.data.base_size,
        base_short_side=config.data.base_short_side,
        first_resize=config.data.first_resize,
        scale_min=config.data.scale_min,
        scale_max=config.data.scale_max,
        scale_step=config.data.scale_step,
        pad=config.data.pad,
        flip=config.data.flip,
        flip_first=config.data.flip_first,
        brightness_shift=config.data.brightness_shift,
        photometric=config.data.photometric,
        photometric_rule=config.data.photometric_rule,
        max_class_share=config.data.max_class_share,
        sampling=config.data.sampling,
        batch_size=config.data.batch_size,
        workers=config.data.workers,
        cache=config.data.cache,
        cache_gb=config.data.cache_gb,
        bands=config.data.bands,
        value_range=config.data.value_range,
        mean=_of_all_bands(config, config.data.mean, 0.0),
        std=_of_all_bands(config, config.data.std, 1.0),
        seed=config.run.seed,
        scenes=config.data.scenes,
        scene_size=config.data.scene_size,
    )


def _of_all_bands(config: Config, values: tuple[float, ...], unknown: float) -> tuple[float, ...]:
    """Return mean or deviation; what is still to be computed counts as unknown."""
    return (unknown,) * bands_of(config) if config.data.statistics == "compute" else values


def bands_of(config: Config) -> int:
    """Return how many bands the network sees."""
    return 3 if config.data.bands is None else len(config.data.bands)


def settle_statistics(config: Config) -> Config:
    """Compute data.mean and data.std where the config asks for it, and return it with them as given.

    Raises:
        DataError: The training images cannot be read, or a band never changes.
    """
    if config.data.statistics == "given":
        return config
    mean, std = build_data(config).compute_statistics()
    mean, std = (tuple(round(value, 7) for value in values) for values in (mean, std))
    log.info("data.mean=%s data.std=%s", list(mean), list(std))
    data = dataclasses.replace(config.data, mean=mean, std=std, statistics="given")
    return dataclasses.replace(config, data=data)

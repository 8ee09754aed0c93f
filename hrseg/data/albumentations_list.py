"""The list data.transforms: further transforms of albumentations, checked by name, argument and a trial."""

import inspect
import os
import warnings
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version

import albumentations as A
import numpy as np

from hrseg.config import DataConfig
from hrseg.errors import ConfigError, did_you_mean
from hrseg.labels import IGNORE_INDEX

_ID = 200
"""A trainId of the mask that is tried."""
_MIRRORING = ("HorizontalFlip", "VerticalFlip", "Transpose", "D4", "SquareSymmetry")


def build_transform(entry: Mapping[str, Any], config: DataConfig, paired: bool) -> A.BasicTransform:
    """Build one entry of data.transforms and try it on a black crop, so that no run fails on it later.

    Args:
        entry: "name" of a transform of albumentations, and its arguments.
        config: Gives crop and bands.
        paired: Whether the class table pairs classes, which only our own mirrors exchange.

    Raises:
        ConfigError: An unknown name or argument, a value that albumentations refuses, or a result that is no crop.
    """
    arguments = {name: value for name, value in entry.items() if name != "name"}
    name = str(entry.get("name"))
    bases = (A.DualTransform, A.ImageOnlyTransform)
    known = {
        each: made
        for each, made in vars(A).items()
        if isinstance(made, type) and issubclass(made, bases) and made not in bases
    }
    if name not in known:
        raise ConfigError(
            f"data.transforms: albumentations has no transform '{name}' that changes an image, or image and mask."
            f"{did_you_mean(name, known)} Each entry is such as {{name: GaussNoise, p: 0.2}}."
        )
    if paired and name in _MIRRORING:
        raise ConfigError(
            f"data.transforms: {name} mirrors, but does not exchange the classes that the table pairs, such as left "
            "and right arm. Use data.flip, data.vflip and data.rotate90."
        )
    allowed = inspect.signature(known[name]).parameters
    for argument in arguments:
        if argument not in allowed:
            hint = did_you_mean(argument, allowed) or f" It takes: {', '.join(allowed)}."
            raise ConfigError(f"data.transforms: {name} has no argument '{argument}'.{hint}")
    if "fill_mask" in allowed and allowed["fill_mask"].default is not None:
        arguments.setdefault("fill_mask", IGNORE_INDEX)  # what comes in from outside has no class
    image = np.zeros((*config.crop, config.num_bands), np.uint8)
    mask = np.zeros(config.crop, np.uint8)
    mask[: config.crop[0] // 2, : config.crop[1] // 2] = _ID
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of arguments that albumentations drops
            step = known[name](**arguments)
            step.p, chance = 1.0, step.p
            result = step(image=image, mask=mask)
            step.p = chance
    except Exception as error:  # a library's; whatever it says is about these arguments
        reason = " ".join(str(error).split()) or type(error).__name__
        cause: Any = error.__cause__
        if hasattr(cause, "errors"):  # pydantic's text ends with its version and an address
            reason = "; ".join(str(part["msg"]) for part in cause.errors())
        raise ConfigError(f"data.transforms: {name} cannot run with {arguments}: {reason}") from error
    made, ids = result["image"], result["mask"]
    if not all(
        isinstance(new, np.ndarray) and (new.shape, new.dtype) == (old.shape, old.dtype)
        for new, old in ((made, image), (ids, mask))
    ):
        raise ConfigError(
            f"data.transforms: {name} changes the size or the type of a crop of {config.crop[0]}x{config.crop[1]}. "
            "Sizes are set by data.crop and the scales, normalization by data.mean and data.std; leave it out."
        )
    mixed = set(np.unique(ids)) - {0, _ID, IGNORE_INDEX, arguments.get("fill_mask")}
    if mixed:
        raise ConfigError(
            f"data.transforms: {name} with {arguments} mixes classes into others: a mask of 0 and {_ID} came back with "
            f"{min(mixed)}. Leave out mask_interpolation, which is nearest neighbor by default."
        )
    return step

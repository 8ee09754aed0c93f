"""Augmentation of a data section, for tests of what it does."""

from collections.abc import Sequence
from typing import Any

from hrseg.config import DataConfig
from hrseg.data.transforms import TrainRecipe, train_recipe


def recipe_of(flip_order: Sequence[int] | None = None, **options: Any) -> TrainRecipe:
    return train_recipe(DataConfig(**options), flip_order)

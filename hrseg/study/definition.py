"""What a study compares: a recipe and the words that make each variant, from a YAML file or the command line."""

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hrseg.config import PACKAGED_CONFIGS, find_config, find_yaml, list_titles
from hrseg.errors import ConfigError, did_you_mean

FOLDER = "studies"
_FOLDERS = (Path("configs", FOLDER), PACKAGED_CONFIGS / FOLDER)
KEYS = ("recipe", "variants", "words", "seeds")
_OURS = {"run.name": "the variant's name", "run.seed": "the study's seeds (--seeds 0,1,2)"}
"""Options a study sets itself, and from what."""


@dataclass(frozen=True)
class Study:
    """Variants of one recipe.

    Attributes:
        name: Of its folder.
        recipe: The recipe's file.
        variants: Name → words that the variant adds to the recipe.
        words: Words for all variants, before their own.
        seeds: Each variant is trained once with each; empty means once, with the recipe's seed.

    Raises:
        ConfigError: Names, words or seeds that cannot work.
    """

    name: str
    recipe: Path
    variants: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.variants:
            raise ConfigError(
                f"Study '{self.name}' has no variants. Name at least one, such as: variants: {{plain: []}}"
            )
        for kind, name in (("study", self.name), *(("variant", name) for name in self.variants)):
            if name in {"", ".", ".."} or Path(name).name != name or "\\" in name:
                raise ConfigError(
                    f"The {kind} '{name}' cannot be called so: its runs lie in a folder of that name. Choose "
                    "letters, digits and '_'."
                )
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ConfigError(
                f"The seeds of study '{self.name}' are {', '.join(map(str, self.seeds))}. They must be different "
                "whole numbers from 0 on."
            )
        for word in (*self.words, *(w for words in self.variants.values() for w in words)):
            check_word(word)


def check_word(word: str) -> None:
    """Refuse a word that is not key=value, or sets what the study sets.

    Raises:
        ConfigError: The word cannot be used.
    """
    key, equals, _ = word.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"'{word}' is not key=value, such as model.head=unet. All keys: hrseg config explain."
        )
    if key in _OURS:
        raise ConfigError(f"{key} is set by the study, from {_OURS[key]}. Remove '{word}'.")


def list_studies() -> dict[str, str]:
    """Name every study in ./configs/studies and in the package, with the first line of its header."""
    return list_titles(_FOLDERS)


def find_study(name: str | os.PathLike[str]) -> Path:
    """Find a study: as a path, then in ./configs/studies, then among the packaged ones.

    Raises:
        ConfigError: There is no such file.
    """
    found = find_yaml(name, [Path(), *_FOLDERS])
    if found is not None:
        return found
    names = list(list_studies())
    raise ConfigError(
        f"There is no study '{os.fspath(name)}': not as a file, not in ./configs/{FOLDER} and not among the packaged "
        f"ones ({', '.join(names)}).{did_you_mean(Path(name).stem, names)} To compare variants of a recipe without "
        "a file, name each with --variant."
    )


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read a study file.

    Args:
        path: A YAML file with `recipe` and `variants`, and perhaps `words` and `seeds`; or the name of one. The
            recipe is looked up beside the file first.

    Raises:
        ConfigError: The file is missing or cannot be understood.

    Example:
        >>> list(read_study("exchange").variants)
        ['full', 'between_stages', 'final', 'branches_from_start']
    """
    file = find_study(path)
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"{file} cannot be read as YAML: {reason}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{file} is no study. It needs 'recipe: NAME' and 'variants:'.")
    for key in tree:
        if key not in KEYS:
            raise ConfigError(
                f"{file}: a study has no '{key}'. It has {', '.join(KEYS)}.{did_you_mean(str(key), KEYS)}"
            )
    recipe, variants = tree.get("recipe"), tree.get("variants")
    if not isinstance(recipe, str) or not isinstance(variants, dict):
        raise ConfigError(
            f"{file}: a study needs 'recipe: NAME' and 'variants:' with a list of words under each name, such as "
            "'unet: [model.backbone=resnet18, model.head=unet]'."
        )
    seeds = tree.get("seeds") or []
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise ConfigError(
            f"{file}: seeds is {seeds}. It must be a list of whole numbers, such as [0, 1]."
        )
    return Study(
        name=file.stem,
        recipe=_recipe(recipe, file.parent),
        variants={str(name): _words(words, file) for name, words in variants.items()},
        words=_words(tree.get("words"), file),
        seeds=tuple(seeds),
    )


def _recipe(name: str, beside: Path) -> Path:
    try:
        return find_config(name, beside)
    except ConfigError:
        return find_config(name)


def _words(value: Any, file: Path) -> tuple[str, ...]:
    if value is None:
        return ()
    words = value if isinstance(value, list) else [value]
    for word in words:
        if not isinstance(word, str):
            raise ConfigError(
                f"{file}: '{word}' is not a key=value word. Write words as on the command line, in quotes where they "
                "hold commas or colons: ['data.crop=[64,64]', 'loss.terms={ohem: 1}']."
            )
    return tuple(words)


def variants_from_words(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read variants of the command line: a name and its words, in one text each.

    Raises:
        ConfigError: A text that cannot be read, or a name that comes twice.

    Example:
        >>> variants_from_words(["plain", "final model.exchange=final"])
        {'plain': (), 'final': ('model.exchange=final',)}
    """
    variants: dict[str, tuple[str, ...]] = {}
    for text in texts:
        try:
            name, *words = shlex.split(text)
        except ValueError as error:
            raise ConfigError(
                f"--variant '{text}' is not a name and key=value words. Right would be: "
                "--variant 'unet model.backbone=resnet18 model.head=unet'"
            ) from error
        if name in variants or "=" in name:
            problem = (
                "is there twice" if name in variants else "begins with a word, not with a name"
            )
            raise ConfigError(
                f"--variant '{text}': '{name}' {problem}. Right would be: --variant 'NAME key=value ...'"
            )
        variants[name] = tuple(words)
    return variants

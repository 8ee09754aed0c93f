"""Translation of official HRNet yaml files and mmsegmentation configs to recipes; files are read, never executed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from hrseg.config import config_from_dict
from hrseg.config.values import read_yaml
from hrseg.errors import ConfigError
from hrseg.migrate import mmseg, official
from hrseg.migrate.python_files import read_python_config
from hrseg.migrate.recipe import Recipe

__all__ = ["Recipe", "translate"]


def translate(path: str | Path) -> Recipe:
    """Translate an official HRNet yaml or an mmsegmentation HRNet config.

    Args:
        path: The .yaml, .yml or .py file.

    Returns:
        The recipe; `to_yaml()` comments each difference in meaning.

    Raises:
        ConfigError: The file cannot be read, is of another kind, or describes something that hrseg lacks.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        raise ConfigError(
            f"{path} is neither a .yaml nor a .py file. Give an official HRNet yaml or an mmsegmentation config."
        )
    content = _READERS[path.suffix](path)
    for kind in (official, mmseg):
        if kind.recognizes(content):
            recipe = _translated(kind, content, path)
            config_from_dict(yaml.safe_load(recipe.to_yaml()), source=f"{path.name}, translated")
            return recipe
    raise ConfigError(
        f"{path} is neither an official HRNet yaml (MODEL, DATASET and TRAIN at the top) nor an mmsegmentation config "
        "(a model with backbone and decode_head). Recipes of hrseg need no translation: hrseg fit --config FILE."
    )


def _translated(kind: ModuleType, content: dict[str, Any], path: Path) -> Recipe:
    try:
        recipe: Recipe = kind.translate(content, path.name)
        return recipe
    except ConfigError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        # The values of an untrusted file may have any form; the translation asks for those of published files.
        raise ConfigError(
            f"{path} cannot be translated: a value has another form than in published configs ({error}). Correct it "
            "there, or write the recipe by hand from hrseg config explain."
        ) from error


def _read_official(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds no options. Give an official HRNet yaml.")
    return dict(content)


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".yaml": _read_official,
    ".yml": _read_official,
    ".py": read_python_config,
}

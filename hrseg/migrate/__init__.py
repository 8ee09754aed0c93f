"""Translation of official HRNet yaml files and mmsegmentation configs to recipes; files are read, never executed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hrseg.config import config_from_dict
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
            recipe = kind.translate(content, path.name)
            config_from_dict(yaml.safe_load(recipe.to_yaml()), source=f"{path.name}, translated")
            return recipe
    raise ConfigError(
        f"{path} is neither an official HRNet yaml (MODEL, DATASET and TRAIN at the top) nor an mmsegmentation config "
        "(a model with backbone and decode_head). Recipes of hrseg need no translation: hrseg fit --config FILE."
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(f"{path} is not valid YAML: {first}.") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds no options. Give an official HRNet yaml.")
    return dict(content)


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".py": read_python_config,
}

"""Where recipes and other YAML files are: named by a path, in ./configs, or packaged."""

import os
from collections.abc import Iterable
from pathlib import Path

from hrseg.errors import ConfigError, did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
PACKAGED_CONFIGS = next(
    (folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()),
    _PACKAGE / "configs",
)
"""The recipes that ship: inside the wheel, or beside the package in a checkout."""
_FOLDERS = (Path("configs"), PACKAGED_CONFIGS)


def find_config(name: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """Find a recipe: as a path, then in ./configs, then among the packaged ones.

    Args:
        name: A path or a recipe's name, with or without ".yaml".
        beside: The folder of the file that extends it; then `name` is looked up there instead of in
            the current folder.

    Raises:
        ConfigError: There is no such file.
    """
    folders = [Path(), *_FOLDERS] if beside is None else [beside, PACKAGED_CONFIGS]
    found = find_yaml(name, folders)
    if found is not None:
        return found
    names = list(list_recipes())
    raise ConfigError(
        f"There is no config '{os.fspath(name)}': not as a file"
        f"{f' in {shown(beside)}' if beside else ', not in ./configs'} and not among the {len(names)} packaged "
        f"recipes.{did_you_mean(Path(name).stem, names)} To see all recipes: hrseg config list"
    )


def list_recipes() -> dict[str, str]:
    """Name every recipe in ./configs and in the package, with the first line of its header."""
    return list_titles(_FOLDERS)


def find_yaml(name: str | os.PathLike[str], folders: Iterable[Path]) -> Path | None:
    """Return the file of this name, with or without ".yaml", in the first folder that has it."""
    for folder in folders:
        for candidate in (folder / name, folder / f"{os.fspath(name)}.yaml"):
            if candidate.is_file():
                return candidate
    return None


def list_titles(folders: Iterable[Path]) -> dict[str, str]:
    """Name every YAML file in these folders, earlier folders first, with the first line of its header."""
    titles: dict[str, str] = {}
    for file in (file for folder in folders for file in sorted(folder.glob("*.yaml"))):
        first = file.read_text(encoding="utf-8").split("\n", 1)[0]
        titles.setdefault(file.stem, first.lstrip("# ").strip() if first.startswith("#") else "")
    return dict(sorted(titles.items()))


def shown(path: Path) -> str:
    """Name a file briefly: relative to here, or as one of the packaged recipes."""
    path, here = path.resolve(), Path.cwd()
    if path.is_relative_to(PACKAGED_CONFIGS) and here != PACKAGED_CONFIGS.parent:
        return f"packaged {path.relative_to(PACKAGED_CONFIGS.parent).as_posix()}"
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)

"""Where recipes are: files named by a path, in ./configs, or packaged."""

import os
from pathlib import Path

from hrseg.errors import ConfigError, did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
PACKAGED_CONFIGS = next(
    (folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()),
    _PACKAGE / "configs",
)
"""The recipes that ship: inside the wheel, or beside the package in a checkout."""


def find_config(name: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """Find a recipe: as a path, then in ./configs, then among the packaged ones.

    Args:
        name: A path or a recipe's name, with or without ".yaml".
        beside: The folder of the file that extends it; then `name` is looked up there instead of in
            the current folder.

    Raises:
        ConfigError: There is no such file.
    """
    folders = [Path(), Path("configs")] if beside is None else [beside]
    for folder in [*folders, PACKAGED_CONFIGS]:
        for candidate in (folder / name, folder / f"{os.fspath(name)}.yaml"):
            if candidate.is_file():
                return candidate
    names = list(list_recipes())
    raise ConfigError(
        f"There is no config '{os.fspath(name)}': not as a file"
        f"{f' in {shown(beside)}' if beside else ', not in ./configs'} and not among the packaged "
        f"recipes ({', '.join(names)}).{did_you_mean(Path(name).stem, names)}"
    )


def list_recipes() -> dict[str, str]:
    """Name every recipe in ./configs and in the package, with the first line of its header."""
    files = [*sorted(Path("configs").glob("*.yaml")), *sorted(PACKAGED_CONFIGS.glob("*.yaml"))]
    titles: dict[str, str] = {}
    for file in files:
        first = file.read_text(encoding="utf-8").split("\n", 1)[0]
        titles.setdefault(file.stem, first.lstrip("# ").strip() if first.startswith("#") else "")
    return dict(sorted(titles.items()))


def shown(path: Path) -> str:
    """Name a file briefly: relative to here, or as one of the packaged recipes."""
    path, here = path.resolve(), Path.cwd()
    if path.is_relative_to(PACKAGED_CONFIGS) and here != PACKAGED_CONFIGS.parent:
        return f"packaged {path.relative_to(PACKAGED_CONFIGS.parent).as_posix()}"
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)

"""Loading of YAML files and `key=value` arguments into one frozen `Config`.

Files and arguments become a list of settings, each with its origin; later ones win. After all are merged, `${...}`
links are resolved, limits checked, and the result is frozen.
"""

import contextlib
import copy
import dataclasses
import functools
import math
import os
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hrseg.config.checks import check_data, check_together
from hrseg.config.data import DataConfig
from hrseg.config.options import LIMITS, Option
from hrseg.config.schema import OPTIONS, SECTIONS, Config
from hrseg.config.values import closest, compose_yaml, flow, numbers, plain, read_text, texts
from hrseg.errors import ConfigError, did_you_mean

COMMAND_LINE = "command line"
_MAX_FILES = 100  # that one recipe extends
_FUNCTION_LINK = re.compile(r"\$\{[^}]*:")  # such as ${oc.env:HOME}


@dataclass(frozen=True)
class _Setting:
    """One value and its origin."""

    key: str
    value: Any
    origin: str


def load_config(path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe, apply `key=value` overrides, check everything and freeze it.

    Args:
        path: A YAML file, or the name of a recipe (in ./configs, then among the packaged ones).
            None starts from the defaults.
        overrides: Such as "data.batch_size=2"; the last one wins.

    Raises:
        ConfigError: A wrong file, key, value or combination; names file, line and key.

    Example:
        >>> load_config("demo", ["data.batch_size=2"]).data.batch_size
        2
    """
    return load_config_with_origins(path, overrides)[0]


def load_config_with_origins(
    path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()
) -> tuple[Config, dict[str, str]]:
    """Load as `load_config` does, and return the origin of each key that was set as well."""
    file = None if path is None else find_config(path)
    settings = [] if file is None else list(_read_file(file, (), []))
    return _compose([*settings, *_read_overrides(overrides)], name=file.stem if file else None)


def config_from_dict(values: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "config") -> Config:
    """Rebuild a Config from plain values, such as those in a checkpoint, and apply overrides.

    Args:
        values: Section → name → value, as `config_to_dict` gives it.
        overrides: Such as "data.root=/data/cityscapes".
        source: Name of `values` in an error message.

    Raises:
        ConfigError: As for `load_config`.
    """
    return _compose([*_walk(values, source), *_read_overrides(overrides)])[0]


def data_config(config: DataConfig | None = None, **options: Any) -> DataConfig:
    """Return a data section with options replaced, checked as that of a recipe is.

    Args:
        config: What to start from; None takes the defaults.
        options: Option of the data section → value; paths may be `pathlib.Path`.

    Raises:
        ConfigError: An option that is unknown, wrong, or does not go with another.

    Example:
        >>> data_config(layout="synthetic", batch_size=2).batch_size
        2
    """
    if config is not None and not options:
        return config
    values = {} if config is None else dict(vars(config))
    values |= {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in options.items()}
    settings = _walk({"data": values}, "keyword argument")
    return _compose(settings, check=lambda config: check_data(config.data))[0].data


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return a Config as plain dicts, lists, numbers and text, for checkpoints and YAML."""
    return {
        section: {name: plain(value) for name, value in values.items()}
        for section, values in dataclasses.asdict(config).items()
    }


def published_recipes() -> list[str]:
    """List the recipes that have published scores; files that do not load are left out.

    Example:
        >>> "cityscapes_w48" in published_recipes()
        True
    """
    names = []
    for name in list_recipes():
        with contextlib.suppress(ConfigError):
            if load_config(name).published.scores:
                names.append(name)
    return names


def _read_file(path: Path, chain: tuple[Path, ...], read: list[Path]) -> Iterator[_Setting]:
    """Yield the settings of a file, those of the files it extends first."""
    name = shown(path)
    if path.resolve() in chain:
        raise ConfigError(f"{name} extends itself through {shown(chain[-1])}.")
    read.append(path)
    if len(read) > _MAX_FILES:
        raise ConfigError(
            f"{shown(read[0])} extends more than {_MAX_FILES} files, counting those that these extend. Name each "
            "file once."
        )
    text = read_text(path)
    root = compose_yaml(text, name)
    if root is not None and root.tag != "tag:yaml.org,2002:map":
        raise ConfigError(f"{name} holds no sections such as 'model:' and 'data:'.")
    try:
        tree: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {error.problem}.") from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{name} cannot be read: {error}") from error
    lines = dict(_line_numbers(root))
    pieces = tree.pop("extends", None) or []
    pieces = [pieces] if isinstance(pieces, str) else pieces
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise ConfigError(f"{name}:{lines['extends']}: extends must be a list of file names.")
    for piece in pieces:
        yield from _read_file(find_config(piece, path.parent), (*chain, path.resolve()), read)
    yield from _walk(tree, name, lines)


def _line_numbers(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, key.start_mark.line + 1
            yield from _line_numbers(value, f"{name}.")


def _read_overrides(overrides: Iterable[str]) -> Iterator[_Setting]:
    """Yield the settings of `key=value` arguments."""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"'{override}' is not key=value, such as data.batch_size=2. All keys: hrseg config explain."
            )
        try:
            tree = OmegaConf.to_container(OmegaConf.from_dotlist([override]), resolve=False)
        except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(
                f"The value '{value}' of {key} is not valid YAML. Quote it for the shell and for "
                f"YAML, for example: '{key}=\"...\"'."
            ) from error
        yield from _walk(typing.cast(dict[str, Any], tree), COMMAND_LINE)


def _walk(
    tree: Mapping[Any, Any], source: str, lines: Mapping[str, int] | None = None, prefix: str = ""
) -> Iterator[_Setting]:
    """Flatten nested mappings into settings; refuse keys that the schema lacks."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        line = (lines or {}).get(key)
        origin = f"{source}:{line}" if line else source
        if key in OPTIONS:
            yield _Setting(key, value, origin)
        elif key in SECTIONS and isinstance(value, Mapping):
            yield from _walk(value, source, lines, f"{key}.")
        elif key in SECTIONS and value is not None:
            example = next(known for known in OPTIONS if known.startswith(f"{key}."))
            raise ConfigError(f"{origin}: {key} is a section, not a value. Set {example}, for example.")
        elif key not in SECTIONS:
            listing = f"hrseg config explain {prefix.strip('.')}".strip()
            hint = suggest(key) or f" All there are: {listing}"
            raise ConfigError(f"{origin}: {key} is not an option.{hint}")


@functools.cache
def _defaults() -> DictConfig:
    """Return the schema with its defaults, to be copied: OmegaConf takes five times as long to read the dataclasses."""
    tree = OmegaConf.structured(Config)
    for node in (tree, *(tree[section] for section in SECTIONS)):
        OmegaConf.set_readonly(node, None)  # frozen dataclasses start read-only
    return tree


def _compose(
    settings: Iterable[_Setting],
    name: str | None = None,
    check: Callable[[Config], None] = check_together,
) -> tuple[Config, dict[str, str]]:
    """Merge settings into the schema, resolve links, check and freeze."""
    tree = copy.deepcopy(_defaults())
    origins: dict[str, str] = {}
    for setting in settings:
        _merge(tree, setting)
        parts = setting.value if isinstance(setting.value, dict) else {}
        names = [f"{setting.key}.{part}" for part in parts] or [setting.key]
        origins.update(dict.fromkeys(names, setting.origin))
    if name is not None and not OmegaConf.is_interpolation(tree.run, "name") and tree.run.name is None:
        tree.run.name, origins["run.name"] = name, "name of the config file"
    for key in OPTIONS:
        _resolve(tree, key, origins.get(key, "default"))
    terms = {name: weight for name, weight in tree.loss.terms.items() if weight != 0}
    if len(tree.loss.terms) and not terms:
        raise ConfigError("loss.terms: every weight is 0. Give one a positive weight.")
    tree.loss.terms = terms
    tree.published.scores = {name: score for name, score in tree.published.scores.items() if score}
    config = typing.cast(Config, OmegaConf.to_object(tree))
    check(config)
    return config, origins


def _merge(tree: DictConfig, setting: _Setting) -> None:
    """Write one setting into the tree; raise for a wrong type."""
    row = OPTIONS[setting.key]
    for text in texts(setting.value):
        if _FUNCTION_LINK.search(text):
            raise ConfigError(
                f"{setting.origin}: {row.key} is '{text}'. Links name another option, such as "
                "${data.batch_size}; functions and environment variables are not read."
            )
    if isinstance(setting.value, bool) and bool not in (row.type, *typing.get_args(row.type)):
        raise _wrong_type(row, setting.value, setting.origin)
    try:
        OmegaConf.update(tree, setting.key, setting.value, merge=True)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise _wrong_type(row, setting.value, setting.origin) from error


def _resolve(tree: DictConfig, key: str, origin: str) -> None:
    """Resolve the link of one option, and check its value against the limits."""
    row = OPTIONS[key]
    try:
        value = OmegaConf.select(tree, key, throw_on_missing=True, throw_on_resolution_failure=True)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        section, name = key.split(".")
        raw = typing.cast(Any, OmegaConf.to_container(tree, resolve=False))[section][name]
        if raw == MISSING:
            raise ConfigError(f"{key} is not set. {row.doc}") from error
        raise ConfigError(
            f"{origin}: {key} is '{flow(raw)}', and that does not lead to {row.kind}. A link names "
            "another option in full, such as ${data.batch_size}."
        ) from error
    for number in numbers(value):
        wrong = [name for name, bound in row.limits.items() if not LIMITS[name][0](number, bound)]
        finite = "" if abs(number) < math.inf else "finite"  # math.isfinite fails at 10**400
        if wrong or finite:
            wanted = " and ".join(text for text in (row.range, finite) if text)
            raise ConfigError(f"{origin}: {key} is {flow(value)}. It must be {wanted}. See: hrseg config explain {key}")


def _wrong_type(row: Option, value: Any, origin: str) -> ConfigError:
    close = did_you_mean(str(value), row.choices) if row.choices else ""
    example = f", such as {flow(row.default)}" if isinstance(row.default, (tuple, float)) else ""
    quoted = f"'{value}'" if isinstance(value, str) else flow(value)
    return ConfigError(f"{origin}: {row.key} is {quoted}. It must be {row.kind}{example}.{close}")


def suggest(key: str) -> str:
    """Return " Did you mean 'data.batch_size'?": the same name elsewhere, or a close spelling."""
    name = key.rpartition(".")[2]
    known = [*SECTIONS, *OPTIONS]
    same = [other for other in OPTIONS if other.rpartition(".")[2] == name]
    siblings = [other for other in known if other.rpartition(".")[0] == key.rpartition(".")[0]]
    best = closest(key, siblings) or next(iter(same), "") or closest(key, known)
    if not best:
        tails = {other.rpartition(".")[2]: other for other in reversed(list(OPTIONS))}
        best = tails.get(closest(name, tails), "")
    return f" Did you mean '{best}'?" if best else ""


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
    """Return the recipes in ./configs and in the package with the first line of their header."""
    return list_titles(_FOLDERS)


def find_yaml(name: str | os.PathLike[str], folders: Iterable[Path]) -> Path | None:
    """Return the file of this name, with or without ".yaml", in the first folder that has it."""
    for folder in folders:
        for candidate in (folder / name, folder / f"{os.fspath(name)}.yaml"):
            if candidate.is_file():
                return candidate
    return None


def list_titles(folders: Iterable[Path]) -> dict[str, str]:
    """Return the YAML files in these folders, the first of a name, with the first line of their header."""
    titles: dict[str, str] = {}
    for file in (file for folder in folders for file in sorted(folder.glob("*.yaml"))):
        first = file.read_text(encoding="utf-8").split("\n", 1)[0]
        titles.setdefault(file.stem, first.lstrip("# ").strip() if first.startswith("#") else "")
    return dict(sorted(titles.items()))


def shown(path: Path) -> str:
    """Return a short name of a file: relative to the current folder, or as a packaged recipe."""
    path, here = path.resolve(), Path.cwd()
    if path.is_relative_to(PACKAGED_CONFIGS) and here != PACKAGED_CONFIGS.parent:
        return f"packaged {path.relative_to(PACKAGED_CONFIGS.parent).as_posix()}"
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)

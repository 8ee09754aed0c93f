"""Plain values: reading them from YAML, their YAML text, and the strings and numbers nested in them."""

import difflib
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hrseg.errors import ConfigError

MAX_BYTES = 2**18
"""Of a recipe, a study or another toolkit's config; real ones take a few kilobytes."""
MAX_VALUES = 50_000
"""Values of one file, each counted wherever it is referred to."""
MAX_DEPTH = 50


def read_text(path: Path) -> str:
    """Read a small text file in UTF-8.

    Raises:
        ConfigError: It is missing, no regular file, larger than MAX_BYTES, or no text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path} is no file, but a folder, a pipe or a device. Give a file.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(
                f"{path} has more than {MAX_BYTES:,} bytes, and no recipe or config has. Give another file."
            )
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: it is no text in UTF-8. Give another file.") from error


def compose_yaml(text: str, name: object) -> yaml.Node | None:
    """Parse YAML into nodes, of which there are no more than MAX_VALUES with all that aliases repeat.

    Raises:
        ConfigError: It is not valid, nests deeper than MAX_DEPTH, or refers to its own parts without bounds.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {str(error).splitlines()[0]}.") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: not valid YAML: it nests without end.") from error
    nodes, count = [(root, 0)], 0
    while nodes:
        node, depth = nodes.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise ConfigError(
                f"{name} holds more than {MAX_VALUES:,} values, or they nest deeper than {MAX_DEPTH} levels. No "
                "recipe or config does; write them out where they are repeated by an alias (*)."
            )
        if isinstance(node, yaml.CollectionNode):
            parts = node.value
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in parts for part in pair]
            nodes += [(part, depth + 1) for part in parts]
    return root


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain values.

    Raises:
        ConfigError: As for `read_text` and `compose_yaml`, or a value is no value of its kind.
    """
    text = read_text(path)
    compose_yaml(text, path)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # such as 2026-99-99, or a number of 5,000 digits
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from error


def closest(value: str, choices: Iterable[str]) -> str:
    """Return the most similar choice, or an empty string if none is similar."""
    return next(iter(difflib.get_close_matches(value, list(choices), n=1, cutoff=0.75)), "")


def flow(value: Any) -> str:
    """Format a value as YAML on one line."""
    text = yaml.safe_dump(plain(value), default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def plain(value: Any) -> Any:
    """Turn mappings and tuples into dicts and lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def texts(value: Any) -> Iterator[str]:
    """Yield the texts inside a value."""
    return (leaf for leaf in _leaves(value) if isinstance(leaf, str))


def numbers(value: Any) -> Iterator[float]:
    """Yield the numbers inside a value; true and false are none."""
    leaves = _leaves(value)
    return (x for x in leaves if isinstance(x, (int, float)) and not isinstance(x, bool))

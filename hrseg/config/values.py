"""Plain values: their YAML text, and the strings and numbers nested in them."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml


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

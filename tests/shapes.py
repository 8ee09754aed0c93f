"""Values of any shape, to stand in each place of a card or a checkpoint that a stranger wrote."""

import copy
from collections.abc import Iterator
from typing import Any


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a card, the first two of each list."""
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from nodes(part, (*path, key))
    elif isinstance(value, list):
        for place, part in enumerate(value[:2]):
            yield from nodes(part, (*path, place))


def changed(card: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    card = copy.copy(card)
    card[path[0]] = changed(card[path[0]], path[1:], value)
    return card


NUMBERS = [True, -1, 0, 3.5, 10**30, 10**400, 1e308, float("nan"), float("inf"), 2**31]
STRANGE = [
    None,
    *NUMBERS,
    "",
    "x" * 10_000,
    [],
    {},
    {"a": 1},
    [1],
    ["a"] * 3,
    [[1, 2], [3]],
    [[]] * 3,
]
STRANGE += [[0, 0, 0], [float("nan")] * 3, [True] * 3, [0.5] * 5000, [[[["a"] * 9] * 9] * 9] * 9]

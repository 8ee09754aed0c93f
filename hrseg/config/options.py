"""Declaration of one option: type, default, doc and limits, as a dataclass field and as a row of the schema."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

LIMITS = {
    "low": (lambda value, bound: value >= bound, "at least {}"),
    "above": (lambda value, bound: value > bound, "above {}"),
    "high": (lambda value, bound: value <= bound, "at most {}"),
    "below": (lambda value, bound: value < bound, "below {}"),
}


def option(default: Any, doc: str, **limits: float) -> Any:
    """Declare an option: a dataclass field with its doc and limits in the metadata.

    Args:
        default: Default value; lists and mappings are copied for each Config.
        doc: One or two sentences: what it does, in which unit, why one would change it.
        limits: low, high (both inclusive), above, below (both exclusive), for each number in it.
    """
    metadata = {"doc": doc, **limits}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """One row of the schema, for `hrseg config explain` and the checks."""

    key: str
    type: Any
    default: Any
    doc: str
    limits: Mapping[str, float]

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words; empty if every value of the type is allowed."""
        for kind in (self.type, *typing.get_args(self.type)):
            if typing.get_origin(kind) is Literal:
                return typing.get_args(kind)
        return ()

    @property
    def kind(self) -> str:
        """The type in words."""
        return _describe(self.type)

    @property
    def range(self) -> str:
        """The limits in words, or an empty string."""
        return ", ".join(LIMITS[name][1].format(bound) for name, bound in self.limits.items())


_NOUNS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "words"),
}


def _describe(kind: Any, plural: bool = False) -> str:
    """Describe a type for users: int → "a whole number"."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _describe(part) for part in inner)
    if origin is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)} {_describe(inner[0], plural=True)}"
    if origin in (list, tuple):
        return f"a list of {_describe(inner[0], plural=True)}"
    if origin is dict:
        return f"a mapping from names to {_describe(inner[1], plural=True)}"
    return _NOUNS.get(kind, ("any value", "values"))[plural]


def list_options(schema: Any) -> dict[str, Option]:
    """Return every option of a dataclass of sections by its dotted key, in their order."""
    rows = {}
    for section in dataclasses.fields(schema):
        hints = typing.get_type_hints(section.type)
        for item in dataclasses.fields(typing.cast(Any, section.type)):
            default = item.default
            if item.default_factory is not dataclasses.MISSING:
                default = item.default_factory()
            limits = {name: item.metadata[name] for name in LIMITS if name in item.metadata}
            key = f"{section.name}.{item.name}"
            rows[key] = Option(key, hints[item.name], default, item.metadata["doc"], limits)
    return rows

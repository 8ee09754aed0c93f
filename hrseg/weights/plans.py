"""What a restricted pickle turns into before any tensor exists, and how plans become tensors.

Plans are small: a tensor's plan says which bytes of which storage it is made of. So a whole file is judged (nesting,
sizes against the file's own size) before memory is spent on it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hrseg.weights.errors import Damaged, Forbidden, TooLarge

MAX_DEPTH = 64
"""Nesting of containers."""
MAX_SIDES = 32
SLACK = 1 << 20
"""Bytes that a small file may declare above its own size."""
_DTYPE = re.compile(r"[<>|=]?(?:[biufc]\d{1,2}|[?]|[SU]\d{1,7})")


def sides_of(value: Any) -> tuple[int, ...]:
    """Return a shape or strides as a tuple.

    Raises:
        Damaged: It is none.

    Example:
        >>> sides_of([2, 3])
        (2, 3)
    """
    if isinstance(value, list | tuple) and len(value) <= MAX_SIDES:
        sides = tuple(value)
        if all(type(side) is int and 0 <= side < 1 << 62 for side in sides):
            return sides
    raise Damaged("a tensor or array has no sound shape")


@dataclass(frozen=True)
class Symbol:
    """A name that a pickle holds. It is never looked up in Python."""

    path: str


class Ordered(dict[Any, Any]):
    """A dictionary that the file calls OrderedDict, defaultdict or Counter."""


@dataclass(eq=False)
class Placeholder:
    """An inert thing in the place of an object whose class is known and of no use here, such as a recipe's config.

    Attributes:
        name: Its class.
        content: What the file says of it, as plain values.
    """

    name: str
    content: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """A run of numbers in a torch file: elements of one type, beginning at `offset` of the record `key`."""

    key: str
    dtype: torch.dtype
    count: int
    offset: int = 0


@dataclass(frozen=True)
class TensorPlan:
    """A view of a storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def nbytes(self) -> int:
        """Bytes of the tensor when it stands alone."""
        return math.prod(self.size) * self.dtype.itemsize

    def check(self) -> None:
        """Refuse a view that leaves its storage."""
        if len(self.size) != len(self.stride):
            raise Damaged(f"a tensor has shape {self.size} and strides {self.stride}")
        steps = zip(self.size, self.stride, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in steps)
        room = self.storage.count * self.storage.dtype.itemsize // self.dtype.itemsize
        if math.prod(self.size) and last >= room:
            raise Damaged(f"a tensor of shape {self.size} is larger than its {room:,} numbers")


@dataclass
class Dtype:
    """A numpy type by its short name, such as <f4."""

    name: str

    def build(self, state: Any) -> None:
        """Take the byte order; records and objects are refused."""
        order, *rest = state[1:]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in rest[:3]):
            raise Forbidden("it holds a numpy array of records or objects")
        self.name = f"{order}{self.name.lstrip('<>|=')}"

    def numpy(self) -> "np.dtype[Any]":
        """Return the type.

        Raises:
            Forbidden: It is no number or text.
        """
        if not _DTYPE.fullmatch(self.name):
            raise Forbidden(f"it holds a numpy array of type '{self.name}'")
        return np.dtype(self.name)


@dataclass
class Array:
    """A numpy array, before its bytes are looked at."""

    dtype: Dtype | None = None
    shape: tuple[int, ...] = ()
    fortran: bool = False
    raw: Any = b""

    def build(self, state: Any) -> None:
        """Take version, shape, type, order and bytes."""
        _, shape, dtype, fortran, raw = state
        self.fill(shape, dtype, bool(fortran), raw)

    def fill(self, shape: Any, dtype: Any, fortran: bool, raw: Any) -> None:
        """Check that shape, type and bytes agree, and keep them.

        Raises:
            Forbidden: The array holds objects.
            Damaged: They do not agree.
        """
        if not isinstance(dtype, Dtype) or isinstance(raw, list):
            raise Forbidden("it holds a numpy array of objects")
        shape = sides_of(shape)
        if math.prod(shape) * dtype.numpy().itemsize != len(raw):
            raise Damaged(f"an array of shape {shape} and type {dtype.name} has {len(raw):,} bytes")
        self.dtype, self.shape, self.fortran, self.raw = dtype, shape, fortran, raw

    def numpy(self) -> np.ndarray:
        """Return the array, in the byte order of this machine and in memory of its own."""
        if self.dtype is None:
            raise Damaged("an array was begun and never filled")
        raw = self.raw.encode("latin-1") if isinstance(self.raw, str) else self.raw
        flat = np.frombuffer(raw, self.dtype.numpy())
        array = flat.reshape(self.shape, order="F" if self.fortran else "C")
        return array.astype(array.dtype.newbyteorder("="), order="C", copy=True)

    def tensor(self) -> torch.Tensor:
        """Return the array as a tensor.

        Raises:
            Forbidden: torch has no such type.
        """
        array = self.numpy()
        try:
            return torch.from_numpy(array)
        except TypeError as error:
            raise Forbidden(f"it holds a numpy array of type '{array.dtype}'") from error


class Budget:
    """Adds up what tensors will take, and refuses files that declare more than they can hold.

    Args:
        file_size: Bytes of the file. Tensors may share numbers (tied weights), so four times that may be
            declared.
    """

    def __init__(self, file_size: int) -> None:
        self.left = 4 * file_size + SLACK

    def spend(self, count: int, what: str) -> None:
        """Take bytes from the budget."""
        self.left -= count
        if self.left < 0:
            raise TooLarge(
                f"{what} with its other tensors would take far more memory than the file has bytes"
            )


def finish(content: Any, budget: Budget, tensor: Callable[[TensorPlan], Any]) -> Any:
    """Turn plans into what callers see: tensors and plain types.

    Args:
        content: From a `Machine`.
        budget: What tensors may take.
        tensor: Makes a tensor of its plan. For a check without memory, return anything.

    Raises:
        Refusal: Too deep, holding itself, or too large.
    """
    done: dict[int, Any] = {}
    under_way: set[int] = set()

    def walk(value: Any, depth: int) -> Any:
        make = _MAKERS.get(type(value))
        if make is None:
            return value
        identity = id(value)
        if identity in done:
            return done[identity]
        if identity in under_way or depth > MAX_DEPTH:
            raise Damaged(f"its containers hold each other, or nest deeper than {MAX_DEPTH}")
        under_way.add(identity)
        if isinstance(value, TensorPlan):
            budget.spend(value.nbytes(), f"a tensor of shape {value.size}")
            done[identity] = tensor(value)
        elif isinstance(value, Array):
            budget.spend(len(value.raw), f"an array of shape {value.shape}")
            done[identity] = value.tensor()
        else:
            done[identity] = make(value, lambda part: walk(part, depth + 1))
        under_way.discard(identity)
        return done[identity]

    return walk(content, 0)


Walk = Callable[[Any], Any]


def _dictionary(value: dict[Any, Any], walk: Walk) -> dict[Any, Any]:
    return {key: walk(part) for key, part in value.items()}


def _stand_in(value: Placeholder, walk: Walk) -> Placeholder:
    return Placeholder(value.name, _dictionary(value.content, walk))


def _symbol(value: Symbol, _: Walk) -> Any:
    known = getattr(torch, value.path.removeprefix("torch."), None)
    return known if isinstance(known, torch.dtype) else Placeholder(value.path)


_MAKERS: dict[type, Callable[[Any, Walk], Any]] = {
    dict: _dictionary,
    Ordered: _dictionary,
    list: lambda value, walk: [walk(part) for part in value],
    tuple: lambda value, walk: tuple(walk(part) for part in value),
    memoryview: lambda value, _: bytes(value),
    Placeholder: _stand_in,
    Symbol: _symbol,
    Dtype: lambda value, _: value.name,
    Storage: lambda value, _: Placeholder("torch.Storage"),
    TensorPlan: lambda value, _: value,
    Array: lambda value, _: value,
}
"""How each kind is finished. Other values (numbers, text, sets of them) are finished already."""

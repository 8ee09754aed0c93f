"""Restricted unpickler for checkpoints: builds tensors, arrays and plain values, and calls nothing a file names.

Python's own `pickle._Unpickler` follows the stack machine. Its instruction table is cut down to what data need, and
the instructions that call, hash or fill something are replaced: names are looked up in the tables below, never in
Python. Instructions, nesting, sizes and hashed keys are bounded, so that a hostile file costs bounded time and memory.
`torch.load(weights_only=True)` and the C unpickler have no such bounds; docs/decisions/0020-pickle-reader.md.
"""

import math
import pickle
import re
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from hrseg.weights.allowed_globals import (
    INERT,
    MENTIONED,
    STORAGES,
    Array,
    Dtype,
    Placeholder,
    Storage,
    Symbol,
    current_path,
    plain,
)
from hrseg.weights.errors import Damaged, Forbidden, TooLarge

MAX_READS = 3_000_000
"""One-byte reads, at least one an instruction; a checkpoint of the largest HRNet with its optimizer needs 600,000."""
MAX_DIMENSIONS = 32
MAX_TUPLE_KEYS = 1_000
"""Tuples are hashed without a secret, so a file may choose many that collide."""
MAX_NAME = 512
KEEP_IN_FILE = 1 << 16
"""Longer byte strings stay views into the mapped file, so that big arrays are copied once."""
HEADROOM = 16 << 20
"""Bytes that the values of a small file may take above four times its own size."""


class Reader:
    """File object of an unpickler over mapped bytes; it never returns less than asked for.

    Args:
        data: The bytes.
        at: Where the pickle begins; after loading, where it ended.
    """

    def __init__(self, data: memoryview, at: int = 0) -> None:
        self.data, self.at, self.reads = data, at, 0

    def read(self, count: int) -> bytes | memoryview:
        """Return the next bytes; long ones as a view."""
        self.reads += count == 1
        if self.reads > MAX_READS:
            raise TooLarge("its pickle has more instructions than any checkpoint's")
        if count > len(self.data) - self.at:
            raise Damaged("it ends in the middle")
        self.at += count
        view = self.data[self.at - count : self.at]
        return view if count > KEEP_IN_FILE else bytes(view)

    def readline(self) -> bytes:
        """Return the bytes up to the end of a line, which ends a name."""
        name, end, _ = bytes(self.data[self.at : self.at + MAX_NAME]).partition(b"\n")
        if not end:
            raise Damaged("a name in its pickle has no end")
        self.at += len(name) + 1
        return name + end


_NONSENSE = (
    *(TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError),
    *(AssertionError, EOFError, struct.error, pickle.UnpicklingError),
)
"""Errors of Python, numpy and torch on pickles that promise one thing and hold another."""


class SafeUnpickler(pickle._Unpickler):
    """Loads one pickle into tensors, plain values and placeholders.

    Args:
        reader: The bytes.
        file_size: Bytes of the whole file. Tensors may share numbers (tied weights), so four times that may be
            taken.
        storage: Turns a persistent id into a `Storage`, for torch's files.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, reader: Reader, file_size: int, storage: Callable[[Any], Storage] | None = None) -> None:
        super().__init__(reader)  # type: ignore[arg-type]  # views into the file are as good
        self.reader, self.storage = reader, storage
        self.budget, self.tuple_keys = 4 * file_size + HEADROOM, 0

    def load(self) -> Any:
        """Return the content of the pickle.

        Raises:
            Refusal: It is damaged, asks for something outside the tables, or is too large.
        """
        try:
            return plain(super().load(), self.budget)
        except _NONSENSE as error:
            near = f"its pickle makes no sense near byte {self.reader.at:,}"
            raise Damaged(near) from error

    def find_class(self, module: str, name: str) -> Symbol:
        """Return an admitted name, under the spelling of today's Python and numpy."""
        path = current_path(module, name)
        if path not in ADMITTED:
            raise Forbidden(f"it asks for '{path[:120]}', which is neither tensor, array nor plain type")
        return Symbol(path)

    def persistent_load(self, pid: Any) -> Storage:
        """Return a storage of a torch file."""
        if self.storage is None:
            raise Forbidden("it refers to data outside the file")
        return self.storage(pid)

    def _decode_string(self, value: Any) -> Any:
        """Read a str of Python 2: text where it is ASCII, else raw bytes."""
        return value.decode() if isinstance(value, bytes) and value.isascii() else value

    def spend(self, count: int, what: str = "it") -> None:
        """Count bytes that a few instructions may have made large."""
        self.budget -= count
        if self.budget < 0:
            raise TooLarge(f"{what} would take far more memory than the file has bytes")

    def key(self, key: Any) -> Any:
        """Return a dictionary key: a plain value or a flat tuple, since hashing nested ones can take forever."""
        if isinstance(key, Symbol):
            return key.path
        items = key if isinstance(key, tuple) and len(key) <= 16 else (key,)
        if not all(isinstance(item, str | int | float | bytes | None) for item in items):
            raise Forbidden(f"it uses a {type(key).__name__} as a key")
        # Larger numbers are hashed modulo 2**61 - 1, so a file may choose many that collide.
        if any(isinstance(item, int) and item.bit_length() > 60 for item in items):
            raise Forbidden("it uses a number of more than 60 bits as a key")
        self.tuple_keys += items is key
        if self.tuple_keys > MAX_TUPLE_KEYS:
            raise TooLarge(f"it uses more than {MAX_TUPLE_KEYS:,} tuples as keys")
        return key

    def make_dict(self, pairs: Any = ()) -> dict[Any, Any]:
        """Build a dictionary of another one, or of pairs."""
        pairs = pairs.items() if isinstance(pairs, dict) else _items(pairs)
        return {self.key(key): value for key, value in pairs}

    def make_set(self, items: Any = ()) -> set[Any]:
        """Build a set."""
        made = {self.key(item) for item in _items(items)}
        self.spend(sys.getsizeof(made))
        return made

    def fill(self, array: Array, shape: Any, dtype: Any, fortran: Any, raw: Any) -> Array:
        """Let an array view its bytes, once shape, type and bytes agree."""
        if not isinstance(dtype, Dtype) or isinstance(raw, list):
            raise Forbidden("it holds a numpy array of objects")
        if not re.fullmatch(r"[<>|=]?(?:[biufc]\d{1,2}|[?]|[SU]\d{1,7})", dtype.name):
            raise Forbidden(f"it holds a numpy array of type '{dtype.name}'")
        kind, sizes = np.dtype(dtype.name), tuple(dimensions(shape))
        if math.prod(sizes) * kind.itemsize != len(raw):
            raise Damaged(f"an array of shape {sizes} and type {dtype.name} has {len(raw):,} bytes")
        self.spend(len(raw), f"an array of shape {sizes}")
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        array.values = np.frombuffer(raw, kind).reshape(sizes, order="F" if fortran else "C")
        return array

    # Replaced instructions; the others are Python's.

    def _reduce(self) -> None:
        """Build what the file means by calling a name."""
        arguments, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, Symbol) or not isinstance(arguments, tuple):
            raise Forbidden("it calls something that is not a name")
        builder = BUILDERS.get(target.path)
        if builder is not None:
            value = builder(self, *arguments)
        elif target.path in INERT:
            value = Placeholder(target.path, {"arguments": arguments} if arguments else {})
        else:
            raise Forbidden(f"it calls '{target.path}'")
        self.spend(sys.getsizeof(value))
        self.append(value)

    def _build(self) -> None:
        """Give an object its state."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Array):
            self.fill(target, *state[1:])
        elif isinstance(target, Dtype):
            order, *parts = state[1:5]
            if order not in ("<", ">", "|", "=") or any(part is not None for part in parts):
                raise Forbidden("it holds a numpy array of records or objects")
            target.name = order + target.name.lstrip("<>|=")
        elif isinstance(target, Placeholder):
            if isinstance(state, dict) and not target.content:
                target.content = state  # no copy: a file may give one state to many
            else:
                target.content["state"] = state
        elif not isinstance(target, dict):
            raise Forbidden(f"it gives a {type(target).__name__} a state")
        elif not isinstance(state, dict) or not state.keys() <= {"_metadata"}:
            raise Forbidden("it gives a dictionary attributes")

    def _extend(self, items: Iterable[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target = target.content.setdefault("items", [])
        if type(target) is not list:
            raise Forbidden(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target = target.content
        if type(target) is not dict:
            raise Forbidden(f"it sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self.key(key)] = value

    def _add_items(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise Forbidden(f"it adds to a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(self.key, items))


class _Instructions(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise Forbidden(f"it holds instruction {code:#04x}, which data do not need")


_OF_PYTHON = """
    PROTO STOP GLOBAL STACK_GLOBAL BINPERSID MARK POP POP_MARK DUP
    BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 SHORT_BINSTRING BINSTRING
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST EMPTY_DICT
"""
_REPLACED: dict[str, Callable[[Any], None]] = {
    "FRAME": lambda self: self.read(8),  # Python copies the frame
    "BYTEARRAY8": pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],  # Python allocates first
    "REDUCE": SafeUnpickler._reduce,
    "NEWOBJ": SafeUnpickler._reduce,
    "BUILD": SafeUnpickler._build,
    "APPEND": lambda self: self._extend([self.stack.pop()]),
    "APPENDS": lambda self: self._extend(self.pop_mark()),
    "SETITEM": lambda self: self._set_items([self.stack.pop(-2), self.stack.pop()]),
    "SETITEMS": lambda self: self._set_items(self.pop_mark()),
    "EMPTY_SET": lambda self: self.append(self.make_set()),
    "FROZENSET": lambda self: self.append(self.make_set(self.pop_mark())),
    "ADDITEMS": SafeUnpickler._add_items,
}
SafeUnpickler.dispatch = _Instructions(
    {
        getattr(pickle, name)[0]: _REPLACED.get(name) or pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in (*_OF_PYTHON.split(), *_REPLACED)
    }
)


def dimensions(value: Any) -> torch.Size:
    """Return a shape or strides, which fit torch's 64 bits."""
    if not isinstance(value, list | tuple) or len(value) > MAX_DIMENSIONS:
        raise Damaged("a tensor or array has no sound shape")
    if not all(type(size) is int and 0 <= size < 1 << 62 for size in value):
        raise Damaged("a tensor or array has no sound shape")
    return torch.Size(value)


def _tensor(unpickler: SafeUnpickler, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> torch.Tensor:
    """Build a view of a storage; `more` are requires_grad, hooks and, in the third form, the dtype."""
    if not isinstance(storage, Storage):
        raise Damaged("a tensor has no storage")
    dtype = getattr(torch, more[2].path.removeprefix("torch.")) if len(more) > 2 else storage.dtype
    (offset,), size, stride = dimensions([offset]), dimensions(size), dimensions(stride)
    if len(size) != len(stride):
        raise Damaged(f"a tensor has shape {tuple(size)} and strides {tuple(stride)}")
    if 0 in size:
        return torch.empty(size, dtype=dtype)
    numbers = storage.data.view(dtype)  # (N,)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(numbers):
        raise Damaged(f"a tensor of shape {tuple(size)} is larger than its {len(numbers):,} numbers")
    unpickler.spend(math.prod(size) * dtype.itemsize, f"a tensor of shape {tuple(size)}")
    return numbers.as_strided(size, stride, numbers.storage_offset() + offset)


def _tensor_before_0_4(unpickler: SafeUnpickler, *arguments: Any) -> torch.Tensor:
    return _tensor(unpickler, *arguments[:4])


def _items(value: Any) -> Any:
    """Let only containers be copied item by item; bytes would become eight times their size."""
    if not isinstance(value, list | tuple | set):
        raise Damaged(f"a {type(value).__name__} stands where a list should")
    return value


def _bytes(_: SafeUnpickler, text: Any = b"", codec: Any = "latin-1") -> bytes:
    if not isinstance(codec, str) or codec.lower() not in ("latin1", "latin-1", "iso-8859-1"):
        raise Forbidden("it encodes text in an unusual way")
    if not isinstance(text, str | bytes | memoryview):
        raise Forbidden(f"it makes bytes of a {type(text).__name__}")
    return text.encode("latin-1") if isinstance(text, str) else bytes(text)


def _number(unpickler: SafeUnpickler, dtype: Any, raw: Any) -> Any:
    values = unpickler.fill(Array(), (), dtype, False, raw).values
    assert values is not None
    return values.item()


def _array_from_buffer(unpickler: SafeUnpickler, raw: Any, dtype: Any, shape: Any, order: Any = "C") -> Array:
    return unpickler.fill(Array(), shape, dtype, order == "F", raw)


def _method(_: SafeUnpickler, owner: Any, name: Any) -> Placeholder:
    """Stand in for a method of an inert class: mmengine's log buffers mention their own. It is not looked up."""
    if not isinstance(owner, Symbol) or owner.path not in INERT or not isinstance(name, str):
        raise Forbidden(f"it asks for an attribute of {getattr(owner, 'path', 'a value')}")
    return Placeholder(f"{owner.path}.{name}")


def _dtype(_: SafeUnpickler, name: Any, *_more: Any) -> Dtype:
    if isinstance(name, Symbol):  # numpy.dtype(bool) of old files
        name = np.dtype(name.path.removeprefix("builtins.")).str
    if not isinstance(name, str) or name.lstrip("<>|=")[:1] in ("O", "V", ""):
        raise Forbidden("it holds a numpy array of objects")
    return Dtype(name)


BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor_before_0_4,
    "torch._utils._rebuild_tensor_v2": _tensor_before_0_4,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": lambda _, data, *_more: data,
    "torch.Size": lambda _, sides=(): dimensions(sides),
    "torch.device": lambda _, kind, *index: torch.device(kind, *index),
    "collections.OrderedDict": SafeUnpickler.make_dict,
    "collections.Counter": SafeUnpickler.make_dict,
    "collections.defaultdict": lambda self, _factory=None, pairs=(): self.make_dict(pairs),
    "builtins.set": SafeUnpickler.make_set,
    "builtins.frozenset": SafeUnpickler.make_set,
    "builtins.tuple": lambda _, items=(): tuple(_items(items)),
    "builtins.list": lambda _, items=(): list(_items(items)),
    "builtins.dict": SafeUnpickler.make_dict,
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "builtins.getattr": _method,
    "builtins.complex": lambda _, real=0.0, imaginary=0.0: complex(float(real), float(imaginary)),
    "_codecs.encode": _bytes,
    "numpy.core.multiarray._reconstruct": lambda *_: Array(),
    "numpy.core.multiarray.scalar": _number,
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "numpy.dtype": _dtype,
}
"""Name → function of the unpickler and the arguments in the file."""

ADMITTED = BUILDERS.keys() | STORAGES.keys() | MENTIONED | INERT

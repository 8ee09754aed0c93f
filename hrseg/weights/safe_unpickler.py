"""A reader of pickles that calls nothing: names in a file are looked up in our table, never in Python.

A pickle is a program for a small stack machine. This one knows the instructions that data need. Where the program
says "call NAME with these", `weights.admitted` builds a tensor's plan, an array or a plain value from the arguments,
or the file stays shut. Steps, nesting and sizes are bounded, so a hostile file costs bounded memory and time.

Source: the instructions are those of Python's pickle, protocols 2 to 5 (PEP 307, 3154, 574).
"""

import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

from hrseg.weights.allowed_globals import build, call, key_of, symbol
from hrseg.weights.errors import Damaged, Forbidden, TooLarge
from hrseg.weights.plans import Ordered, Placeholder, Symbol

MAX_STEPS = 2_000_000
"""Instructions of one pickle; a checkpoint of the largest HRNet with its optimizer has about 300,000."""
MAX_NUMBER = 64
"""Bytes of an integer."""
KEEP_IN_FILE = 1 << 16
"""Longer byte strings stay views into the file, so that big arrays are copied once."""
SLACK = 16 << 20
"""Bytes that calls of a small file may take above its own size."""
_NONSENSE = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError)


class Machine:
    """Runs one pickle.

    Args:
        data: The bytes.
        at: Where the pickle begins; after `run`, where it ended.
        storage: Turns a persistent id into a `Storage`, for torch's files.
    """

    def __init__(
        self, data: memoryview, at: int = 0, storage: Callable[[Any], Any] | None = None
    ) -> None:
        self.data, self.at = data, at
        self.storage = storage
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.left = 4 * len(data) + SLACK

    def run(self) -> Any:
        """Return what the pickle holds, tensors and arrays as plans.

        Raises:
            Refusal: It is damaged, asks for something outside the table, or is too long.
        """
        try:
            for _ in range(MAX_STEPS):
                code = self.take(1)[0]
                if code == pickle.STOP[0]:
                    return self.stack.pop()
                step = STEPS.get(code)
                if step is None:
                    raise Forbidden(f"it holds instruction {code:#04x}, which data do not need")
                step(self)
        except (*_NONSENSE, struct.error) as error:
            raise Damaged(f"its pickle makes no sense near byte {self.at:,}") from error
        raise TooLarge(f"its pickle has more than {MAX_STEPS:,} instructions")

    def take(self, count: int) -> memoryview:
        """Return the next bytes, without a copy."""
        if count > len(self.data) - self.at:
            raise Damaged("it ends in the middle")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        """Read a packed number."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """Read a name up to the end of its line."""
        near = bytes(self.data[self.at : self.at + 512])
        name, end, _ = near.partition(b"\n")
        if not end:
            raise Damaged("a name in its pickle has no end")
        self.at += len(name) + 1
        return name.decode()

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def push_new(self, value: Any) -> None:
        """Put a value on the stack that a few bytes may have made large, and count what it takes."""
        self.left -= sys.getsizeof(value)
        if self.left < 0:
            raise TooLarge("its pickle makes far more of its bytes than they hold")
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        """Take everything since the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        """Take some values from the top, the deepest first."""
        if len(self.stack) < count:
            raise Damaged("its pickle lacks values")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def remember(self, place: int) -> None:
        """Keep the top under a number."""
        self.memo[place] = self.stack[-1]


def _mark(machine: Machine) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _stacked_name(machine: Machine) -> None:
    module, name = machine.last(2)
    machine.push(symbol(module, name))


def _text(machine: Machine, length: int) -> None:
    machine.push(str(machine.take(length), "utf-8", "surrogatepass"))


def _bytes(machine: Machine, length: int) -> None:
    view = machine.take(length)
    machine.push(view if length > KEEP_IN_FILE else bytes(view))


def _old_string(machine: Machine, length: int) -> None:
    """Read a str of Python 2: text where it is ASCII, else raw bytes."""
    _bytes(machine, length)
    if isinstance(machine.stack[-1], bytes) and machine.stack[-1].isascii():
        machine.push(machine.stack.pop().decode())


def _integer(machine: Machine, length: int) -> None:
    if not 0 <= length <= MAX_NUMBER:
        raise TooLarge(f"it holds an integer of {length:,} bytes")
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


def _call(machine: Machine) -> None:
    target, arguments = machine.last(2)
    if not isinstance(target, Symbol) or not isinstance(arguments, tuple):
        raise Forbidden("it calls something that is not a name")
    machine.push_new(call(target, arguments))


def _call_with_keywords(machine: Machine) -> None:
    if machine.stack.pop():
        raise Forbidden("it calls something with keywords")
    _call(machine)


def _build(machine: Machine) -> None:
    target, state = machine.last(2)
    build(target, state)
    machine.push(target)


def _persistent(machine: Machine) -> None:
    if machine.storage is None:
        raise Forbidden("it refers to data outside the file")
    machine.push(machine.storage(machine.stack.pop()))


def _append(machine: Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Placeholder):
        target = target.content.setdefault("items", [])
    if type(target) is not list:
        raise Forbidden(f"it appends to a {type(target).__name__}")
    target.extend(items)


def _set_items(machine: Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Placeholder):
        target = target.content
    if type(target) not in (dict, Ordered):
        raise Forbidden(f"it sets items of a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key_of(key)] = value


def _add_items(machine: Machine, items: list[Any]) -> None:
    if type(machine.stack[-1]) is not set:
        raise Forbidden(f"it adds to a {type(machine.stack[-1]).__name__}")
    machine.stack[-1].update(key_of(item) for item in items)


STEPS: dict[int, Callable[[Machine], Any]] = {
    code[0]: step
    for code, step in {
        pickle.PROTO: lambda m: m.take(1),
        pickle.FRAME: lambda m: m.take(8),
        # names, calls, states
        pickle.GLOBAL: lambda m: m.push(symbol(m.line(), m.line())),
        pickle.STACK_GLOBAL: _stacked_name,
        pickle.REDUCE: _call,
        pickle.NEWOBJ: _call,
        pickle.NEWOBJ_EX: _call_with_keywords,
        pickle.BUILD: _build,
        pickle.BINPERSID: _persistent,
        # the stack and its memory
        pickle.MARK: _mark,
        pickle.POP: lambda m: m.last(1),
        pickle.POP_MARK: lambda m: m.since_mark(),
        pickle.DUP: lambda m: m.push(m.stack[-1]),
        pickle.BINGET: lambda m: m.push(m.memo[m.take(1)[0]]),
        pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number("<I")]),
        pickle.BINPUT: lambda m: m.remember(m.take(1)[0]),
        pickle.LONG_BINPUT: lambda m: m.remember(m.number("<I")),
        pickle.MEMOIZE: lambda m: m.remember(len(m.memo)),
        # plain values
        pickle.NONE: lambda m: m.push(None),
        pickle.NEWTRUE: lambda m: m.push(True),
        pickle.NEWFALSE: lambda m: m.push(False),
        pickle.BININT: lambda m: m.push(m.number("<i")),
        pickle.BININT1: lambda m: m.push(m.take(1)[0]),
        pickle.BININT2: lambda m: m.push(m.number("<H")),
        pickle.LONG1: lambda m: _integer(m, m.take(1)[0]),
        pickle.LONG4: lambda m: _integer(m, m.number("<i")),
        pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
        pickle.SHORT_BINUNICODE: lambda m: _text(m, m.take(1)[0]),
        pickle.BINUNICODE: lambda m: _text(m, m.number("<I")),
        pickle.BINUNICODE8: lambda m: _text(m, m.number("<Q")),
        pickle.SHORT_BINBYTES: lambda m: _bytes(m, m.take(1)[0]),
        pickle.BINBYTES: lambda m: _bytes(m, m.number("<I")),
        pickle.BINBYTES8: lambda m: _bytes(m, m.number("<Q")),
        pickle.BYTEARRAY8: lambda m: _bytes(m, m.number("<Q")),
        pickle.SHORT_BINSTRING: lambda m: _old_string(m, m.take(1)[0]),
        pickle.BINSTRING: lambda m: _old_string(m, m.number("<I")),
        # containers
        pickle.EMPTY_TUPLE: lambda m: m.push(()),
        pickle.TUPLE1: lambda m: m.push(m.last(1)),
        pickle.TUPLE2: lambda m: m.push(m.last(2)),
        pickle.TUPLE3: lambda m: m.push(m.last(3)),
        pickle.EMPTY_LIST: lambda m: m.push([]),
        pickle.APPEND: lambda m: _append(m, list(m.last(1))),
        pickle.EMPTY_DICT: lambda m: m.push({}),
        pickle.SETITEM: lambda m: _set_items(m, list(m.last(2))),
        pickle.EMPTY_SET: lambda m: m.push_new(set()),
    }.items()
}
"""Instruction → what the machine does; an instruction that is not here is refused."""


def _with_items(step: Callable[[Machine, list[Any]], Any]) -> Callable[[Machine], None]:
    """Take the items since the mark first, since that uncovers the container they go to."""

    def run(machine: Machine) -> None:
        items = machine.since_mark()
        step(machine, items)

    return run


STEPS |= {
    pickle.TUPLE[0]: _with_items(lambda m, items: m.push(tuple(items))),
    pickle.FROZENSET[0]: _with_items(lambda m, items: m.push({key_of(item) for item in items})),
    pickle.APPENDS[0]: _with_items(_append),
    pickle.SETITEMS[0]: _with_items(_set_items),
    pickle.ADDITEMS[0]: _with_items(_add_items),
}

"""Python configuration files, read from their syntax tree without running them.

An mmsegmentation config is Python, but nearly always plain data: assignments of dicts, lists, numbers and strings, with
`_base_` naming the files it extends. Anything else (an import, a function, a condition) is refused with its line.

Source of the merging rules: mmengine's documentation of Config (`_base_`, `_delete_`, `{{_base_.name}}`).
"""

import ast
import copy
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from hrseg.config.values import read_text
from hrseg.errors import ConfigError

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
BUDGET = 1_000_000
"""Of one import: letters read, expressions evaluated and values made; published configs take about 20,000."""
_MAX_DEPTH = 20  # of _base_ files, and of values in values
_SIMPLE = (str, int, float, bool, type(None))


_CALLS = ("dict", "len", "list", "max", "min", "sum", "tuple")


class _Import:
    """One import: what it may still spend, and the files read so far."""

    def __init__(self, path: Path) -> None:
        self.path, self.left = path, BUDGET
        self.files: dict[Path, dict[str, Any]] = {}

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ConfigError(
                f"{self.path} takes far more values or steps than any config, so it was not read to its end. Give "
                "the full config that a training run saved (work_dirs/NAME/NAME.py), which is plain."
            )

    def measure(self, value: Any, depth: int = 0) -> None:
        """Spend the size of a value, whose parts count wherever they are referred to."""
        self.spend(1)
        if depth > _MAX_DEPTH:
            raise ConfigError(
                f"{self.path} holds values that nest deeper than {_MAX_DEPTH} levels, or hold themselves. Give the "
                "full config that a training run saved (work_dirs/NAME/NAME.py)."
            )
        parts = value.values() if isinstance(value, dict) else value
        for part in parts if isinstance(value, (dict, list, tuple)) else ():
            self.measure(part, depth + 1)

    def call(self, name: str, arguments: list[Any], named: dict[str, Any]) -> Any:
        """Call one of the functions that configs use; TypeError for another one or other arguments."""
        first: Any = arguments[0] if arguments else ()
        sized = first if isinstance(first, (list, tuple, dict)) else ()
        self.spend(len(sized))
        match name, arguments:
            case "dict", []:
                return named
            case "dict", [dict()]:
                return {**first, **named}
            case "len" | "list" | "tuple", [list() | tuple() | dict()]:
                made: dict[str, Callable[[Any], Any]] = {"len": len, "list": list, "tuple": tuple}
                return made[name](first)
            case "max" | "min", _:
                numbers = [v for v in sized or arguments if float(v) == v]  # lists compare without end
                return max(numbers) if name == "max" else min(numbers)
            case "sum", [list() | tuple(), *start] if not named:
                total = start[0] if start else 0
                for part in first:
                    self.spend(sum(len(v) for v in (total, part) if isinstance(v, (list, tuple))))
                    total = total + part
                return total
        raise TypeError(f"{name}() with these arguments")


def read_python_config(path: Path) -> dict[str, Any]:
    """Read a config file with its `_base_` files as name → plain value, each file once.

    Raises:
        ConfigError: A file is missing, is not Python, contains more than plain data, or exceeds `BUDGET`.
    """
    try:
        return _read(path, (), _Import(path))
    except RecursionError as error:
        raise ConfigError(
            f"{path} nests without end. Give the full config that a training run saved (work_dirs/NAME/NAME.py)."
        ) from error


def _read(path: Path, before: tuple[Path, ...], budget: _Import) -> dict[str, Any]:
    path = path.resolve()
    if path in before or len(before) > _MAX_DEPTH:
        raise ConfigError(f"{path} builds on itself through _base_: {' → '.join(p.name for p in before)}.")
    if path not in budget.files:
        budget.files[path] = _evaluate(path, before, budget)
    budget.measure(budget.files[path])
    return copy.deepcopy(budget.files[path])  # a file may change what it builds on


def _evaluate(path: Path, before: tuple[Path, ...], budget: _Import) -> dict[str, Any]:
    tree = _parse(path, _text(path, before, budget))
    bases: dict[str, Any] = {}
    for name in _bases(path, tree, budget):
        bases = _merged(path, bases, _read(path.parent / name, (*before, path), budget))
    values: dict[str, Any] = {}
    reader = _Reader(path, bases, values, budget)
    for statement in tree.body:
        reader.run(statement)
    values.pop("_base_", None)
    budget.measure(bases)
    budget.measure(values)
    return _merged(path, bases, values)


def _merged(path: Path, base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    try:
        merged: dict[str, Any] = merge(base, change)
        return merged
    except (IndexError, ValueError) as error:
        raise ConfigError(
            f"{path.name} changes an item of a list that its _base_ files lack ({error}). Give the full config that a "
            "training run saved (work_dirs/NAME/NAME.py)."
        ) from error


def _text(path: Path, before: tuple[Path, ...], budget: _Import) -> str:
    try:
        text = read_text(path)
    except ConfigError as error:
        needed = f"{path}, which {before[-1].name} builds on: " if before else ""
        raise ConfigError(
            f"{needed}{error} Keep the folder of configs whole, with its _base_ files at the places the names say; or "
            "give the full config that a training run saved."
        ) from error
    budget.spend(len(text))
    # '{{_base_.crop_size}}' stands for a value of the base; as a call it is valid Python.
    return re.sub(r"""(['"]?)\{\{\s*_base_\.([\w.]+)\s*\}\}\1""", r"_base_value('\2')", text)


def _parse(path: Path, text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        at = f" (line {line})" if line else ""
        raise ConfigError(f"{path} is not valid Python{at}. Give an mmsegmentation config.") from error


def _bases(path: Path, tree: ast.Module, budget: _Import) -> list[str]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and _names(statement) == ["_base_"]:
            value = _Reader(path, {}, {}, budget).value(statement.value)
            names = [value] if isinstance(value, str) else value
            if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
                raise ConfigError(
                    f"{path.name}, line {statement.lineno}: _base_ must be a file name or a list of them."
                )
            for name in names:
                if "::" in name:
                    raise ConfigError(
                        f"{path.name} builds on '{name}' of an installed package. Give the full config that a "
                        "training run saved (work_dirs/NAME/NAME.py)."
                    )
            return list(names)
    return []


def _names(statement: ast.Assign) -> list[str]:
    return [target.id for target in statement.targets if isinstance(target, ast.Name)]


class _Reader:
    """Evaluates plain assignments; refuses everything else."""

    def __init__(self, path: Path, bases: Mapping[str, Any], values: dict[str, Any], budget: _Import) -> None:
        self.path, self.bases, self.values, self.budget = path, bases, values, budget

    def run(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return  # a docstring
        if isinstance(statement, ast.Delete):
            for target in statement.targets:
                if not isinstance(target, ast.Name):
                    self._refuse(statement)
                self.values.pop(target.id, None)
            return
        if not isinstance(statement, ast.Assign):
            self._refuse(statement)
        value = self.value(statement.value)
        for target in statement.targets:
            self._assign(target, value)

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.values[target.id] = value
        elif isinstance(target, ast.Subscript):
            try:
                self.value(target.value)[self._key(target.slice)] = value
            except (TypeError, LookupError) as error:
                raise self._unclear(target, error) from error
        else:
            self._refuse(target)

    def value(self, node: ast.expr) -> Any:
        try:
            return self._value(node)
        except ConfigError:
            raise
        except (TypeError, LookupError, ValueError, ArithmeticError, AttributeError) as error:
            raise self._unclear(node, error) from error

    def _unclear(self, node: ast.expr, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.path.name}, line {node.lineno}: the value cannot be worked out ({error}). Write it as a "
            "plain value."
        )

    def _key(self, node: ast.expr) -> Any:
        """Evaluate a key or place; only plain values of 60 bits are hashed, since others can be made to collide."""
        key = self._value(node)
        if not isinstance(key, _SIMPLE) or (isinstance(key, int) and key.bit_length() > 60):
            raise TypeError(f"a {type(key).__name__} as a key")
        return key

    def _value(self, node: ast.expr) -> Any:
        self.budget.spend(1)
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._lookup(node, name)
            case ast.List(elts=items):
                return [self._value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self._value(item) for item in items)
            case ast.Dict(keys=keys, values=values):
                if None in keys:
                    self._refuse(node)
                return {
                    self._key(key): self._value(value)
                    for key, value in zip(keys, values, strict=True)
                    if key is not None
                }
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._value(operand)
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
                return self._combine(node, type(sign), self._value(left), self._value(right))
            case ast.Subscript(value=value, slice=index) if not isinstance(index, ast.Slice):
                return self._value(value)[self._key(index)]
            case ast.ListComp(
                elt=item,
                generators=[ast.comprehension(target=ast.Name(id=name), iter=every, ifs=[])],
            ):
                return self._comprehension(node, item, name, self._value(every))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                return self._call(node, name, arguments, keywords)
        self._refuse(node)

    def _comprehension(self, node: ast.expr, item: ast.expr, name: str, every: Any) -> list[Any]:
        if not isinstance(every, (list, tuple)):
            self._refuse(node)
        self.budget.spend(len(self.values))
        inner = _Reader(self.path, self.bases, dict(self.values), self.budget)
        result = []
        for value in every:
            inner.values[name] = value
            result.append(inner._value(item))
        return result

    def _lookup(self, node: ast.expr, name: str) -> Any:
        for scope in (self.values, self.bases):
            if name in scope:
                return scope[name]
        self._refuse(node)

    def _combine(self, node: ast.expr, sign: type, left: Any, right: Any) -> Any:
        lengths = [len(v) for v in (left, right) if isinstance(v, (str, list, tuple))]
        times = 1
        for value in (left, right):
            if isinstance(value, int) and abs(value) > 10**18:
                self._refuse(node)
            if isinstance(value, int) and sign is ast.Mult and lengths:
                times = max(1, value)
        self.budget.spend(sum(lengths) * times)
        return _OPERATORS[sign](left, right)

    def _call(self, node: ast.expr, name: str, arguments: list[ast.expr], keywords: list[ast.keyword]) -> Any:
        if name == "_base_value":
            value: Any = self.bases
            for part in self._value(arguments[0]).split("."):
                value = value[part]
            return value
        if name not in _CALLS or any(keyword.arg is None for keyword in keywords):
            self._refuse(node)
        named = {str(k.arg): self._value(k.value) for k in keywords}
        return self.budget.call(name, [self._value(argument) for argument in arguments], named)

    def _refuse(self, node: ast.stmt | ast.expr) -> NoReturn:
        text = ast.unparse(node).partition("\n")[0]
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        raise ConfigError(
            f"{self.path.name}, line {node.lineno}: '{shown}' is more than plain data, and configs are read, never "
            "run. Give the full config that a training run saved (work_dirs/NAME/NAME.py), which is plain."
        )


def merge(base: Any, change: Any) -> Any:
    """Merge a change into a base: mappings merge, everything else replaces.

    A mapping with `_delete_=True` replaces the base's; string keys of digits change items of a list.

    Example:
        >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
        {'a': {'b': 3, 'c': 2}}
        >>> merge({"a": {"b": 1}}, {"a": {"_delete_": True, "d": 4}})
        {'a': {'d': 4}}
    """
    if isinstance(change, Mapping):
        if isinstance(base, list) and change and all(str(key).isdecimal() for key in change):
            result = list(base)
            for key, value in change.items():
                result[int(key)] = merge(result[int(key)], value)
            return result
        replaces = change.get("_delete_", False) or not isinstance(base, Mapping)
        start = {} if replaces else dict(base)
        for key, value in change.items():
            if key != "_delete_":
                start[key] = merge(start.get(key), value)
        return start
    return change

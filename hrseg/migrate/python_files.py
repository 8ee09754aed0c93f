"""Python configuration files, read from their syntax tree without running them.

An mmsegmentation config is Python, but nearly always plain data: assignments of dicts, lists, numbers and strings, with
`_base_` naming the files it extends. Anything else (an import, a function, a condition) is refused with its line.

Source of the merging rules: mmengine's documentation of Config (`_base_`, `_delete_`, `{{_base_.name}}`).
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from hrseg.errors import ConfigError

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "dict": dict,
    "sum": sum,
    "len": len,
    "list": list,
    "tuple": tuple,
    "max": max,
    "min": min,
}
_MAX_ITEMS = 10_000  # elements of a value
_MAX_DEPTH = 20  # of _base_ files


def read_python_config(path: Path) -> dict[str, Any]:
    """Read a config file with its `_base_` files as name → plain value.

    Raises:
        ConfigError: A file is missing, is not Python, or contains more than plain data.
    """
    return _read(path, ())


def _read(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in before or len(before) > _MAX_DEPTH:
        raise ConfigError(
            f"{path} builds on itself through _base_: {' → '.join(p.name for p in before)}."
        )
    own_text = _text(path, before)
    tree = _parse(path, own_text)
    bases: dict[str, Any] = {}
    for name in _bases(path, tree):
        base = _read(path.parent / name, (*before, path))
        bases = merge(bases, base)
    values: dict[str, Any] = {}
    reader = _Reader(path, bases, values)
    for statement in tree.body:
        reader.run(statement)
    values.pop("_base_", None)
    return merge(bases, values)


def _text(path: Path, before: tuple[Path, ...]) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        needed = f", which {before[-1].name} builds on," if before else ""
        raise ConfigError(
            f"{path}{needed} cannot be read: {error.strerror}. Keep the folder of configs whole, with its _base_ "
            "files at the places the names say; or give the full config that a training run saved."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file. Give a .py or .yaml config.") from error
    # '{{_base_.crop_size}}' stands for a value of the base; as a call it is valid Python.
    return re.sub(r"""(['"]?)\{\{\s*_base_\.([\w.]+)\s*\}\}\1""", r"_base_value('\2')", text)


def _parse(path: Path, text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        at = f" (line {line})" if line else ""
        raise ConfigError(
            f"{path} is not valid Python{at}. Give an mmsegmentation config."
        ) from error


def _bases(path: Path, tree: ast.Module) -> list[str]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and _names(statement) == ["_base_"]:
            value = _Reader(path, {}, {}).value(statement.value)
            names = [value] if isinstance(value, str) else value
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

    def __init__(self, path: Path, bases: Mapping[str, Any], values: dict[str, Any]) -> None:
        self.path, self.bases, self.values = path, bases, values

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
            self.value(target.value)[self.value(target.slice)] = value
        else:
            self._refuse(target)

    def value(self, node: ast.expr) -> Any:
        try:
            return self._value(node)
        except ConfigError:
            raise
        except (
            TypeError,
            KeyError,
            IndexError,
            ValueError,
            ZeroDivisionError,
            AttributeError,
        ) as error:
            raise ConfigError(
                f"{self.path.name}, line {node.lineno}: the value cannot be worked out ({error}). Write it as a "
                "plain value."
            ) from error

    def _value(self, node: ast.expr) -> Any:
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
                    self._value(key): self._value(value)
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
                return self._value(value)[self._value(index)]
            case ast.ListComp(
                elt=item,
                generators=[ast.comprehension(target=ast.Name(id=name), iter=every, ifs=[])],
            ):
                return self._comprehension(node, item, name, self._value(every))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                return self._call(node, name, arguments, keywords)
        self._refuse(node)

    def _comprehension(self, node: ast.expr, item: ast.expr, name: str, every: Any) -> list[Any]:
        if not isinstance(every, (list, tuple)) or len(every) > _MAX_ITEMS:
            self._refuse(node)
        inner = _Reader(self.path, self.bases, dict(self.values))
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
        for value in (left, right):
            long = isinstance(value, (str, list, tuple)) and len(value) > _MAX_ITEMS
            if long or (isinstance(value, int) and abs(value) > 10**18):
                self._refuse(node)
        if sign is ast.Mult and not all(isinstance(v, (int, float)) for v in (left, right)):
            times = max((v for v in (left, right) if isinstance(v, int)), default=0)
            if times > _MAX_ITEMS:
                self._refuse(node)
        return _OPERATORS[sign](left, right)

    def _call(
        self, node: ast.expr, name: str, arguments: list[ast.expr], keywords: list[ast.keyword]
    ) -> Any:
        if name == "_base_value":
            value: Any = self.bases
            for part in self._value(arguments[0]).split("."):
                value = value[part]
            return value
        if name not in _CALLS or any(keyword.arg is None for keyword in keywords):
            self._refuse(node)
        named = {str(k.arg): self._value(k.value) for k in keywords}
        return _CALLS[name](*(self._value(argument) for argument in arguments), **named)

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

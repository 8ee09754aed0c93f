"""Names that the pickle of a checkpoint may hold, the values that stand for them, and what becomes of these.

`safe_unpickler.BUILDERS` has the names that may be called.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hrseg.weights.errors import Damaged, Forbidden, TooLarge


@dataclass(frozen=True)
class Symbol:
    """An admitted name in a pickle, such as "numpy.dtype". It is never imported."""

    path: str


@dataclass(eq=False)
class Placeholder:
    """An inert object in the place of one whose class is known and of no use here, such as a recipe's config.

    Attributes:
        name: Its class.
        content: Its attributes and items in the file, as plain values.
    """

    name: str
    content: dict[Any, Any] = field(default_factory=dict, repr=False)  # may hold its own parents


@dataclass(frozen=True)
class Storage:
    """Numbers of one type that tensors are views of.

    Attributes:
        dtype: Their type.
        data: Their bytes, (bytes,) uint8.
    """

    dtype: torch.dtype
    data: torch.Tensor


@dataclass
class Dtype:
    """A numpy type by its short name, such as <f4; a pickle sets its byte order afterwards."""

    name: str


@dataclass
class Array:
    """A numpy array that a pickle creates first and fills afterwards with a view of the file's bytes."""

    values: np.ndarray | None = None


_STORAGE_TYPES = {
    **{"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16"},
    **{"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"},
    **{"Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128"},
    "Untyped": "uint8",
}
STORAGES: dict[str, torch.dtype] = {
    f"{module}.{name}Storage": getattr(torch, kind)
    for module in ("torch", "torch.cuda", "torch.storage")
    for name, kind in _STORAGE_TYPES.items()
} | {"torch.storage._UntypedStorage": torch.uint8}
"""Storage class → type of its elements."""


def _paths(names: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, text in names.items() for name in text.split())


MENTIONED = _paths(
    {
        "torch": "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 bool int64 int32 int16 int8 uint8 uint16 "
        "uint32 uint64 complex64 complex128",
        "numpy": "ndarray",
        "builtins": "int float str bool object type NoneType",
        "typing": "Any",
    }
)
"""Names that may be mentioned, never called."""

INERT = _paths(
    {
        "argparse": "Namespace",
        "types": "SimpleNamespace",
        "pathlib": "Path PosixPath WindowsPath PurePosixPath",
        "pathlib._local": "Path PosixPath WindowsPath PurePosixPath",  # Python 3.13
        "datetime": "datetime timedelta date",
        "yacs.config": "CfgNode",
        "fvcore.common.config": "CfgNode",
        "detectron2.config.config": "CfgNode",
        "easydict": "EasyDict",
        "addict": "Dict",
        "addict.addict": "Dict",
        "mmcv.utils.config": "Config ConfigDict",
        "mmengine.config.config": "Config ConfigDict",
        "mmengine.logging.history_buffer": "HistoryBuffer",
        "omegaconf.dictconfig": "DictConfig",
        "omegaconf.listconfig": "ListConfig",
        "omegaconf.base": "ContainerMetadata Metadata",
        "omegaconf.nodes": "AnyNode StringNode IntegerNode FloatNode BooleanNode EnumNode PathNode UnionNode BytesNode",
        "lightning.fabric.utilities.data": "AttributeDict",
        "lightning_fabric.utilities.data": "AttributeDict",
        "lightning.pytorch.utilities.parsing": "AttributeDict",
        "pytorch_lightning.utilities.parsing": "AttributeDict",
        "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
        "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
    }
)
"""Classes that checkpoints carry along; a placeholder keeps their content in the file, and nothing is run."""

_MOVED = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy._core": "numpy.core"}
_RENAMED = {"builtins.long": "builtins.int", "builtins.unicode": "builtins.str"}


def current_path(module: str, name: str) -> str:
    """Return the dotted path of a name as Python 3 and numpy 1 spell it.

    Example:
        >>> current_path("numpy._core.multiarray", "scalar"), current_path("__builtin__", "long")
        ('numpy.core.multiarray.scalar', 'builtins.int')
    """
    for old, new in _MOVED.items():
        if module == old or module.startswith(f"{old}."):
            module = new + module[len(old) :]
    path = f"{module}.{name}"
    return _RENAMED.get(path, path)


MAX_DEPTH = 64
"""Nesting of containers."""


def plain(content: Any, budget: int) -> Any:
    """Turn what an unpickler returns into tensors, plain values and placeholders.

    Args:
        content: What it returns.
        budget: Of values and letters, each counted wherever it is referred to: 26 lists of twice the one before are
            2²⁶ values for everything that walks or prints them.

    Raises:
        Refusal: Containers nest too deep, hold each other or exceed the budget, or an array has a type torch lacks.
    """
    done: dict[int, tuple[Any, int]] = {}
    open_containers: set[int] = set()
    total = 0

    def walk(value: Any, depth: int = 0) -> Any:
        nonlocal total
        before = total
        made, size = done.get(id(value), (None, 0))
        if not size:
            made = finish(value, depth)
            size = total - before + (1 + len(made) if isinstance(made, str | bytes | set) else 1)
            if type(value) in (*_FINISH, *_CONTAINERS):
                done[id(value)] = made, size
        total = before + size
        if total > budget:
            raise TooLarge("its values refer to each other so often that they have no end in sight")
        return made

    def finish(value: Any, depth: int) -> Any:
        if type(value) in _FINISH:
            return _FINISH[type(value)](value)
        if type(value) not in _CONTAINERS:
            return value
        if id(value) in open_containers or depth > MAX_DEPTH:
            raise Damaged(f"its containers hold each other, or nest deeper than {MAX_DEPTH}")
        open_containers.add(id(value))
        made: Any
        if isinstance(value, Placeholder):
            # Known before its content is: nodes of OmegaConf hold their parents.
            made = Placeholder(value.name)
            done[id(value)] = made, 1
            made.content = walk(value.content, depth + 1)
        elif isinstance(value, dict):
            made = {walk(key, depth + 1): walk(part, depth + 1) for key, part in value.items()}
        else:
            made = type(value)(walk(part, depth + 1) for part in value)
        open_containers.discard(id(value))
        return made

    return walk(content)


def _from_array(array: Array) -> torch.Tensor:
    """Copy an array into a tensor, in the byte order of this machine."""
    if array.values is None:
        raise Damaged("an array was begun and never filled")
    native = array.values.dtype.newbyteorder("=")
    try:
        return torch.from_numpy(array.values.astype(native, order="C", copy=True))
    except TypeError as error:
        raise Forbidden(f"it holds a numpy array of type '{native}'") from error


def _from_symbol(symbol: Symbol) -> Any:
    known = getattr(torch, symbol.path.removeprefix("torch."), None)
    return known if isinstance(known, torch.dtype) else Placeholder(symbol.path)


_CONTAINERS = (dict, list, tuple, Placeholder)
_FINISH: dict[type, Callable[[Any], Any]] = {
    Array: _from_array,
    Symbol: _from_symbol,
    Dtype: lambda dtype: dtype.name,
    Storage: lambda _: Placeholder("torch.Storage"),
    memoryview: bytes,
}

"""Names that the pickle of a checkpoint may hold, and the values that stand for them while it is read.

`safe_unpickler.BUILDERS` has the names that may be called.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


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
        "pathlib._local": "PosixPath WindowsPath",
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

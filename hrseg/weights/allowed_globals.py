"""The names that a pickled weight file may hold, and what we build where it says "call NAME".

Nothing is imported or called by a file's word: each admitted name has a builder of ours here, and names of classes
that checkpoints carry along (configs, log buffers, paths) become inert stand-ins. Everything else is refused.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hrseg.weights.errors import Damaged, Forbidden
from hrseg.weights.plans import (
    Array,
    Dtype,
    Ordered,
    Placeholder,
    Storage,
    Symbol,
    TensorPlan,
    sides_of,
)

_MOVED = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy._core": "numpy.core"}
_RENAMED = {"builtins.long": "builtins.int", "builtins.unicode": "builtins.str"}
"""Modules and names that changed between versions of Python and numpy."""
_SCALARS = (str, int, float, bytes, bool, type(None))


def key_of(key: Any) -> Any:
    """Return a dictionary key: a plain value or a flat tuple, since hashing nested tuples can take for ever.

    Raises:
        Forbidden: It is anything else.
    """
    if isinstance(key, Symbol):
        return key.path
    if isinstance(key, _SCALARS):
        return key
    short = isinstance(key, tuple) and len(key) <= 16
    if short and all(isinstance(item, _SCALARS) for item in key):
        return key
    raise Forbidden(f"it uses a {type(key).__name__} as a key")


def symbol(module: Any, name: Any) -> Symbol:
    """Return an admitted name.

    Raises:
        Forbidden: The table does not hold it.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise Forbidden("it makes up names while it is read")
    for old, new in _MOVED.items():
        if module == old or module.startswith(old + "."):
            module = new + module[len(old) :]
    path = _RENAMED.get(f"{module}.{name}", f"{module}.{name}")
    if path in BUILDERS or path in VALUES or path in INERT or path in STORAGES:
        return Symbol(path)
    raise Forbidden(f"it asks for '{path[:120]}', which is neither tensor, array nor plain type")


def call(target: Symbol, arguments: tuple[Any, ...]) -> Any:
    """Build what a file means by calling a name.

    Raises:
        Forbidden: The name may be mentioned but not called.
    """
    builder = BUILDERS.get(target.path)
    if builder is not None:
        return builder(*arguments)
    if target.path in INERT:
        return Placeholder(target.path, {"arguments": arguments} if arguments else {})
    raise Forbidden(f"it calls '{target.path}'")


def build(target: Any, state: Any) -> None:
    """Give a thing its state, as a pickle's BUILD does.

    Raises:
        Forbidden: The thing takes none.
    """
    if isinstance(target, Array | Dtype):
        target.build(state)
    elif isinstance(target, Placeholder):
        if isinstance(state, dict) and not target.content:
            target.content = state  # no copy: a file may give one state to many
        else:
            target.content["state"] = state
    elif isinstance(target, Ordered):
        if not isinstance(state, dict) or list(state) not in ([], ["_metadata"]):
            raise Forbidden("it gives a dictionary attributes")
    else:
        raise Forbidden(f"it gives a {type(target).__name__} a state")


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *_: Any, dtype: torch.dtype | None = None
) -> TensorPlan:
    if not isinstance(storage, Storage):
        raise Damaged("a tensor has no storage")
    (offset,) = sides_of([offset])
    plan = TensorPlan(storage, dtype or storage.dtype, offset, sides_of(size), sides_of(stride))
    plan.check()
    return plan


def _tensor_of_type(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> TensorPlan:
    known = getattr(torch, dtype.path.removeprefix("torch."), None)
    if not isinstance(known, torch.dtype):
        raise Damaged(f"a tensor has the type {dtype.path}")
    return _tensor(storage, offset, size, stride, dtype=known)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _ordered(pairs: Any = ()) -> Ordered:
    items = pairs.items() if isinstance(pairs, dict) else _items(pairs)
    return Ordered((key_of(key), value) for key, value in items)


def _items(value: Any) -> Any:
    """Let only containers be copied item by item; bytes would become eight times their size."""
    if not isinstance(value, list | tuple | set):
        raise Damaged(f"a {type(value).__name__} stands where a list should")
    return value


def _default(_factory: Any = None, pairs: Any = ()) -> Ordered:
    return _ordered(pairs)


def _set(items: Any = ()) -> set[Any]:
    return {key_of(item) for item in _items(items)}


def _bytes(text: Any = b"", codec: Any = "latin-1") -> bytes:
    if not isinstance(codec, str) or codec.lower() not in ("latin1", "latin-1", "iso-8859-1"):
        raise Forbidden("it encodes text in an unusual way")
    if isinstance(text, str):
        return text.encode("latin-1")
    if isinstance(text, bytes | memoryview):
        return bytes(text)
    raise Forbidden(f"it makes bytes of a {type(text).__name__}")


def _device(kind: str, index: int | None = None) -> str:
    return kind if index is None else f"{kind}:{index}"


def _array(*_: Any) -> Array:
    return Array()


def _array_from_buffer(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> Array:
    array = Array()
    array.fill(shape, dtype, order == "F", raw)
    return array


def _number(dtype: Any, raw: Any) -> Any:
    array = Array()
    array.fill((), dtype, False, raw)
    return array.numpy().item()


def _method(owner: Any, name: Any) -> Placeholder:
    """Stand in for a method of an inert class: mmengine's log buffers mention their own. It is not looked up."""
    if not isinstance(owner, Symbol) or owner.path not in INERT or not isinstance(name, str):
        raise Forbidden(f"it asks for an attribute of {getattr(owner, 'path', 'a value')}")
    return Placeholder(f"{owner.path}.{name}")


def _dtype(name: Any, *_: Any) -> Dtype:
    if isinstance(name, Symbol):  # numpy.dtype(bool) of old files
        name = np.dtype(name.path.removeprefix("builtins.")).str
    if not isinstance(name, str) or name.lstrip("<>|=")[:1] in ("O", "V", ""):
        raise Forbidden("it holds a numpy array of objects")
    return Dtype(name)


BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": lambda sides=(): sides_of(sides),
    "torch.device": _device,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    "collections.defaultdict": _default,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.tuple": lambda items=(): tuple(_items(items)),
    "builtins.list": lambda items=(): list(_items(items)),
    "builtins.dict": _ordered,
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "builtins.getattr": _method,
    "builtins.complex": lambda real=0.0, imaginary=0.0: complex(float(real), float(imaginary)),
    "_codecs.encode": _bytes,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _number,
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "numpy.dtype": _dtype,
}
"""Name → our builder; its arguments come from the file."""

_STORAGE_TYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}
STORAGES: dict[str, torch.dtype] = {
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGE_TYPES.items()},
    **{f"torch.cuda.{name}Storage": dtype for name, dtype in _STORAGE_TYPES.items()},
    "torch.storage.UntypedStorage": torch.uint8,
    "torch.storage._UntypedStorage": torch.uint8,
}
"""Storage class → type of its elements."""

_TORCH_TYPES = (
    *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "bool"),
    *("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"),
    *("complex64", "complex128"),
)
VALUES = frozenset(
    [
        *(f"torch.{name}" for name in _TORCH_TYPES),
        *("numpy.ndarray", "builtins.int", "builtins.float", "builtins.str", "builtins.bool"),
        *("builtins.object", "builtins.type", "builtins.NoneType", "typing.Any"),
    ]
)
"""Names that may be mentioned, never called."""

INERT = frozenset(
    [
        "argparse.Namespace",
        "types.SimpleNamespace",
        *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath")),
        *("pathlib._local.PosixPath", "pathlib._local.WindowsPath"),
        *("datetime.datetime", "datetime.timedelta", "datetime.date"),
        *(
            "yacs.config.CfgNode",
            "fvcore.common.config.CfgNode",
            "detectron2.config.config.CfgNode",
        ),
        *("easydict.EasyDict", "addict.addict.Dict", "addict.Dict"),
        *("mmcv.utils.config.Config", "mmcv.utils.config.ConfigDict"),
        *("mmengine.config.config.Config", "mmengine.config.config.ConfigDict"),
        "mmengine.logging.history_buffer.HistoryBuffer",
        *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
        *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
        *(
            f"omegaconf.nodes.{kind}Node"
            for kind in ("Any", "String", "Integer", "Float", "Boolean", "Enum", "Path", "Union")
        ),
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    ]
)
"""Classes that checkpoints carry along; a stand-in keeps what the file says of them, and nothing is run."""

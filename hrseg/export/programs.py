"""torch.export files looked at before torch opens them.

torch.export.load unpickles what a file tells it to, evaluates the sizes in it as text, and looks functions up by name.
A file of `hrseg export` needs none of that: here everything else is refused, unread.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from hrseg.errors import WeightsError

_ENTRIES = re.compile(
    r"[\w.-]+/(data/weights/weight_\d+|data/weights/model_weights_config\.json|data/sample_inputs/model\.pt"
    r"|data/constants/model_constants_config\.json|models/model\.json|extra/hrseg\.json|archive_format"
    r"|archive_version|\.data/version|\.data/serialization_id|byteorder)"
)
_FUNCTIONS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|getitem)"
    r"|torch\.sym_(min|max|ite|float|not)|math\.(ceil|floor|trunc)"
)
_PROSE = {"expr_str", "target", "guards_code", "in_spec", "out_spec", "torch_version"}
_PROSE |= {"stack_trace", "nn_module_stack", "torch_fn"}  # what a traceback shows
_WORD = re.compile(r"[\w.:-]*")
_SYMBOL = re.compile(r"Symbol\('\w+'(, (positive|negative|nonnegative|integer|real)=True)*\)")
_NAMES = {
    *(
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Add",
        "Mul",
        "Pow",
        "Max",
        "Min",
        "Mod",
        "PythonMod",
    ),
    *(
        "FloorDiv",
        "CeilDiv",
        "ModularIndexing",
        "Where",
        "Eq",
        "Ne",
        "Gt",
        "Lt",
        "Ge",
        "Le",
        "Not",
        "And",
        "Or",
    ),
    *(
        "IntTrueDiv",
        "FloatTrueDiv",
        "ToFloat",
        "TruncToInt",
        "FloorToInt",
        "CeilToInt",
        "CleanDiv",
        "int_oo",
    ),
    *(
        "Identity",
        "GreaterThan",
        "LessThan",
        "StrictGreaterThan",
        "StrictLessThan",
        "Equality",
        "Unequality",
    ),
    *("precision", "true", "false", "oo"),
}
_GUARD = re.compile(
    r"([\s\d()+*/<>=!-]|L\['image'\]\.size\(\)|\[\d\]|and|or|not|min|max|Max|Min|Mod|%|,)*"
)


def check_program(path: Path) -> None:
    """Refuse a file in which something could run besides tensor arithmetic.

    Raises:
        WeightsError: Naming the first such thing, or the file is no torch.export archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not _ENTRIES.fullmatch(name):
                    raise _refused(path, f"entry {name[:80]}")
                _check_entry(path, name, archive)
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path} is no file of torch.export ({error}). It is damaged or was cut short; copy or export it again."
        ) from error


def _check_entry(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    if name.endswith("config.json"):
        for row in json.loads(archive.read(name))["config"].values():
            if row["use_pickle"] is not False:
                raise _refused(path, "a pickled tensor")
    elif name.endswith("sample_inputs/model.pt"):
        try:
            torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        except Exception as error:  # unpicklers raise what they like
            raise _refused(path, "a pickle of objects") from error
    elif name.endswith("models/model.json"):
        _check_graph(path, json.loads(archive.read(name)))


def _check_graph(path: Path, content: dict[str, Any]) -> None:
    for key, text in _texts(content):
        if key == "expr_str" and not _is_size(text):
            raise _refused(path, f"the size {text[:80]}")
        if key == "target" and not _FUNCTIONS.fullmatch(text):
            raise _refused(path, f"the function {text[:80]}")
        if key == "guards_code" and not _GUARD.fullmatch(text):
            raise _refused(path, f"the condition {text[:80]}")
        if key not in _PROSE and not _WORD.fullmatch(text):
            raise _refused(path, f"the name {text[:80]}")


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, text) of all texts, those in lists under their list's key."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict):
        for inner, value in content.items():
            yield "a name", inner  # names become words of the code that torch writes
            yield from _texts(value, inner)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value, key)


def _is_size(text: str) -> bool:
    """Tell arithmetic on sizes from any other Python.

    Example:
        >>> _is_size("Add(FloorDiv(Symbol('s1', integer=True), Integer(2)), Integer(1))")
        True
        >>> _is_size("__import__('os').system('ls')")
        False
    """
    rest = _SYMBOL.sub("1", text)
    return bool(re.fullmatch(r"[\w\s(),=+*/<>-]*(\.\d+)?[\w\s(),=+*/<>-]*", rest)) and (
        set(re.findall(r"[A-Za-z_]\w*", rest)) <= _NAMES
    )


def _refused(path: Path, what: str) -> WeightsError:
    return WeightsError(
        f"{path} was refused unread: it holds {what}, which a file of hrseg export does not, and which may run code. "
        "Use the checkpoint, or an ONNX file."
    )

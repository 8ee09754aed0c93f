"""Safe reading of weight files into tensors and plain types, with one paragraph as the error of a bad file.

Every load in the project goes through `read_checkpoint`. No code of a file is run, and memory stays in proportion to
the file's size.
"""

import hashlib
import json
import math
import mmap
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hrseg.errors import WeightsError
from hrseg.weights.errors import Damaged, Refusal, TooLarge, refuse
from hrseg.weights.safe_unpickler import Reader, SafeUnpickler
from hrseg.weights.torch_files import read_legacy, read_zip


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a weight file of PyTorch, Paddle or safetensors into a plain dictionary on the CPU.

    The first bytes give the format, not the name. Numpy arrays become tensors of the same type. Objects of known
    harmless classes, such as a training script's config, become `weights.allowed_globals.Placeholder`; files with any
    other object are refused.

    Args:
        path: The file. A safetensors file gives {"state_dict": tensors}.

    Raises:
        WeightsError: The file is missing, damaged, not a checkpoint, or holds more than tensors and plain types.
    """
    path = Path(path)
    size = _size(path)
    try:
        with path.open("rb") as file:
            kind = kind_of(path, file.read(FIRST_BYTES))
        content = _READERS[kind](path, size)
    except Refusal as reason:
        raise refuse(path, size, reason) from reason
    except OSError as error:
        raise WeightsError(_unreadable(path, error)) from error
    except MemoryError as error:
        raise WeightsError(
            f"{path} ({size:,} bytes) needs more memory than there is. Close other programs, or open it on a larger "
            "machine."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} holds a value of type {type(content).__name__}, not a checkpoint. A checkpoint is a dictionary of "
            "tensors, such as runs/NAME/best.ckpt."
        )
    return content


def _size(path: Path) -> int:
    """Return the size of a regular file in bytes; a pipe or a device would never end."""
    advice = "Give the path of a .ckpt, .pth, .pdparams or .safetensors file."
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WeightsError(f"Weight file {path} does not exist. {advice}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(_unreadable(path, error)) from error
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
    raise WeightsError(f"Weight file {path} is {what}. {advice}")


def _unreadable(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or error
    return f"Weight file {path!s} cannot be read: {reason}. Check its permissions and the disk, or copy it elsewhere."


def _read_safetensors(path: Path, size: int) -> dict[str, Any]:
    check_header(path, size)
    try:
        return {"state_dict": load_file(path)}
    except (SafetensorError, ValueError, KeyError) as error:
        raise Damaged(str(error)) from error


def _read_pickle(path: Path, size: int) -> Any:
    """Read a plain pickle, such as Paddle's; its arrays are copied once, from the mapped file."""
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    content = SafeUnpickler(Reader(view), size).load()
    return join_slices(content) if isinstance(content, dict) else content


SLICES = "UnpackBigParamInfor@@"
NAMES = "StructuredToParameterName@@"


def join_slices(content: dict[Any, Any]) -> dict[Any, Any]:
    """Join arrays that Paddle cut into slices; other dictionaries stay as they are.

    Raises:
        Damaged: A slice is missing, or the slices do not fill the array.

    Example:
        >>> part = torch.tensor([1.0, 2.0])
        >>> table = {"w": {"OriginShape": (1, 2), "slices": ["w@@.0"]}}
        >>> join_slices({"w@@.0": part, SLICES: table})
        {'w': tensor([[1., 2.]])}
    """
    table = content.get(SLICES)
    if not isinstance(table, dict):
        return content
    joined = {key: value for key, value in content.items() if key != SLICES}
    for name, row in table.items():
        try:
            parts = [joined.pop(key).reshape(-1) for key in row["slices"]]
            joined[name] = torch.cat(parts).reshape(tuple(row["OriginShape"]))
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise Damaged(f"the slices of {str(name)[:60]} are not complete") from error
    return joined


FIRST_BYTES = 1024
TORCH_ZIP, TORCH_LEGACY, PICKLE, SAFETENSORS = "zip", "legacy", "pickle", "safetensors"
_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""First pickle of a file of torch before 1.6."""
_READABLE = (
    (b"PK\x03\x04", TORCH_ZIP),
    (_LEGACY_MAGIC, TORCH_LEGACY),
    *((bytes([0x80, protocol]), PICKLE) for protocol in (2, 3, 4, 5)),
)


class OtherFormat(NamedTuple):
    """A file format without weights.

    Attributes:
        magic: Bytes that identify it, in lower case.
        what: Its name.
        advice: Next step for the user.
        at: Offset of the bytes.
    """

    magic: bytes
    what: str
    advice: str
    at: int = 0


_PAGE = (
    "The download gave a login, warning or error page. Open the address in a browser, see what it says, and save "
    "the file itself."
)
_UNPACK = "Unpack it and give the file inside."
_IMAGE = "To segment it, name it after `hrseg predict`; a checkpoint ends in .ckpt, .pth or .safetensors."
OTHER_FORMATS = (
    OtherFormat(b"<!doctype", "a web page", _PAGE),
    OtherFormat(b"<html", "a web page", _PAGE),
    OtherFormat(b"<head", "a web page", _PAGE),
    OtherFormat(b"<script", "a web page", _PAGE),
    OtherFormat(b"<?xml", "an XML text, such as a server's error message", _PAGE),
    OtherFormat(
        b"version https://git-lfs",
        "a Git LFS pointer, a note of where the weights are",
        "Run `git lfs pull` in its repository, or download the file itself.",
    ),
    OtherFormat(b"\xff\xd8\xff", "a JPEG image", _IMAGE),
    OtherFormat(b"\x89png", "a PNG image", _IMAGE),
    OtherFormat(b"gif8", "a GIF image", _IMAGE),
    OtherFormat(b"ii*\0", "a TIFF image", _IMAGE),
    OtherFormat(b"mm\0*", "a TIFF image", _IMAGE),
    OtherFormat(b"ftyp", "a video (MP4, MOV) or a HEIF image", _IMAGE, at=4),
    OtherFormat(b"riff", "a video (AVI) or a WebP image", _IMAGE),
    OtherFormat(b"\x1ae\xdf\xa3", "a video (Matroska, WebM)", _IMAGE),
    OtherFormat(b"%pdf", "a PDF document", "Give a .ckpt, .pth, .pdparams or .safetensors file."),
    OtherFormat(b"\x1f\x8b", "a gzip archive", _UNPACK),
    OtherFormat(b"bzh", "a bzip2 archive", _UNPACK),
    OtherFormat(b"\xfd7zxz", "an xz archive", _UNPACK),
    OtherFormat(b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    OtherFormat(b"rar!", "a RAR archive", _UNPACK),
    OtherFormat(b"ustar", "a tar archive", _UNPACK, at=257),
    OtherFormat(
        b"\x89hdf",
        "an HDF5 file, as Keras writes",
        "hrseg opens weights of PyTorch and Paddle, and safetensors.",
    ),
    OtherFormat(b"{", "a JSON text", "Give the weights, not their card or an answer of a server."),
)


def kind_of(path: Path, start: bytes) -> str:
    """Return the format of a file, one of the four that have a reader, by its first FIRST_BYTES bytes.

    Raises:
        WeightsError: It is empty, or none of them.

    Example:
        >>> kind_of(Path("a.pth"), b"PK\\x03\\x04...")
        'zip'
    """
    if not start:
        raise WeightsError(f"{path} is empty (0 bytes). The download or copy did not begin; fetch it again.")
    if start[6:9] == b"\0\0{":  # a length below 2**48, then JSON
        return SAFETENSORS
    for magic, kind in _READABLE:
        if start.startswith(magic):
            return kind
    if path.suffix == ".safetensors" and not _other_format(start):
        return SAFETENSORS
    raise WeightsError(f"{path} is {_describe(start)}")


def _other_format(start: bytes) -> OtherFormat | None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for row in OTHER_FORMATS:
        if row.at and start[row.at :].startswith(row.magic):
            return row
        if not row.at and (text.startswith(row.magic) or start.lower().startswith(row.magic)):
            return row
    return None


def _describe(start: bytes) -> str:
    row = _other_format(start)
    if row is not None:
        return f"{row.what}, not a checkpoint. {row.advice}"
    first_line = start.partition(b"\n")[0][:60]
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in start):
        return (
            f"a text that begins '{first_line.decode()}', not a checkpoint. Give a .ckpt, .pth, .pdparams or "
            ".safetensors file; if it was downloaded, the text may say what went wrong."
        )
    return (
        f"not a readable checkpoint: its first bytes ({start[:8].hex(' ')}) belong to no format that hrseg opens "
        "(PyTorch, Paddle, safetensors). It is damaged or of another kind; copy or download it again."
    )


MAX_HEADER = 4 << 20
"""Bytes; an HRNet with OCR head has about 300,000."""
MAX_DIMENSIONS = 32
BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "BOOL": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1},
}
"""Type → bytes of one number."""


def check_header(path: Path, size: int) -> None:
    """Refuse a safetensors file of `size` bytes whose header does not describe it.

    Raises:
        Refusal: The header is too long, not JSON, or does not describe this file.
    """
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise Damaged("it ends before its header begins")
        (length,) = struct.unpack("<Q", start)
        if length > size - 8:
            raise Damaged(f"its header would take {length:,} bytes, more than the file has")
        if length > MAX_HEADER:
            raise TooLarge(f"its header takes {length:,} bytes; that of a network has less than a million")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Damaged("its header is not JSON") from error
    if not isinstance(header, dict):
        raise Damaged("its header is not a table of tensors")
    header.pop("__metadata__", None)
    places = sorted((*_place(name, entry), name) for name, entry in header.items())
    at, before = 0, "its header"
    for begin, end, name in places:
        if begin != at:
            how = "overlaps" if begin < at else "leaves a gap after"
            raise Damaged(f"tensor {name[:60]} {how} {before[:60]}")
        at, before = end, name
    if at != size - 8 - length:
        has = size - 8 - length
        raise Damaged(f"its header describes {at:,} bytes of numbers, the file has {has:,}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _place(name: str, entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict):
        raise Damaged(f"tensor {name[:60]} has no description")
    kind = str(entry.get("dtype"))
    if kind not in BYTES:
        raise Damaged(f"tensor {name[:60]} is of type {kind[:20]}")
    shape, offsets = _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise Damaged(f"tensor {name[:60]} has no sound shape or place")
    begin, end = offsets
    if math.prod(shape) * BYTES[kind] != end - begin:
        raise Damaged(f"tensor {name[:60]} of type {kind} and shape {tuple(shape)} cannot fill {end - begin:,} bytes")
    return begin, end


def _sizes(value: Any) -> list[int] | None:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return None
    return value if all(type(item) is int and 0 <= item < 1 << 62 for item in value) else None


def file_digest(path: Path) -> str:
    """Hash the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(weights: Mapping[str, torch.Tensor], spec: str = "") -> str:
    """Hash named tensors and a spec, to identify a network.

    Example:
        >>> import torch
        >>> weights_digest({"w": torch.zeros(2)})[:12]
        '22c348e12499'
    """
    total = hashlib.sha256(spec.encode())
    for name, tensor in sorted(weights.items()):
        values = tensor.detach().cpu().contiguous()
        total.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        total.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


_READERS = {
    TORCH_ZIP: read_zip,
    TORCH_LEGACY: read_legacy,
    PICKLE: _read_pickle,
    SAFETENSORS: _read_safetensors,
}

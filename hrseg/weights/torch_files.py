"""PyTorch's two containers: the zip archive of torch 1.6 and newer, and the file of torch 0.2 to 1.5.

Sizes are compared with the file's own before memory is spent on them, and each storage is read once.
"""

import errno
import mmap
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from hrseg.weights.allowed_globals import STORAGES, Storage, Symbol
from hrseg.weights.errors import Damaged, Forbidden, NoCheckpoint, TooLarge
from hrseg.weights.safe_unpickler import Reader, SafeUnpickler

MAX_PICKLE = 64 << 20
"""Bytes of the pickle inside a zip archive, which holds names and shapes, no numbers."""
MAX_DIRECTORY = 8 << 20
"""Bytes of a zip archive's directory; an HRNet's has about 200,000."""
_MAX_END = 22 + (1 << 16)  # the end record and the longest comment
_BYTE_ORDER = "it was written by a machine of the other byte order"


def read_zip(path: Path, size: int) -> Any:
    """Read a file of torch 1.6 or newer.

    Args:
        path: The file.
        size: Its bytes.

    Raises:
        Refusal: It is damaged, or not what torch writes.
    """
    with path.open("rb") as file:
        _check_directory(file, size)
        try:
            with zipfile.ZipFile(file) as archive:
                root, records = _records(archive, size)
                content = archive.read(f"{root}/data.pkl")
                order = archive.read(records["byteorder"]) if "byteorder" in records else b"little"
        except (RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
            raise Damaged(f"its archive cannot be read ({error})") from error
        except (AttributeError, zipfile.BadZipFile, struct.error, zlib.error) as error:
            raise Damaged(f"its archive cannot be read ({error})") from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise Damaged("its archive points outside the file") from error
        if order != b"little":
            raise Forbidden(_BYTE_ORDER)
        read: dict[str, torch.Tensor] = {}

        def storage(pid: Any) -> Storage:
            dtype, key, count = _declared(pid)
            info = records.get(f"data/{key}")
            have = info.file_size if info else 0
            if info is None or not 0 <= count * dtype.itemsize <= have:
                raise Damaged(f"storage {key[:20]} declares {count:,} numbers and has {have:,} bytes")
            if key not in read:
                read[key] = _read_record(file, info)
            return Storage(dtype, read[key][: count * dtype.itemsize])

        return SafeUnpickler(Reader(memoryview(content)), size, storage).load()


def _declared(pid: Any) -> tuple[torch.dtype, str, int]:
    """Return type, key and number of elements of a storage from its persistent id."""
    tag, kind, key, _, count = pid[:5]
    if tag != "storage" or not isinstance(kind, Symbol) or kind.path not in STORAGES:
        raise Forbidden("it names a storage of an unknown type")
    if not isinstance(key, str) or not isinstance(count, int):  # text of nested lists may be endless
        raise Damaged("a storage has no sound key or length")
    return STORAGES[kind.path], key, count


def _read_record(file: BinaryIO, info: zipfile.ZipInfo) -> torch.Tensor:
    """Read a stored record past zipfile, which would compare a checksum that torch may leave out."""
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    file.seek(info.header_offset + 30 + name + extra)
    numbers = _numbers(info.file_size)
    _fill(file, numbers)
    return numbers


def _numbers(length: int) -> torch.Tensor:
    """Return memory without content, (length,) uint8; numpy raises MemoryError where torch has none of its own."""
    return torch.from_numpy(np.empty(length, np.uint8))


def _fill(file: BinaryIO, numbers: torch.Tensor) -> None:
    if file.readinto(numbers.numpy().data) != len(numbers):  # type: ignore[attr-defined]
        raise Damaged("it ends in the middle")


def read_legacy(path: Path, size: int) -> Any:
    """Read a file of torch 0.2 to 1.5: five pickles, then the numbers of each storage.

    Args:
        path: The file.
        size: Its bytes.

    Raises:
        Refusal: It is damaged, or not what torch writes.
    """
    roots: dict[str, Storage] = {}
    left = size

    def storage(pid: Any) -> Storage:
        """Allocate a storage where it is first mentioned; its numbers come after the pickles."""
        nonlocal left
        dtype, key, count = _declared(pid)
        length = count * dtype.itemsize
        if key not in roots:
            if not 0 <= length <= left:
                raise Damaged(f"it ends before the numbers of storage {key[:20]} do")
            left -= length
            roots[key] = Storage(dtype, _numbers(length))
        root = roots[key]
        if root.dtype != dtype or len(root.data) != length:
            raise Damaged(f"storage {key[:20]} is declared twice, and differently")
        if len(pid) < 6 or pid[5] is None:
            return root
        _, offset, part = pid[5]
        if not 0 <= offset <= offset + part <= count:
            raise Damaged(f"a view leaves storage {key[:20]}")
        return Storage(dtype, root.data[offset * dtype.itemsize :][: part * dtype.itemsize])

    with path.open("rb") as file:
        reader = Reader(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
        # magic number, version, machine, content, keys of the storages
        *_, machine, content, keys = [SafeUnpickler(reader, size, storage).load() for _ in range(5)]
        if isinstance(machine, dict) and machine.get("little_endian") is False:
            raise Forbidden(_BYTE_ORDER)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise Damaged("its list of storages is not a list")
        if set(keys) != roots.keys():
            raise Damaged("its list of storages does not fit its tensors")
        file.seek(reader.at)
        for key in keys:
            root = roots[key]
            (count,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
            rest = size - file.tell()
            if count * root.dtype.itemsize != len(root.data) or len(root.data) > rest:
                raise Damaged(f"it ends before the numbers of storage {key[:20]} do, or counts them twice")
            _fill(file, root.data)
        return content


def _check_directory(file: BinaryIO, size: int) -> None:
    """Bound the directory before Python's zipfile reads all of it."""
    file.seek(max(0, size - _MAX_END))
    tail = file.read(_MAX_END)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise Damaged("its archive has no end")
    length = struct.unpack_from("<I", tail, end + 12)[0]
    if length == 0xFFFFFFFF:
        large = tail.rfind(b"PK\x06\x06", 0, end)
        if large < 0 or end - large < 56:
            raise Damaged("its archive has no end")
        length = struct.unpack_from("<Q", tail, large + 40)[0]
    if length > MAX_DIRECTORY:
        raise TooLarge(f"its archive's list of contents alone takes {length:,} bytes")
    file.seek(0)


def _records(archive: zipfile.ZipFile, size: int) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """Return the folder in the archive and its records by name; they must be stored as torch stores them."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    root = names[0].partition("/")[0] if names else ""
    if f"{root}/data.pkl" not in names:
        raise NoCheckpoint(_describe(names))
    if any(name.startswith(f"{root}/code/") for name in names) and f"{root}/constants.pkl" in names:
        raise Forbidden("it is a TorchScript program, code together with weights")
    if len({name.lower() for name in names}) != len(names):
        raise Damaged("its archive names a record twice")
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    total = sum(entry.file_size for entry in entries)
    if compressed or total > size:
        what = "compressed records, which torch never writes, of" if compressed else "records of"
        raise TooLarge(f"its archive declares {what} {total:,} bytes together")
    if archive.getinfo(f"{root}/data.pkl").file_size > MAX_PICKLE:
        raise TooLarge("its pickle is larger than any checkpoint's")
    return root, {entry.filename[len(root) + 1 :]: entry for entry in entries}


def _describe(names: list[str]) -> str:
    if names and all(name.endswith(".npy") for name in names):
        return "it is a numpy archive (.npz)"
    shown = ", ".join(names[:3]) or "nothing"
    return f"it is a zip archive of {shown}; if weights are inside, unpack it and give them"

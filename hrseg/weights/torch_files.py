"""PyTorch's two containers, judged before they are opened: the zip of today and the file of torch before 1.6.

Each is read twice over its small pickle only: our machine plans what is in it and bounds what it may take; then
torch's own `weights_only` reader makes the tensors. Files that carry more along than that reader knows (old
mmsegmentation, configs of training scripts) are made from our plan instead; the numbers are read once in any case.
"""

import errno
import mmap
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from hrseg.weights.allowed_globals import STORAGES
from hrseg.weights.errors import Damaged, Forbidden, NoCheckpoint, TooLarge
from hrseg.weights.plans import Budget, Storage, Symbol, TensorPlan, finish
from hrseg.weights.safe_unpickler import Machine

MAX_PICKLE = 64 << 20
"""Bytes of the pickle inside a torch file, which holds names and shapes, no numbers."""
MAX_DIRECTORY = 8 << 20
"""Bytes of a zip's list of contents; an HRNet's has about 200,000."""
_TAIL = 22 + (1 << 16)
_BROKEN = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)
"""What Python and torch raise on files that promise one thing and hold another."""


def read_zip(path: Path, size: int) -> Any:
    """Read a file of torch 1.6 or newer.

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
        except (*_BROKEN, zipfile.BadZipFile, struct.error, zlib.error) as error:
            raise Damaged(f"its archive cannot be read ({error})") from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise Damaged("its archive points outside the file") from error
        if order != b"little":
            raise Forbidden("it was written by a machine of the other byte order")
        sizes = {key: info.file_size for key, info in records.items()}
        plan = Machine(memoryview(content), 0, lambda pid: _zip_storage(pid, sizes)).run()
        made = _by_torch(file, plan, size)
        if made is not None:
            return made

        def record(storage: Storage) -> bytearray:
            info = records[f"data/{storage.key}"]
            file.seek(info.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            file.seek(info.header_offset + 30 + name + extra)
            return _read(file, info.file_size)

        return finish(plan, Budget(size), _maker(record))


def read_legacy(path: Path, size: int) -> Any:
    """Read a file of torch 0.2 to 1.5: five pickles, then the numbers of each storage.

    Raises:
        Refusal: It is damaged, or not what torch writes.
    """
    with path.open("rb") as file:
        head = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        at, parts = 0, []
        declared: dict[str, Storage] = {}
        for _ in range(5):  # magic number, version, machine, content, keys of the storages
            machine = Machine(head, at, lambda pid: _legacy_storage(pid, declared))
            parts.append(machine.run())
            at = machine.at
        machine_info, plan, keys = parts[2:]
        if isinstance(machine_info, dict) and machine_info.get("little_endian") is False:
            raise Forbidden("it was written by a machine of the other byte order")
        if not isinstance(keys, list) or set(map(str, keys)) != declared.keys():
            raise Damaged("its list of storages does not fit its tensors")
        places: dict[str, tuple[int, int]] = {}
        for key in map(str, keys):
            storage = declared[key]
            file.seek(at)
            (count,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
            length = storage.count * storage.dtype.itemsize
            if count != storage.count or at + 8 + length > size:
                raise Damaged(
                    f"it ends before the numbers of storage {key} do, or counts them twice"
                )
            places[key] = (at + 8, length)
            at += 8 + length
        made = _by_torch(file, plan, size)
        if made is not None:
            return made

        def record(storage: Storage) -> bytearray:
            start, length = places[storage.key]
            file.seek(start)
            return _read(file, length)

        return finish(plan, Budget(size), _maker(record))


def _by_torch(file: BinaryIO, plan: Any, size: int) -> Any:
    """Judge the plan, then let torch read the file; None if it holds more than torch's reader knows."""
    finish(plan, Budget(size), lambda _: None)
    file.seek(0)  # the open file and not its path: by the suffix torch may choose another reader
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and old storages
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return None
    except (*_BROKEN, OSError) as error:
        first = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise Damaged(first or type(error).__name__) from error


def _maker(record: Callable[[Storage], bytearray]) -> Callable[[TensorPlan], torch.Tensor]:
    """Return a function that makes tensors, reading each storage once."""
    known: dict[str, bytearray] = {}

    def make(plan: TensorPlan) -> torch.Tensor:
        storage = plan.storage
        if storage.key not in known:
            known[storage.key] = record(storage)
        if not known[storage.key]:
            return torch.empty(plan.size, dtype=plan.dtype)
        skip = storage.offset * storage.dtype.itemsize
        numbers = torch.frombuffer(
            known[storage.key],
            dtype=plan.dtype,
            offset=skip,
            count=storage.count * storage.dtype.itemsize // plan.dtype.itemsize,
        )
        return numbers.as_strided(plan.size, plan.stride, plan.offset)

    return make


def _read(file: BinaryIO, length: int) -> bytearray:
    block = bytearray(length)
    if file.readinto(block) != length:  # type: ignore[attr-defined]
        raise Damaged("it ends in the middle")
    return block


def _dtype_of(kind: Any) -> torch.dtype:
    if not isinstance(kind, Symbol) or kind.path not in STORAGES:
        raise Forbidden("it names a storage of an unknown type")
    return STORAGES[kind.path]


def _zip_storage(pid: Any, sizes: dict[str, int]) -> Storage:
    tag, kind, key, _, count = pid
    storage = Storage(str(key), _dtype_of(kind), int(count))
    have = sizes.get(f"data/{storage.key}", -1)
    if tag != "storage" or count < 0 or count * storage.dtype.itemsize > have:
        raise Damaged(
            f"storage {str(key)[:20]} declares {count:,} numbers and has {max(have, 0):,} bytes"
        )
    return storage


def _legacy_storage(pid: Any, declared: dict[str, Storage]) -> Storage:
    tag, kind, key, _, count, *view = pid
    root = Storage(str(key), _dtype_of(kind), int(count))
    if tag != "storage" or count < 0 or declared.setdefault(root.key, root) != root:
        raise Damaged(f"storage {str(key)[:20]} is declared twice, and differently")
    if not view or view[0] is None:
        return root
    _, offset, length = view[0]
    if not 0 <= offset <= offset + length <= root.count:
        raise Damaged(f"a view leaves storage {str(key)[:20]}")
    return Storage(root.key, root.dtype, length, offset)


def _check_directory(file: BinaryIO, size: int) -> None:
    """Bound the list of contents before Python's zipfile reads all of it."""
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
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
        raise NoCheckpoint(_what_zip(names))
    if any(name.startswith(f"{root}/code/") for name in names) and f"{root}/constants.pkl" in names:
        raise Forbidden("it is a TorchScript program, code together with weights")
    if len({name.lower() for name in names}) != len(names):
        raise Damaged("its archive names a record twice")
    squeezed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    total = sum(entry.file_size for entry in entries)
    if squeezed or total > size:
        what = "compressed records, which torch never writes, of" if squeezed else "records of"
        raise TooLarge(f"its archive declares {what} {total:,} bytes together")
    if archive.getinfo(f"{root}/data.pkl").file_size > MAX_PICKLE:
        raise TooLarge("its pickle is larger than any checkpoint's")
    return root, {entry.filename[len(root) + 1 :]: entry for entry in entries}


def _what_zip(names: list[str]) -> str:
    if names and all(name.endswith(".npy") for name in names):
        return "it is a numpy archive (.npz)"
    shown = ", ".join(names[:3]) or "nothing"
    return f"it is a zip archive of {shown}; if weights are inside, unpack it and give them"

"""The one door for weight files: tensors and plain types only, and one clear paragraph when a file is bad.

Every load in the project goes through `read_checkpoint`; nothing here ever runs code found in a file, and memory
stays in proportion to the file's size.
"""

import mmap
import stat
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from hrseg.errors import WeightsError
from hrseg.weights import kinds
from hrseg.weights.headers import check_header
from hrseg.weights.paddle import join_slices
from hrseg.weights.pickles import Machine
from hrseg.weights.plans import Budget, finish
from hrseg.weights.refusals import Damaged, Refusal, refuse
from hrseg.weights.torch_files import read_legacy, read_zip


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a weight file of PyTorch, Paddle or safetensors into a plain dictionary on the CPU.

    What a file is, is told by its first bytes, not by its name. Numpy arrays come out as tensors, and types stay
    as they are. Objects of known harmless classes, such as a training script's config, come out as
    `weights.plans.StandIn`; files that hold any other object stay shut.

    Args:
        path: The file. A safetensors file gives {"state_dict": tensors}.

    Returns:
        What the file holds; a bare state dict stays as it is.

    Raises:
        WeightsError: The file is missing, damaged, not a checkpoint, or holds more than tensors and plain types.
    """
    path = Path(path)
    size = _size(path)
    try:
        with path.open("rb") as file:
            kind = kinds.kind_of(path, file.read(kinds.FIRST_BYTES))
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
    """Return the bytes of a regular file; a pipe or a device would never end."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WeightsError(
            f"Weight file {path} does not exist. Give the path of a .ckpt, .pth, .pdparams or .safetensors file."
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(_unreadable(path, error)) from error
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
    raise WeightsError(
        f"Weight file {path} is {what}. Give the path of a .ckpt, .pth, .pdparams or .safetensors file."
    )


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
    content = finish(Machine(view).run(), Budget(size), _no_tensor)
    return join_slices(content) if isinstance(content, dict) else content


def _no_tensor(_: Any) -> Any:
    raise Damaged("a tensor has no numbers in this file")


_READERS = {
    kinds.TORCH_ZIP: read_zip,
    kinds.TORCH_LEGACY: read_legacy,
    kinds.PICKLE: _read_pickle,
    kinds.SAFETENSORS: _read_safetensors,
}

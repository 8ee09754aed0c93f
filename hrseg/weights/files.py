"""Opening weight files safely: tensors and plain types only, and one clear sentence when a file is bad.

Every load in the project goes through `read_checkpoint`; nothing here ever runs code found in a file.
"""

import pickle
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hrseg.errors import WeightsError


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a .ckpt, .pth or .safetensors file into a plain dictionary on the CPU.

    Args:
        path: The file. A .safetensors file gives {"state_dict": tensors}.

    Returns:
        What the file holds; a bare state dict stays as it is.

    Raises:
        WeightsError: The file is missing, damaged, not a checkpoint, or holds more than tensors and plain types.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(
            f"Weight file {path} {kind}. Give the path of a .ckpt or .safetensors file."
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} holds a {type(content).__name__}, not a checkpoint. A checkpoint is a dictionary of "
            "tensors, such as runs/NAME/best.ckpt."
        )
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return {"state_dict": load_file(path)}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(_damaged(path, error)) from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # about pickle protocols; the error below says it
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):
            raise WeightsError(
                f"{path} holds Python objects beside tensors and plain types, and opening those could run "
                "code. It was not opened. Save its state_dict alone, or convert it to safetensors where you "
                "trust it."
            ) from error
        raise WeightsError(_damaged(path, error)) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise WeightsError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    first = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
    cause = textwrap.shorten(first, 120, placeholder=" …")
    return (
        f"{path} ({size:,} bytes) is not a readable checkpoint: {cause}. It is probably truncated or of another "
        "kind. Copy or download it again, or use another checkpoint of the same run, such as last.ckpt."
    )

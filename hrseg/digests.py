"""SHA-256 of files and of networks, in hexadecimal digits."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def file_digest(path: Path) -> str:
    """Hash the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(weights: "Mapping[str, torch.Tensor]", spec: str = "") -> str:
    """Hash named tensors, and what else tells one network from another.

    Example:
        >>> import torch
        >>> weights_digest({"w": torch.zeros(2)})[:12]
        '22c348e12499'
    """
    import torch  # seconds, which a file's digest need not wait for

    total = hashlib.sha256(spec.encode())
    for name, tensor in sorted(weights.items()):
        values = tensor.detach().cpu().contiguous()
        total.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        total.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()

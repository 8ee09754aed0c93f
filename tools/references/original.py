"""What every file of this package gives: a network of the source, filled, run and saved by the source's code."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Original(Protocol):
    """One network of a source."""

    negative_gammas: bool

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name → shape, in the source's spelling and order."""

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Fill the network."""

    def logits(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return "main", "aux" at stride 4, or the "branch0" … of a source without a segmentation head."""

    def save(self, folder: Path, name: str) -> list[str]:
        """Write checkpoints as the source does; one list entry (a file, or files joined by "+") per checkpoint."""


class TorchOriginal:
    """The parts that all torch sources share.

    Args:
        network: Built by the source's own code.
    """

    negative_gammas = False

    def __init__(self, network: Any) -> None:
        self.network = network.eval()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name → shape, in the source's spelling and order."""
        return {name: tuple(value.shape) for name, value in self.network.state_dict().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Fill the network; every name must be there."""
        import torch

        self.network.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})

    def logits(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network without gradients."""
        import torch

        with torch.no_grad():
            outputs = self.run(torch.from_numpy(image))
        return {name: value.numpy() for name, value in outputs.items()}

    def run(self, image: Any) -> dict[str, Any]:
        """Give the network's outputs by our names."""
        raise NotImplementedError

    def save(self, folder: Path, name: str) -> list[str]:
        """Write the plain state dict, the simplest format of the field."""
        import torch

        torch.save(self.network.state_dict(), folder / f"{name}.pth")
        return [f"{name}.pth"]


def commit_of(checkout: Path | None) -> str:
    """Return the commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

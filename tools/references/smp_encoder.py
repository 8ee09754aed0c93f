"""smp on timm's HRNet: only the encoder is an HRNet, so its four branches are what can be compared."""

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch

from tools.references.cases import Case
from tools.references.original import TorchOriginal
from tools.references.timm_hub import NAMES


class Encoder(TorchOriginal):
    """A U-Net whose encoder's stage 4 is watched."""

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.branches: list[torch.Tensor] = []
        network.encoder.model.stage4.register_forward_hook(self._watch)

    def _watch(self, module: object, inputs: object, outputs: list[torch.Tensor]) -> None:
        self.branches = list(outputs)

    def run(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the four branch maps."""
        self.network.encoder(image)
        return {f"branch{i}": x for i, x in enumerate(self.branches)}


def build(case: Case, num_classes: int, checkout: Path | None) -> Encoder:
    """Build one case."""
    name = f"tu-{NAMES[case.backbone]}"
    return Encoder(smp.Unet(name, encoder_weights=None, classes=num_classes))


def version(checkout: Path | None) -> str:
    """Say what ran."""
    return str(smp.__version__)

"""The official ImageNet code, HRNet/HRNet-Image-Classification; 1,000 classes are fixed in it."""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch

from tools.references.cases import Case
from tools.references.official import Node, extra
from tools.references.original import TorchOriginal, commit_of


class Classifier(TorchOriginal):
    """A classifier whose stage 4 is watched."""

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.branches: list[torch.Tensor] = []
        network.stage4.register_forward_hook(self._watch)

    def _watch(self, module: Any, inputs: Any, outputs: Any) -> None:
        self.branches = list(outputs)

    def run(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the class scores and the four branch maps."""
        scores = self.network(image)
        return {"main": scores, **{f"branch{i}": x for i, x in enumerate(self.branches)}}


def build(case: Case, num_classes: int, checkout: Path) -> Classifier:
    """Build one case."""
    sys.path.insert(0, str(checkout / "lib"))
    module = importlib.import_module("models.cls_hrnet")
    config = Node(MODEL=Node(EXTRA=extra(case.backbone)))
    return Classifier(module.HighResolutionNet(config))


def version(checkout: Path) -> str:
    """Say what ran."""
    return f"commit {commit_of(checkout)}"

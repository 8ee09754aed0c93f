"""The official segmentation code, branches HRNet-OCR and pytorch-v1.1 of HRNet/HRNet-Semantic-Segmentation.

It runs as it is; `np.int`, which numpy dropped, is set for it, and its configuration is built from our cases.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tools.references.cases import WIDTHS, Case
from tools.references.original import TorchOriginal, commit_of


class Node(dict[str, Any]):
    """A mapping that is also read with dots, as the official configuration is."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def extra(backbone: str) -> Node:
    """Write a width the way the official yaml files do."""
    width = WIDTHS[backbone]

    def stage(modules: int, branches: int) -> Node:
        return Node(
            NUM_MODULES=modules,
            NUM_BRANCHES=branches,
            BLOCK="BASIC",
            NUM_BLOCKS=[width.blocks] * branches,
            NUM_CHANNELS=[width.channels * 2**i for i in range(branches)],
            FUSE_METHOD="SUM",
        )

    first = Node(
        NUM_MODULES=1,
        NUM_BRANCHES=1,
        BLOCK="BOTTLENECK",
        NUM_BLOCKS=[width.stem_blocks],
        NUM_CHANNELS=[width.stem_channels],
        FUSE_METHOD="SUM",
    )
    stages = {f"STAGE{i}": stage(m, i) for i, m in enumerate(width.modules, start=2)}
    return Node(FINAL_CONV_KERNEL=1, STAGE1=first, **stages)


def network(case: Case, num_classes: int, checkout: Path) -> nn.Module:
    """Build a network by the official class."""
    np.int = int  # type: ignore[attr-defined]
    library = str(checkout / "lib")
    if library not in sys.path:
        sys.path.insert(0, library)
    name = "seg_hrnet_ocr" if case.head == "ocr" else "seg_hrnet"
    model = Node(
        ALIGN_CORNERS=case.policy == "bilinear_aligned",
        EXTRA=extra(case.backbone),
        OCR=Node(MID_CHANNELS=512, KEY_CHANNELS=256, DROPOUT=0.05, SCALE=1),
    )
    config = Node(MODEL=model, DATASET=Node(NUM_CLASSES=num_classes))
    built: nn.Module = importlib.import_module(f"models.{name}").HighResolutionNet(config)
    return built


class Official(TorchOriginal):
    """A network of the official code; OCR answers [aux, main]."""

    def run(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the network's outputs by our names."""
        outputs = self.network(image)
        if isinstance(outputs, list):
            return {"aux": outputs[0], "main": outputs[1]}
        return {"main": outputs}

    def save(self, folder: Path, name: str) -> list[str]:
        """Write the three files that official training writes, and the plain one that others publish."""
        plain = super().save(folder, name)
        wrapper = nn.Module()  # the training script saves network and loss together
        wrapper.model = self.network
        wrapper.loss = nn.Module()
        classes = self.network.state_dict()[list(self.network.state_dict())[-1]].numel()
        wrapper.loss.criterion = nn.CrossEntropyLoss(weight=torch.ones(classes))
        torch.save(wrapper.state_dict(), folder / f"{name}_best.pth")
        optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.01, momentum=0.9)
        nested = {
            "epoch": 484,
            "best_mIoU": 0.809,
            "state_dict": wrapper.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(nested, folder / f"{name}_checkpoint.pth.tar")
        return [*plain, f"{name}_best.pth", f"{name}_checkpoint.pth.tar"]


def build(case: Case, num_classes: int, checkout: Path) -> Official:
    """Build one case."""
    return Official(network(case, num_classes, checkout))


def adopt(case: Case, official: dict[str, np.ndarray], checkout: Path) -> tuple[Official, dict[str, np.ndarray]]:
    """Build a network for an official state dict."""
    return build(case, official["last_layer.3.bias"].size, checkout), official


def version(checkout: Path) -> str:
    """Say what ran."""
    return f"commit {commit_of(checkout)}"

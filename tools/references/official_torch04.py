"""The official code of the torch-0.4.1 days: branch master, and HRNet-OCR as it ran there.

Its norm is a compiled in-place layer whose weight acts as abs(weight) + 1e-5 and which counts no batches. The
layer below says the same in plain torch and stands in for it; all else is the official code.

Source: lib/models/sync_bn/inplace_abn/src/inplace_abn_cpu.cpp, line 55, of the same repository.
"""

import functools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tools.references.cases import Case
from tools.references.official import Official, network, version

__all__ = ["build", "version"]

_PACKAGES = ("models.sync_bn", "models.sync_bn.inplace_abn", "models.sync_bn.inplace_abn.bn")


class AbsoluteNorm(nn.Module):
    """Batch norm in evaluation, with the absolute weight."""

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, features: int, momentum: float = 0.1, activation: str = "none") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize. Shape: as the input."""
        gamma = self.weight.abs() + 1e-5
        return functional.batch_norm(x, self.running_mean, self.running_var, gamma, self.bias)


class Torch04(Official):
    """A network whose norms were trained in place."""

    negative_gammas = True


def build(case: Case, num_classes: int, checkout: Path) -> Torch04:
    """Build one case, with the norm in place before the official modules ask for theirs."""
    for name in _PACKAGES:
        _pretend(name, InPlaceABNSync=AbsoluteNorm, bn=None)
    _pretend(
        "models.bn_helper",
        BatchNorm2d=functools.partial(AbsoluteNorm, activation="none"),
        BatchNorm2d_class=AbsoluteNorm,
        relu_inplace=False,
    )
    return Torch04(network(case, num_classes, checkout))


def _pretend(name: str, **contents: Any) -> None:
    module = sys.modules.setdefault(name, ModuleType(name))
    vars(module).update(contents)

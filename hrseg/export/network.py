"""An exported file in the place of a network, so that whatever runs checkpoints runs it too.

It takes normalised images, as every logits function does, and hands pixels to the file, which normalises itself.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hrseg.export.card import Facts, read_card
from hrseg.export.runtimes import Runner, open_runner

log = logging.getLogger(__name__)

_TINY = 1e-7


class ExportedNetwork(nn.Module):
    """Follows the network contract for prediction and validation; there is nothing in it to train.

    A file without logits answers with logits that have the same labels, and the same confidence where it gives
    probabilities. Windows and test-time augmentation then let its answers vote.

    Args:
        runner: The opened file.
        facts: Of its card.

    Shape:
        normalised image (N, 3, H, W) → logits (N, K, H, W), float32
    """

    def __init__(self, runner: Runner, facts: Facts) -> None:
        super().__init__()
        self.runner = runner
        self.outputs = facts.outputs
        self.precision = facts.precision
        self.num_classes = facts.labels.num_classes
        self.mean, self.std = facts.mean, facts.std
        self.spec = dict(facts.network or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> "ExportedNetwork":
        return self  # an open file is not copied, and nothing in it changes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at input size. Shape: as the class says."""
        answers = self.runner(to_pixels(image, self.mean, self.std))
        return as_logits(answers, self.num_classes).to(image.device)

    def forward_all(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return {"main": logits}, at input size. Shape: as the class says."""
        return {"main": self(image)}


def open_exported(path: Path) -> tuple[ExportedNetwork, Facts]:
    """Open an exported file as a network.

    Raises:
        WeightsError: It is damaged, or was not written by hrseg export.
        MissingExtraError: Its runtime is not installed.
    """
    runner = open_runner(path)
    facts = read_card(runner.card, path)
    if facts.outputs == ("labels",):
        log.info(
            "%s gives labels only, so every confidence is 1. To have it: hrseg export --outputs labels probability",
            path,
        )
    return ExportedNetwork(runner, facts).eval(), facts


def to_pixels(image: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Undo normalisation, exactly for images that were bytes. Shape: (N, 3, H, W) → uint8 (N, H, W, 3)."""
    s, m = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (std, mean))
    values = ((image.detach().float().cpu() * s + m) * 255.0).round().clamp(0, 255)
    return np.ascontiguousarray(values.to(torch.uint8).permute(0, 2, 3, 1).numpy())


def as_logits(answers: Mapping[str, np.ndarray], num_classes: int) -> torch.Tensor:
    """Return a file's logits, or logits that say the same as its labels and probabilities.

    Shape:
        answers (N, …, H, W) → (N, K, H, W)

    Example:
        >>> answers = {"labels": np.array([[[1]]]), "probability": np.array([[[0.8]]])}
        >>> as_logits(answers, 3).softmax(dim=1).flatten().tolist()
        [0.10000000149011612, 0.800000011920929, 0.10000000149011612]
    """
    if "logits" in answers:
        return torch.from_numpy(np.ascontiguousarray(answers["logits"])).float()
    labels = torch.from_numpy(answers["labels"].astype(np.int64))[:, None]  # (N, 1, H, W)
    if "probability" in answers:
        chosen = torch.from_numpy(answers["probability"].astype(np.float32))[:, None]
        chosen = chosen.clamp(1 / num_classes, 1 - _TINY)
    else:
        chosen = torch.full(labels.shape, 1 - _TINY)
    others = ((1 - chosen) / max(1, num_classes - 1)).log()
    logits = others.expand(-1, num_classes, -1, -1).clone()
    # A hair above, so that the label wins even where all classes are as likely.
    return logits.scatter_(1, labels, torch.maximum(chosen.log(), others + math.ulp(1.0) * 2**32))

"""Linear probes: a linear classifier on one branch's features, fitted on some images and scored on others.

Features are read at a few hundred pixels of each image, bilinearly from the coarse map; the classifier is a logistic
regression fitted by L-BFGS. Classes that a probe does not separate may still be separable nonlinearly.

Source: Alain and Bengio, "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hrseg.errors import DataError
from hrseg.explain.ablation import check_branches
from hrseg.labels import IGNORE_INDEX
from hrseg.metrics.confusion import scores

PIXELS = 800
"""Pixels of each image."""
_DECAY = 1e-4
_STEPS = 60


@dataclass(frozen=True)
class Probe:
    """Scores of one linear classifier.

    Attributes:
        name: "branch 0", … , "all branches", or "the network".
        channels: Of its features.
        miou: On images it was not fitted on, over the sampled pixels.
        iou: Of each class, (K,); nan where it is in neither mask nor prediction.
    """

    name: str
    channels: int
    miou: float
    iou: np.ndarray


@dataclass(frozen=True)
class Features:
    """Features of the branches at sampled pixels.

    Attributes:
        branches: One (M, channels) for each branch.
        truth: trainIds, (M,).
        found: trainIds that the network predicts there, (M,).
    """

    branches: list[torch.Tensor]
    truth: torch.Tensor
    found: torch.Tensor


def gather_features(
    network: Any,
    samples: Iterable[tuple[torch.Tensor, torch.Tensor]],
    pixels: int = PIXELS,
) -> Features:
    """Collect the features of some labeled pixels of each image.

    Args:
        network: As for `ablation.switch_off`.
        samples: Pairs of a normalized image and its mask.
        pixels: How many of each image.

    Raises:
        ConfigError: The network does not give its branches.
        DataError: No pixel has a label.

    Shape:
        image (bands, H, W), mask (H, W)
    """
    check_branches(network)
    rows: list[list[torch.Tensor]] = []
    truth, found = [], []
    for number, (image, mask) in enumerate(samples):
        labeled = (mask != IGNORE_INDEX).nonzero()  # (pixels, 2)
        draw = np.random.default_rng(zlib.crc32(str(number).encode()))
        count = min(pixels, len(labeled))
        picked = labeled[torch.from_numpy(draw.permutation(len(labeled))[:count])]  # (m, 2)
        if not count:
            continue
        size = (int(image.shape[-2]), int(image.shape[-1]))
        with torch.inference_mode():
            maps = network.forward_branches(image[None])  # (1, C * 2**i, H / (4 * 2**i), …)
            logits = network.upsample(network.head(maps)["main"], size)[0]  # (K, H, W)
            rows.append([_sample_at(x, picked, size) for x in maps])
        y, x = picked.T
        truth.append(mask[y, x])
        found.append(logits.argmax(dim=0).cpu()[y, x])
    if not truth:
        raise DataError("No pixel has a label, so nothing can be probed. Give images with masks.")
    branches = [torch.cat(parts) for parts in zip(*rows, strict=True)]  # (M, C_i) each
    return Features(branches, torch.cat(truth).long(), torch.cat(found).long())


def fit_probe(features: torch.Tensor, truth: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit logistic regression.

    Args:
        features: Of some pixels; they are standardized inside.
        truth: Their trainIds.
        classes: K.

    Returns:
        Weight and bias for unstandardized features.

    Shape:
        (M, C), (M,) → (K, C), (K,)
    """
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)  # (C,) each
    inputs = (features - mean) / deviation  # (M, C)
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)  # (K, C)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.cross_entropy(inputs @ weight.T + bias, truth) + _DECAY * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    with torch.no_grad():
        scaled = weight / deviation  # (K, C)
        return scaled.detach(), (bias - scaled @ mean).detach()


def probe_branches(fitted: Features, scored: Features, classes: int) -> list[Probe]:
    """Probe each branch and all together, and score the network's own prediction for comparison.

    Args:
        fitted: Features of the images to fit on.
        scored: Features of other images.
        classes: K.
    """
    count = len(fitted.branches)
    groups = [([i], f"branch {i}") for i in range(count)]
    if count > 1:
        groups.append(([*range(count)], "all branches"))
    probes = []
    for members, name in groups:
        train, test = (torch.cat([part.branches[i] for i in members], dim=1) for part in (fitted, scored))
        weight, bias = fit_probe(train, fitted.truth, classes)  # (K, C), (K,)
        guess = (test @ weight.T + bias).argmax(dim=1)  # (M,)
        probes.append(_score_probe(name, train.shape[1], guess, scored.truth, classes))
    return [*probes, _score_probe("the network", 0, scored.found, scored.truth, classes)]


def _score_probe(name: str, channels: int, guess: torch.Tensor, truth: torch.Tensor, classes: int) -> Probe:
    cells = torch.bincount(truth * classes + guess, minlength=classes**2)  # (K * K,)
    result = scores(cells.reshape(classes, classes))
    return Probe(name, channels, result["miou"], result["iou"].numpy())


def _sample_at(maps: torch.Tensor, picked: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Read a coarse map at pixels of the image, bilinearly. Shape: (1, C, h, w), (m, 2) → (m, C)."""
    y, x = ((2 * picked[:, i] + 1) / size[i] - 1 for i in (0, 1))  # -1 to 1 between the edges
    grid = torch.stack([x, y], dim=1)[None, None].to(maps)  # (1, 1, m, 2)
    values = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)  # (1, C, 1, m)
    return values[0, :, 0].T.float().cpu()  # (m, C)

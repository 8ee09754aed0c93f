"""Weighted sums of losses by name, and class weights from pixel counts."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hrseg.errors import ConfigError, DataError, first_few, unknown_choice
from hrseg.losses.terms import LOSSES
from hrseg.ops.loss import upsampled_nll

AVERAGES = ("valid", "all")


class WeightedSum(nn.Module):
    """Weighted sum of losses by name.

    Args:
        terms: Name of a loss → factor. Empty means cross-entropy alone; factor 0 drops a term.
        class_weights: One weight per class for cross-entropy, OHEM and focal; None is 1 for all.
        average: See `cross_entropy`.
        ignore_index: trainId of pixels without loss.
        ohem_threshold: See `ohem`.
        ohem_min_kept: See `ohem`: pixels, or up to 1 a share of the valid pixels.
        focal_gamma: See `focal`.
        aux_weight: Factor of the auxiliary logits' cross-entropy in `total`.

    Raises:
        ConfigError: A name that is no loss, or a number outside its range.

    Example:
        >>> loss = WeightedSum({"cross_entropy": 1.0, "dice": 0.5})
        >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())
        tensor(0.7765)
    """

    class_weights: torch.Tensor | None

    def __init__(
        self,
        terms: Mapping[str, float] | None = None,
        *,
        class_weights: torch.Tensor | None = None,
        average: str = "valid",
        ignore_index: int = 255,
        ohem_threshold: float = 0.9,
        ohem_min_kept: float = 131072,
        focal_gamma: float = 2.0,
        aux_weight: float = 0.4,
    ) -> None:
        super().__init__()
        terms = terms or {"cross_entropy": 1.0}
        _check_terms(terms)
        self.terms = {name: factor for name, factor in terms.items() if factor}
        _check_range("loss.ohem_threshold", ohem_threshold, 0, 1)
        _check_range("loss.ohem_min_kept", ohem_min_kept, 0)
        _check_range("loss.focal_gamma", focal_gamma, 0)
        _check_range("loss.aux_weight", aux_weight, 0)
        if class_weights is not None:
            class_weights = class_weights.detach().clone().float()
            _check_class_weights(class_weights)
        self.register_buffer("class_weights", class_weights, persistent=False)
        if average not in AVERAGES:
            raise ConfigError(unknown_choice("loss average", average, AVERAGES))
        self.average = average
        self.ignore_index = ignore_index
        self.threshold = ohem_threshold
        self.min_kept = ohem_min_kept
        self.gamma = focal_gamma
        self.aux_weight = aux_weight

    def forward(self, logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the sum of the terms, in float32 whatever the logits' precision.

        Shape:
            logits (N, K, H, W), mask (N, H, W) → scalar

        Raises:
            DataError: Sizes that do not match, or (on the CPU, where looking is free) a trainId
                that is no class.
        """
        self._check(logits, mask)
        mask = mask.long()
        with torch.autocast(logits.device.type, enabled=False):
            return self._sum(logits.float(), mask)

    def total(self, outputs: Mapping[str, torch.Tensor], mask: torch.Tensor, resize: str = "bilinear") -> torch.Tensor:
        """Return the loss of `forward_all`: the terms on "main", plain cross-entropy on "aux".

        Beside OHEM the auxiliary cross-entropy is averaged over all pixels, ignored ones and weights aside.

        Args:
            outputs: {"main": logits} and perhaps "aux", at any size; they are resized to the mask's.
            resize: The network's resize policy. Logits are resized bilinearly under all of them;
                "bilinear_aligned" aligns the corners.

        Shape:
            logits (N, K, h, w), mask (N, H, W) → scalar

        Source: only the official main output mines hard pixels; 0.4 for the auxiliary one. The official
        OhemCrossEntropy leaves the auxiliary losses unreduced, and the training loop takes their mean.
        """
        loss = self._main(outputs["main"], mask, resize)
        if "aux" in outputs:
            logits = outputs["aux"]  # (N, K, h, w)
            with torch.autocast(logits.device.type, enabled=False):
                nll = self._nll(logits, mask.long(), resize)  # (N, H, W)
                average = "all" if "ohem" in self.terms else self.average
                aux = self._term("cross_entropy", logits, mask.long(), nll=nll, average=average)
                loss = loss + self.aux_weight * aux
        return loss

    def _main(self, logits: torch.Tensor, mask: torch.Tensor, resize: str) -> torch.Tensor:
        """Return the terms' sum, without enlarged logits if all terms read only -log p(true class)."""
        size = (mask.shape[-2], mask.shape[-1])
        same = tuple(logits.shape[-2:]) == size
        if same or not all(LOSSES[name].from_nll for name in self.terms):
            loss: torch.Tensor = self(_to_size(logits, size, resize), mask)
            return loss
        self._check(logits, mask, enlarged=True)
        mask = mask.long()
        with torch.autocast(logits.device.type, enabled=False):
            return self._sum(logits, mask, nll=self._nll(logits, mask, resize))

    def _sum(self, logits: torch.Tensor, mask: torch.Tensor, **nll: torch.Tensor) -> torch.Tensor:
        losses = [factor * self._term(name, logits, mask, **nll) for name, factor in self.terms.items()]
        return torch.stack(losses).sum()

    def _nll(self, logits: torch.Tensor, mask: torch.Tensor, resize: str) -> torch.Tensor:
        aligned = resize == "bilinear_aligned"
        return upsampled_nll(logits, mask, aligned=aligned, ignore_index=self.ignore_index)

    def _term(self, name: str, logits: torch.Tensor, mask: torch.Tensor, **known: Any) -> torch.Tensor:
        row = LOSSES[name]
        settings: dict[str, Any] = {setting: getattr(self, setting) for setting in row.settings}
        return row.function(logits, mask, ignore_index=self.ignore_index, **(settings | known))

    def _check(self, logits: torch.Tensor, mask: torch.Tensor, enlarged: bool = False) -> None:
        size = mask.shape[-2:] if enlarged else logits.shape[2:]
        if logits.ndim != 4 or mask.shape != (logits.shape[0], *size):
            raise DataError(
                f"Logits {tuple(logits.shape)} and mask {tuple(mask.shape)} do not match. "
                "Right would be (N, K, H, W) and (N, H, W); WeightedSum.total resizes logits."
            )
        classes = logits.shape[1]
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise DataError(
                f"{len(self.class_weights)} class weights for {classes} classes. "
                "Give one weight per class in trainId order."
            )
        if mask.device.type == "cpu":
            wrong = mask[((mask < 0) | (mask >= classes)) & (mask != self.ignore_index)]
            if wrong.numel():
                raise DataError(
                    f"The mask holds {first_few(wrong.unique().tolist())}; trainIds are 0 to {classes - 1} and "
                    f"{self.ignore_index} to ignore. Check the label table of the data."
                )


def _to_size(logits: torch.Tensor, size: tuple[int, int], resize: str) -> torch.Tensor:
    # the same as models.blocks.resize_logits, which is in a folder of the same layer
    if tuple(logits.shape[-2:]) == size:
        return logits.float()
    aligned = resize == "bilinear_aligned"
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=aligned)


def _check_terms(terms: Mapping[str, float]) -> None:
    for name, factor in terms.items():
        if name not in LOSSES:
            raise ConfigError(unknown_choice("loss", name, LOSSES))
        _check_range(f"loss.terms.{name}", factor, 0)
    if not any(terms.values()):
        raise ConfigError(f"All loss factors are 0 ({', '.join(terms)}). Give at least one term a factor above 0.")


def _check_range(key: str, value: float, low: float, high: float = float("inf")) -> None:
    if not low <= value <= high or value == float("inf"):
        limits = f"{low} or more" if high == float("inf") else f"from {low} to {high}"
        raise ConfigError(f"{key} is {value}. Right would be a number {limits}.")


def _check_class_weights(weights: torch.Tensor) -> None:
    if weights.ndim != 1 or not bool(weights.isfinite().all()) or bool((weights < 0).any()):
        raise ConfigError(
            f"Class weights {weights.tolist()} are not usable. Right would be one finite number, 0 or more, per class."
        )


CITYSCAPES_WEIGHTS = (
    *(0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023),
    *(0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507),
)
"""Class weights of the official Cityscapes recipes, in trainId order."""

FORMULAS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "inverse": lambda share: 1 / (len(share) * share),
    "median_frequency": lambda share: share.quantile(0.5) / share,
    "enet": lambda share: 1 / (1.02 + share).log(),
}
"""Class weight formula → weights from the shares of the classes that occur."""


def class_weights_from_counts(counts: torch.Tensor, formula: str) -> torch.Tensor:
    """Return one weight per class from the pixels of each class in the training masks.

    Args:
        counts: Pixels per class, (K,).
        formula: "none" (ones), "inverse" (1 / (classes x share), so the mean weight of a pixel is 1),
            "median_frequency" (median share / share), "enet" (1 / log(1.02 + share)) or "official" (the nineteen
            Cityscapes weights).

    Returns:
        float32 weights (K,). A class without a pixel gets the largest weight of the others, not infinity.

    Raises:
        ConfigError: An unknown formula, or "official" for other than nineteen classes.
        DataError: No pixel of any class.

    Source: arXiv:1411.4734 (median frequency, here from shares of the whole set, not of the images
    that hold the class), arXiv:1606.02147 (enet), the official code (official).

    Example:
        >>> class_weights_from_counts(torch.tensor([75, 25]), "inverse")
        tensor([0.6667, 2.0000])
    """
    choices = ("none", *FORMULAS, "official")
    if formula not in choices:
        raise ConfigError(unknown_choice("class weight formula", formula, choices))
    counts = counts.double().cpu()
    if formula == "official":
        if len(counts) != len(CITYSCAPES_WEIGHTS):
            raise ConfigError(
                f"loss.class_weights=official is for the {len(CITYSCAPES_WEIGHTS)} classes of "
                f"Cityscapes; these data have {len(counts)}. "
                "Choose inverse, median_frequency or enet."
            )
        return torch.tensor(CITYSCAPES_WEIGHTS)
    if formula == "none":
        return torch.ones(len(counts))
    if counts.sum() <= 0:
        raise DataError(
            "No pixel of any class was counted, so no class weights follow. "
            "Check the masks and the label table, or set loss.class_weights=none."
        )
    seen = counts > 0
    weights = torch.empty_like(counts)  # (K,)
    weights[seen] = FORMULAS[formula]((counts / counts.sum())[seen])
    weights[~seen] = weights[seen].max()
    return weights.float()

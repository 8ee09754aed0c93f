"""How much each class weighs in a loss, from the pixels it has in the training masks."""

from collections.abc import Callable

import torch

from hrseg.errors import ConfigError, DataError, unknown_choice

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
        counts: Pixels per class.
        formula: "none" (ones), "inverse" (1 / (classes x share), so the mean weight of a pixel is
            1), "median_frequency" (median share / share), "enet" (1 / log(1.02 + share)) or
            "official" (the nineteen Cityscapes weights).

    Returns:
        float32 weights. A class without a pixel gets the largest weight of the others, not
        infinity.

    Shape:
        counts (K,) → (K,)

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
    weights = torch.empty_like(counts)
    weights[seen] = FORMULAS[formula]((counts / counts.sum())[seen])
    weights[~seen] = weights[seen].max()
    return weights.float()

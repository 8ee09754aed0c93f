"""Heads turn branch maps into class logits at the finest branch's resolution (stride 4).

A head knows channels and classes, never images or labels. Names of parameters are the official ones. OCR has a
file of its own, as have the two heads that give no logits per pixel (`features`).
"""

import torch
from torch import nn

from hrseg.kernels.head import FORMS, choose
from hrseg.models.blocks import resize


def concatenate(branches: list[torch.Tensor], policy: str) -> torch.Tensor:
    """Resize all branches to the finest and concatenate them.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → (N, 15C, H/4, W/4)
    """
    size = (branches[0].shape[-2], branches[0].shape[-1])
    return torch.cat([resize(x, size, policy) for x in branches], dim=1)


def classifier(wide: int, num_classes: int) -> nn.Sequential:
    """Build the official two-layer classifier: 1x1 convolution, norm, ReLU, 1x1 convolution, both with bias."""
    return nn.Sequential(
        nn.Conv2d(wide, wide, 1),
        nn.BatchNorm2d(wide),
        nn.ReLU(inplace=True),
        nn.Conv2d(wide, num_classes, 1),
    )


class HeadV1(nn.Module):
    """HRNetV1: the finest branch alone, and the classifier.

    Args:
        branch_channels: Channels of each branch, finest first.
        num_classes: K.
        resize_policy: Not used: nothing is resized.

    Shape:
        branch 0 (N, C, H/4, W/4) → {"main": (N, K, H/4, W/4)}

    Source: arXiv:1908.07919, where V1 is pose estimation's form; the classifier is V2's. The last fusion then
        reaches branch 0 only.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.last_layer = classifier(branch_channels[0], num_classes)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main": logits at stride 4}. Shape: as the class says."""
        return {"main": self.last_layer(branches[0])}


class HeadV2(nn.Module):
    """HRNetV2: all branches resized to the finest, concatenated, then 1x1 convolution and classifier.

    Args:
        branch_channels: Channels of each branch, finest first; they add up to 15C.
        num_classes: K.
        resize_policy: Interpolation before the concatenation, see `blocks.resize`.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → {"main": (N, K, H/4, W/4)}

    Source: arXiv:1908.07919; both convolutions carry a bias, as in the official code. The forms of the same sum that
        are faster than it are ours, see `kernels.head`.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        self.last_layer = classifier(sum(branch_channels), num_classes)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main": logits at stride 4}. Shape: as the class says."""
        form = choose(branches, self.last_layer, self.resize_policy)
        if form != "plain":
            aligned = self.resize_policy == "bilinear_aligned"
            return {"main": FORMS[form](branches, self.last_layer, aligned)}
        maps = concatenate(branches, self.resize_policy)
        return {"main": self.last_layer(maps)}  # (N, 15C, H/4, W/4) → (N, K, H/4, W/4)


class HeadC1(nn.Module):
    """The C1 decoder of CSAILVision's ADE20K networks: one 3x3 convolution to a quarter of the channels.

    Args:
        branch_channels: Channels of each branch, finest first; they add up to 15C.
        num_classes: K.
        resize_policy: Interpolation before the concatenation, see `blocks.resize`.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → {"main": (N, K, H/4, W/4)}

    Source: github.com/CSAILVision/semantic-segmentation-pytorch, decoder "c1".
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        wide = sum(branch_channels)
        self.cbr = nn.Sequential(
            nn.Conv2d(wide, wide // 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide // 4),
            nn.ReLU(inplace=True),
        )
        self.conv_last = nn.Conv2d(wide // 4, num_classes, 1)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main": logits at stride 4}. Shape: as the class says."""
        return {"main": self.conv_last(self.cbr(concatenate(branches, self.resize_policy)))}

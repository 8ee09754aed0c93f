"""Heads turn branch maps into class logits at the finest branch's resolution (stride 4).

A head knows channels and classes, never images or labels. Names of parameters are the official ones.
"""

import torch
from torch import nn

from hrseg.models.blocks import resize


class HeadV2(nn.Module):
    """HRNetV2: all branches resized to the finest, concatenated, then 1x1 convolution and classifier.

    Args:
        branch_channels: Channels of each branch, finest first; they add up to 15C.
        num_classes: K.
        resize_policy: Interpolation before the concatenation, see `blocks.resize`.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → {"main": (N, K, H/4, W/4)}

    Source: arXiv:1908.07919; both convolutions carry a bias, as in the official code.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        wide = sum(branch_channels)
        self.last_layer = nn.Sequential(
            nn.Conv2d(wide, wide, 1),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, num_classes, 1),
        )

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main": logits at stride 4}. Shape: as the class says."""
        size = (branches[0].shape[-2], branches[0].shape[-1])
        maps = torch.cat([resize(x, size, self.resize_policy) for x in branches], dim=1)
        return {"main": self.last_layer(maps)}  # (N, 15C, H/4, W/4) → (N, K, H/4, W/4)

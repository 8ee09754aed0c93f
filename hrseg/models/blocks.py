"""The pieces HRNet is made of: convolution with norm, two residual blocks, and the one resize function.

Nothing here knows about branches or classes. Parameter names follow the official code, since published
checkpoints spell them that way.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

ResizePolicy = Literal["bilinear", "bilinear_aligned", "nearest"]
RESIZE_POLICIES: tuple[str, ...] = get_args(ResizePolicy)


def conv_bn(
    inside: int, outside: int, kernel: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Build convolution (no bias), batch norm and, if asked, ReLU; padding keeps ceil(size / stride)."""
    layers: list[nn.Module] = [
        nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def resize(maps: torch.Tensor, size: tuple[int, int], policy: str) -> torch.Tensor:
    """Resize feature maps to a size by the network's policy; the same size returns the input.

    Args:
        maps: Feature maps.
        size: (height, width) to reach.
        policy: "bilinear", "bilinear_aligned" (corner pixels kept in place) or "nearest".

    Shape:
        maps (N, C, h, w) → (N, C, *size)

    Example:
        >>> resize(torch.zeros(1, 2, 3, 5), (6, 7), "bilinear").shape
        torch.Size([1, 2, 6, 7])
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if policy == "nearest":
        return F.interpolate(maps, size=size, mode="nearest")
    aligned = policy == "bilinear_aligned"
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=aligned)


def resize_logits(logits: torch.Tensor, size: tuple[int, int], policy: str) -> torch.Tensor:
    """Bring logits to label size, in float32 and always bilinearly.

    Blocky label maps help nobody, so a "nearest" network resizes its logits bilinearly; the aligned policy
    keeps its corners here too, as the official code does.

    Shape:
        logits (N, K, h, w) → (N, K, *size)
    """
    return resize(logits.float(), size, "bilinear" if policy == "nearest" else policy)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual addition before the last ReLU.

    Shape:
        (N, C, H, W) → (N, C, H, W)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block. Shape: (N, C, H, W) → (N, C, H, W)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions that end four times wider, with a residual addition.

    Shape:
        (N, inside, H, W) → (N, 4 * channels, H, W)
    """

    expansion = 4

    def __init__(self, inside: int, channels: int) -> None:
        super().__init__()
        outside = channels * self.expansion
        self.conv1 = nn.Conv2d(inside, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = conv_bn(inside, outside, 1, relu=False) if inside != outside else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block. Shape: (N, inside, H, W) → (N, 4 * channels, H, W)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)

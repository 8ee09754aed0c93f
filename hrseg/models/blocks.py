"""HRNet's building blocks: convolution with norm, two residual blocks, resizing and initialization.

Parameter names follow the official code, since published checkpoints use them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

ResizePolicy = Literal["bilinear", "bilinear_aligned", "bilinear_scaled", "nearest"]
Padding = Literal["symmetric", "same"]
Activation = Literal["relu", "leaky_relu"]
Downsample = Literal["conv", "max_pool"]
RESIZE_POLICIES: tuple[str, ...] = get_args(ResizePolicy)
LEAK = 0.2
"""Slope of leaky_relu below zero."""


@dataclass(frozen=True)
class Style:
    """Variants of a backbone's layers; only max_pool changes names and shapes of parameters.

    Attributes:
        padding: Of stride-2 3x3 convolutions: "symmetric" (one pixel on each side), or "same" (PaddleSeg and
            TensorFlow: even sizes are padded behind only).
        activation: "relu" or "leaky_relu".
        downsample: How fusions reach a coarser branch: "conv" (one stride-2 convolution per octave) or
            "max_pool" (one pooling by the whole factor, then a 1x1 convolution).

    Source: padding "same" is PaddleSeg's; leaky_relu and max_pool are ours, of no published network.
    """

    padding: str = "symmetric"
    activation: str = "relu"
    downsample: str = "conv"

    def act(self) -> nn.Module:
        """Return the activation layer."""
        if self.activation == "leaky_relu":
            return nn.LeakyReLU(LEAK, inplace=True)
        return nn.ReLU(inplace=True)

    def conv(self, inside: int, outside: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
        """Return a convolution without bias, whose output size is ceil(size / stride)."""
        kind = SameConv2d if self.padding == "same" and stride == 2 else nn.Conv2d
        return kind(inside, outside, kernel, stride, padding=kernel // 2, bias=False)


PLAIN = Style()


class SameConv2d(nn.Conv2d):
    """A stride-2 3x3 convolution padded as TensorFlow's "SAME": even sizes get one pixel behind and none before.

    Odd sizes get one on either side, as everywhere.

    Shape:
        (N, C, H, W) → (N, D, ceil(H / 2), ceil(W / 2))

    Source: PaddleSeg's padding "same" (measured: with it both give equal logits).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad, then convolve. Shape: see the class."""
        height, width = x.shape[-2:]
        x = F.pad(x, (width % 2, 1, height % 2, 1))  # left, right, top, bottom
        return F.conv2d(x, self.weight, self.bias, self.stride)


def conv_bn(
    inside: int,
    outside: int,
    kernel: int = 3,
    stride: int = 1,
    relu: bool = True,
    style: Style = PLAIN,
) -> nn.Sequential:
    """Build convolution (no bias), batch norm and, if asked, the activation; the output size is ceil(size / stride)."""
    layers: list[nn.Module] = [
        style.conv(inside, outside, kernel, stride),
        nn.BatchNorm2d(outside),
    ]
    if relu:
        layers.append(style.act())
    return nn.Sequential(*layers)


def resize(maps: torch.Tensor, size: tuple[int, int], policy: str) -> torch.Tensor:
    """Resize feature maps to a size by the network's policy; the same size returns the input.

    Args:
        maps: Feature maps.
        size: (height, width) to reach.
        policy: "bilinear", "bilinear_aligned" (corner pixels stay in place), "bilinear_scaled" (the same as
            bilinear here, see `enlarge`) or "nearest".

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


def enlarge(maps: torch.Tensor, size: tuple[int, int], octaves: int, policy: str) -> torch.Tensor:
    """Bring a coarser branch to a finer one's size inside a fusion.

    Only "bilinear_scaled" differs from `resize`: it enlarges by the whole factor first, and where that
    misses the sibling's size (which 32 does not divide) resizes once more, as mmsegmentation does.

    Args:
        maps: Feature maps of the coarser branch.
        size: (height, width) of the finer branch.
        octaves: Branches between them.
        policy: See `resize`.

    Shape:
        maps (N, C, h, w) → (N, C, *size)

    Source: mmsegmentation 1.2.2, HRModule.
    """
    if policy == "bilinear_scaled" and octaves:
        maps = F.interpolate(maps, scale_factor=2.0**octaves, mode="bilinear", align_corners=False)
    return resize(maps, size, policy)


def resize_logits(logits: torch.Tensor, size: tuple[int, int], policy: str) -> torch.Tensor:
    """Bring logits to label size, in float32 and always bilinearly.

    A "nearest" network resizes its logits bilinearly, since label maps would be blocky; the aligned policy aligns
    corners here too, as the official code does.

    Shape:
        logits (N, K, h, w) → (N, K, *size)
    """
    return resize(logits.float(), size, "bilinear" if policy == "nearest" else policy)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual addition before the last ReLU.

    Shape:
        (N, C, H, W) → (N, C, H, W)
    """

    def __init__(self, channels: int, style: Style = PLAIN) -> None:
        super().__init__()
        self.conv1 = style.conv(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = style.conv(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = style.act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block. Shape: (N, C, H, W) → (N, C, H, W)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + x)  # (N, C, H, W)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions that end four times wider, with a residual addition.

    Shape:
        (N, inside, H, W) → (N, 4 * channels, H, W)
    """

    expansion = 4

    def __init__(self, inside: int, channels: int, style: Style = PLAIN) -> None:
        super().__init__()
        outside = channels * self.expansion
        self.conv1 = style.conv(inside, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = style.conv(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = style.conv(channels, outside, 1)
        self.bn3 = nn.BatchNorm2d(outside)
        self.relu = style.act()
        self.downsample = conv_bn(inside, outside, 1, relu=False) if inside != outside else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block. Shape: (N, inside, H, W) → (N, 4 * channels, H, W)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))  # (N, channels, H, W)
        y = self.bn3(self.conv3(y))  # (N, 4 * channels, H, W)
        shortcut = x if self.downsample is None else self.downsample(x)  # (N, 4 * channels, H, W)
        return self.relu(y + shortcut)


Init = Literal["kaiming", "official"]
INITS: tuple[str, ...] = get_args(Init)
_SKIPPED = ("cls", "aux", "ocr")
"""Parts of names that the official rule leaves at torch's default."""


def initialize(network: nn.Module, init: str) -> None:
    """Set convolutions by the named rule, norms to weight 1 and bias 0, in place.

    Args:
        network: Any module.
        init: "kaiming" (normal, fan out) for training from scratch, or "official" (normal, std 0.001).
    """
    for name, module in network.named_modules():
        if init == "official" and any(part in name for part in _SKIPPED):
            continue
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if init == "official":
                nn.init.normal_(module.weight, std=0.001)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

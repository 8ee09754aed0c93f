"""The pose network of a port of HRNet to TensorFlow, as a backbone: four branches at strides 1, 2, 4 and 8.

It differs from the published HRNet in nearly every piece: no stem, bottlenecks as wide as their input outside, leaky
ReLU of slope 0.1, biases before the norms, norms with epsilon 0.001, an exchange without an activation after the sum,
downsampling whose channels double with each step, and upsampling before the 1x1 convolution.

Source: github.com/VXallset/deep-high-resolution-net.TensorFlow, commit 3749943, src/hrnet.py and src/utils.py, there
with C = 32 and a head for key points, which is left out here. Its 3x3 residual unit has no activation between the
second convolution and the addition, whatever descriptions of it say. What the code leaves open: its max pooling is
never called and keeps the channels, so that its maps could not be added to a coarser branch's; the 1x1 convolution with
norm and activation after it is ours, as upsampling has it. It takes images whose sides 8 divides; other sizes are ours.
"""

import torch
import torch.nn.functional as F
from torch import nn

from hrseg.models.blocks import SameConv2d
from hrseg.models.hrnet import Variant

SLOPE = 0.1
EPSILON = 1e-3  # TensorFlow's default
MOMENTUM = 0.1  # 0.9 where TensorFlow counts what stays


def unit(inside: int, outside: int, kernel: int = 3, stride: int = 1, active: bool = True) -> nn.Sequential:
    """Build convolution with bias, batch norm and, if asked, leaky ReLU; padded as TensorFlow's "same"."""
    kind = SameConv2d if stride == 2 else nn.Conv2d
    layers: list[nn.Module] = [
        kind(inside, outside, kernel, stride, padding=kernel // 2),
        nn.BatchNorm2d(outside, EPSILON, MOMENTUM),
    ]
    if active:
        layers.append(nn.LeakyReLU(SLOPE, inplace=True))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """Convolutions whose last has no activation, the addition of the input, and leaky ReLU.

    Args:
        channels: Of input and output.
        inner: Channels of a bottleneck of 1x1, 3x3 and 1x1; None for two 3x3 convolutions.

    Shape:
        (N, channels, H, W) → the same
    """

    def __init__(self, channels: int, inner: int | None = None) -> None:
        super().__init__()
        self.layers = (
            nn.Sequential(unit(channels, channels), unit(channels, channels, active=False))
            if inner is None
            else nn.Sequential(
                unit(channels, inner, 1),
                unit(inner, inner),
                unit(inner, channels, 1, active=False),
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the unit. Shape: see the class."""
        return F.leaky_relu(self.layers(x) + x, SLOPE)


class Exchange(nn.Module):
    """Every branch receives the sum of all; nothing is applied to the sum.

    Args:
        channels: Of each branch, finest first, each twice those before it.
        pool: Downsample by one max pooling and a 1x1 convolution, instead of 3x3 convolutions of stride 2.

    Shape:
        branch i: (N, C * 2**i, H / 2**i, W / 2**i) → the same
    """

    def __init__(self, channels: list[int], pool: bool = False) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(channels, source, target, pool) for source in range(len(channels)))
            for target in range(len(channels))
        )

    @staticmethod
    def _path(channels: list[int], source: int, target: int, pool: bool) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:  # enlarged before it
            return unit(channels[source], channels[target], 1)
        return down(channels[source], target - source, pool)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Add up all branches for each. Shape: see the class."""
        return [self._sum(paths, target, maps) for target, paths in enumerate(self.paths.children())]

    def _sum(self, paths: nn.Module, target: int, maps: list[torch.Tensor]) -> torch.Tensor:
        size = maps[target].shape[-2:]
        total = torch.zeros_like(maps[target])
        for source, (path, x) in enumerate(zip(paths.children(), maps, strict=True)):
            if source > target:
                x = F.interpolate(x, size=size, mode="nearest")
            total = total + path(x)
        return total


def down(channels: int, octaves: int, pool: bool = False) -> nn.Sequential:
    """Build a path of so many octaves down, to channels * 2**octaves."""
    if pool:
        largest = nn.MaxPool2d(2**octaves, ceil_mode=True)
        return nn.Sequential(largest, unit(channels, channels * 2**octaves, 1))
    steps = [unit(channels * 2**i, channels * 2 ** (i + 1), stride=2) for i in range(octaves)]
    return nn.Sequential(*steps)


class Block(nn.Module):
    """Residual units on every branch, then an exchange. Shape: as `Exchange`."""

    def __init__(self, channels: list[int], units: int, pool: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*[Residual(width) for _ in range(units)]) for width in channels)
        self.exchange = Exchange(channels, pool)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run the branches, then the exchange. Shape: see the class."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        exchanged: list[torch.Tensor] = self.exchange(maps)
        return exchanged


class TFPort(nn.Module):
    """The backbone: image in, four branch maps out.

    Args:
        variant: Width and depth; the source has those of hrnet_w32.
        in_channels: Bands of the image; stage 1 works on as many channels.
        pool: See `Exchange`.

    Shape:
        image (N, in_channels, H, W) → four maps, (N, C * 2**i, ceil(H / 2**i), ceil(W / 2**i))
    """

    input_scale = 1.0

    def __init__(self, variant: Variant, in_channels: int = 3, pool: bool = False) -> None:
        super().__init__()
        self.variant = variant
        self.out_channels = variant.channels(4)
        self.stage1 = nn.Sequential(
            *[Residual(in_channels, variant.stem_channels) for _ in range(variant.stem_blocks)],
            unit(in_channels, variant.width),
        )
        for stage, blocks in enumerate(variant.modules, start=2):
            channels = variant.channels(stage)
            self.add_module(f"exchange{stage}", Exchange(channels[:-1], pool))
            self.add_module(f"open{stage}", down(channels[-2], 1, pool))
            self.add_module(
                f"stage{stage}",
                nn.Sequential(*[Block(channels, variant.blocks, pool) for _ in range(blocks)]),
            )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the four branch maps. Shape: see the class."""
        return self.forward_stages(image)["stage4"]

    def forward_stages(self, image: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Return the maps of every stage on every branch, "stage1" (one branch) … "stage4" (four)."""
        maps = [self.stage1(image)]
        stages = {"stage1": maps}
        for stage in (2, 3, 4):
            opened = self.get_submodule(f"open{stage}")(maps[-1])
            maps = [*self.get_submodule(f"exchange{stage}")(maps), opened]
            maps = self.get_submodule(f"stage{stage}")(maps)
            stages[f"stage{stage}"] = maps
        return stages

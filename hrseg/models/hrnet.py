"""HRNet backbone: parallel branches at strides 4, 8, 16 and 32, fused after every module.

The ten published widths are rows of VARIANTS. Parameter names keep the official spelling (conv1, layer1,
transition1, stage2, branches, fuse_layers), which published checkpoints made a public interface.

Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition",
arXiv:1908.07919, and github.com/HRNet/HRNet-Semantic-Segmentation.
"""

import math
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from hrseg.models.blocks import PLAIN, BasicBlock, Bottleneck, Style, conv_bn, enlarge

Exchange = Literal["full", "between_stages", "final"]


@dataclass(frozen=True)
class Variant:
    """Width and depth of an HRNet.

    Attributes:
        width: C, the channels of the finest branch; branch i has C * 2**i.
        stem_blocks: Bottleneck blocks in stage 1.
        stem_channels: Inner channels of those blocks; stage 1 ends with four times as many.
        modules: Repetitions inside stages 2, 3 and 4.
        blocks: Basic blocks per branch in each module.
    """

    width: int
    stem_blocks: int = 4
    stem_channels: int = 64
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4

    def channels(self, branches: int) -> list[int]:
        """Return the channels of the first branches: C, 2C, 4C, 8C."""
        return [self.width * 2**i for i in range(branches)]


VARIANTS: dict[str, Variant] = {
    # The small ones are shallower; v1 has C = 16 in spite of its name.
    "hrnet_w18_small_v1": Variant(16, stem_blocks=1, stem_channels=32, modules=(1, 1, 1), blocks=2),
    "hrnet_w18_small_v2": Variant(18, stem_blocks=2, modules=(1, 3, 2), blocks=2),
    "hrnet_w18": Variant(18),
    "hrnet_w30": Variant(30),
    "hrnet_w32": Variant(32),
    "hrnet_w40": Variant(40),
    "hrnet_w44": Variant(44),
    "hrnet_w48": Variant(48),
    "hrnet_w60": Variant(60),
    "hrnet_w64": Variant(64),
}


def _fuse_layer(channels: list[int], target: int, source: int, style: Style) -> nn.Module:
    """Build the path from branch source to branch target, up to the upsampling."""
    if source == target:
        return nn.Identity()
    if source > target:  # from a coarser branch: 1x1, then enlarged in forward
        return conv_bn(channels[source], channels[target], 1, relu=False, style=style)
    steps = target - source  # from a finer branch: one stride-2 convolution per octave
    if style.downsample == "max_pool":
        pool = nn.MaxPool2d(2**steps, ceil_mode=True)
        return nn.Sequential(pool, conv_bn(channels[source], channels[target], 1, relu=False, style=style))
    before = [conv_bn(channels[source], channels[source], stride=2, style=style) for _ in range(steps - 1)]
    last = conv_bn(channels[source], channels[target], stride=2, relu=False, style=style)
    return nn.Sequential(*before, last)


class Module(nn.Module):
    """Residual blocks on every branch, then one fusion in which each branch receives the sum of all.

    Args:
        channels: Of each branch, finest first.
        blocks: Basic blocks per branch.
        resize_policy: Interpolation inside the fusion, see `blocks.enlarge`.
        style: How the pieces are made.
        fuses: False leaves the fusion out, as in the paper's ablation.
        receivers: Branches, finest first, that the fusion reaches; fewer than all where the head does not read the
            others, whose fuse_layers stay in the state dict, frozen.

    Shape:
        branch i: (N, C * 2**i, H / 2**i, W / 2**i) → the same
    """

    def __init__(
        self,
        channels: list[int],
        blocks: int,
        resize_policy: str,
        style: Style = PLAIN,
        fuses: bool = True,
        receivers: int = 4,
    ) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        self.receivers = receivers
        self.branches = nn.ModuleList(
            nn.Sequential(*[BasicBlock(width, style) for _ in range(blocks)]) for width in channels
        )
        count = range(len(channels) if fuses else 0)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_layer(channels, target, source, style) for source in count) for target in count
        )
        self.fuse_layers[receivers:].requires_grad_(False)  # DDP waits for every gradient
        self.relu = style.act()

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run the branches, then the fusion. Shape: see the class, one map per branch."""
        return self.fuse([branch(x) for branch, x in zip(self.branches, maps, strict=True)])

    def fuse(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Give each receiver the sum of all branches. Shape: see the class."""
        fused = [
            self._receive(target, layers, maps)
            for target, layers in enumerate(islice(self.fuse_layers, self.receivers))
        ]
        return [*fused, *maps[len(fused) :]]

    def _receive(self, target: int, layers: nn.Module, maps: list[torch.Tensor]) -> torch.Tensor:
        # the real size, not a factor: odd inputs give rounded-up sizes that no factor matches
        size = (maps[target].shape[-2], maps[target].shape[-1])
        total: torch.Tensor | None = None
        for source, (layer, x) in enumerate(zip(layers.children(), maps, strict=True)):
            part = enlarge(layer(x), size, max(0, source - target), self.resize_policy)
            total = part if total is None else total + part  # (N, C * 2**target, *size)
        return self.relu(total)  # (N, C * 2**target, …)


class HRNet(nn.Module):
    """The backbone: image in, four branch maps out, for any input from 1x1 up.

    Args:
        variant: A row of VARIANTS.
        resize_policy: Interpolation inside the fusions, see `blocks.enlarge`.
        in_channels: Bands of the input image.
        style: Padding, activation and downsampling of the pieces.
        exchange: Which modules end with a fusion. "full": every one, eight in the published network (one in
            stage 2, four in stage 3, three in stage 4). "between_stages": the last of each stage, three in
            all, and none within a stage. "final": the very last.
        branches_from_start: Stages 2 and 3 have all four branches, as stage 4 has, instead of opening one
            each; modules and blocks stay as many.
        receivers: Branches that the very last fusion reaches, see `Module`; 1 for the head V1.
        input_scale: The image is enlarged by this factor first, so that small objects cover more of the finest map.
            Time and memory grow with its square.

    Shape:
        image (N, in_channels, H, W) → four maps, (N, C * 2**i, ceil(H / (4 * 2**i)), …), where H and W are
        those of the enlarged image, rounded down

    Source: arXiv:1908.07919; a new branch starts from the lowest existing one. exchange and
        branches_from_start are its ablations of multi-resolution fusion and of resolution maintenance.
    """

    def __init__(
        self,
        variant: Variant,
        resize_policy: str = "bilinear",
        in_channels: int = 3,
        *,
        style: Style = PLAIN,
        exchange: Exchange = "full",
        branches_from_start: bool = False,
        receivers: int = 4,
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.variant = variant
        self.input_scale = input_scale
        self.out_channels = variant.channels(4)
        self.conv1 = style.conv(in_channels, 64, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = style.conv(64, 64, stride=2)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = style.act()
        wide = variant.stem_channels * Bottleneck.expansion
        self.layer1 = nn.Sequential(
            Bottleneck(64, variant.stem_channels, style),
            *[Bottleneck(wide, variant.stem_channels, style) for _ in range(variant.stem_blocks - 1)],
        )
        before = [wide]  # channels of stage 1: 256, in small v1 128
        for stage, modules in enumerate(variant.modules, start=2):
            after = variant.channels(4 if branches_from_start else stage)
            self.add_module(f"transition{stage - 1}", _transition(before, after, style))
            repeated = nn.ModuleList()
            for number in range(modules):
                last = number == modules - 1
                fuses = exchange == "full" or (last and (exchange == "between_stages" or stage == 4))
                reached = receivers if last and stage == 4 else 4
                repeated.append(Module(after, variant.blocks, resize_policy, style, fuses, reached))
            self.add_module(f"stage{stage}", repeated)
            before = after

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the four branch maps. Shape: see the class."""
        return self.forward_stages(image)["stage4"]

    def stem(self, image: torch.Tensor) -> torch.Tensor:
        """Run the two stride-2 convolutions. Shape: image → (N, 64, H/4, W/4)."""
        if self.input_scale != 1.0:
            image = F.interpolate(image, scale_factor=self.input_scale, mode="bilinear")
        x = self.relu(self.bn1(self.conv1(image)))  # (N, 64, H/2, W/2)
        stem: torch.Tensor = self.relu(self.bn2(self.conv2(x)))  # (N, 64, H/4, W/4)
        return stem

    def forward_stages(self, image: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Return the maps of every stage on every branch.

        Returns:
            Maps under "stem" (64 channels), "stage1" (one branch) … "stage4" (four branches).

        Shape:
            image (N, in_channels, H, W) → stage s: s maps at strides 4, 8, 16, 32 (four from stage 2 on with
            branches_from_start)
        """
        x = self.stem(image)  # (N, 64, H/4, W/4)
        maps = [self.layer1(x)]  # [(N, 256, H/4, W/4)], in small v1 128 channels
        stages = {"stem": [x], "stage1": maps}
        for stage in (2, 3, 4):
            transition = self.get_submodule(f"transition{stage - 1}").children()
            # a new branch starts from the lowest one
            maps = [layer(maps[min(i, len(maps) - 1)]) for i, layer in enumerate(transition)]
            for module in self.get_submodule(f"stage{stage}").children():
                maps = module(maps)  # branch i: (N, C * 2**i, H / (4 * 2**i), …)
            stages[f"stage{stage}"] = maps
        return stages


def stride_of(side: int, part: int, input_scale: float = 1.0) -> float:
    """Return the stride of a map relative to the image.

    Args:
        side: Height or width of the image.
        part: The same side of the map, rounded up at each halving.
        input_scale: Of the network.

    Example:
        >>> stride_of(97, 25), round(stride_of(360, 135, 1.5), 2)
        (4.0, 2.67)
    """
    return 2.0 ** round(math.log2(max(1.0, side * input_scale / part))) / input_scale


def _transition(before: list[int], after: list[int], style: Style) -> nn.ModuleList:
    """Build the layers that adapt existing branches and add new ones, each at half the lowest resolution."""
    layers: list[nn.Module] = [
        nn.Identity() if old == new else conv_bn(old, new, style=style) for old, new in zip(before, after, strict=False)
    ]
    for opened in range(len(before), len(after)):
        steps = opened - len(before)  # more than one branch opens only where all do from the start
        down = [conv_bn(before[-1], before[-1], stride=2, style=style) for _ in range(steps)]
        layers.append(nn.Sequential(*down, conv_bn(before[-1], after[opened], stride=2, style=style)))
    return nn.ModuleList(layers)

"""The cascaded pyramid's head: GlobalNet makes a pyramid and guesses on each level, RefineNet looks again.

Strong maps are carried down to fine ones by addition only, and the hard rest is left to the second network,
which works longer on coarser levels.
"""

import torch
from torch import nn

from hrseg.models.blocks import Bottleneck, conv_bn, resize

CHANNELS = 256


class GlobalNet(nn.Module):
    """A feature pyramid whose every level also guesses the classes.

    Each map passes a lateral 1x1 convolution; the next coarser level is resized, passes another 1x1
    convolution and is added.

    Args:
        branch_channels: Channels of each map, finest first.
        num_classes: K.
        resize_policy: Interpolation, see `blocks.resize`.

    Shape:
        maps (N, C_i, H_i, W_i) → levels (N, 256, H_i, W_i) and guesses (N, K, H_i, W_i), finest first
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        self.laterals = nn.ModuleList(conv_bn(inside, CHANNELS, 1) for inside in branch_channels)
        self.downs = nn.ModuleList(
            conv_bn(CHANNELS, CHANNELS, 1, relu=False) for _ in branch_channels[1:]
        )
        self.guesses = nn.ModuleList(
            nn.Sequential(
                conv_bn(CHANNELS, CHANNELS, 1), nn.Conv2d(CHANNELS, num_classes, 3, padding=1)
            )
            for _ in branch_channels
        )

    def forward(self, maps: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return levels and guesses. Shape: as the class says."""
        sides = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        levels = [sides.pop()]  # the coarsest has nothing above it
        for side, down in zip(reversed(sides), reversed(self.downs), strict=True):
            size = (side.shape[-2], side.shape[-1])
            levels.insert(0, side + down(resize(levels[0], size, self.resize_policy)))
        return levels, [guess(x) for guess, x in zip(self.guesses, levels, strict=True)]


class RefineNet(nn.Module):
    """Bottlenecks on each level, none on the finest and three on the coarsest; then all are joined.

    Args:
        levels: How many there are.
        num_classes: K.
        resize_policy: Interpolation, see `blocks.resize`.

    Shape:
        levels (N, 256, H_i, W_i) → logits (N, K, H_0, W_0)
    """

    def __init__(self, levels: int, num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        inner = CHANNELS // Bottleneck.expansion
        self.cascade = nn.ModuleList(
            nn.Sequential(*(Bottleneck(CHANNELS, inner) for _ in range(blocks)))
            for blocks in range(levels)
        )
        self.join = Bottleneck(levels * CHANNELS, inner)
        self.classifier = nn.Conv2d(CHANNELS, num_classes, 3, padding=1)

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """Return logits at the finest level's size. Shape: as the class says."""
        size = (levels[0].shape[-2], levels[0].shape[-1])
        worked = [blocks(x) for blocks, x in zip(self.cascade, levels, strict=True)]
        maps = torch.cat(
            [resize(x, size, self.resize_policy) for x in worked], dim=1
        )  # (N, 1024, …)
        logits: torch.Tensor = self.classifier(self.join(maps))
        return logits


class HeadCascadedPyramid(nn.Module):
    """GlobalNet, whose guesses are the auxiliary logits, and RefineNet, which gives the main ones.

    Args:
        branch_channels: Channels of each map, finest first.
        num_classes: K.
        resize_policy: Interpolation, see `blocks.resize`.

    Shape:
        maps (N, C_i, H/4 ... H/32, …) → {"main": (N, K, H/4, W/4), "aux": the same shape}

    Source: arXiv:1711.07319. For classes in place of joints: logits for heat maps, and "aux" is the mean of
        the guesses of all levels, which gets plain cross-entropy. The main loss is the recipe's; loss.terms={ohem: 1}
        mines hard pixels as the paper mines hard joints.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        self.globalnet = GlobalNet(branch_channels, num_classes, resize_policy)
        self.refinenet = RefineNet(len(branch_channels), num_classes, resize_policy)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return main and auxiliary logits at stride 4. Shape: as the class says."""
        size = (branches[0].shape[-2], branches[0].shape[-1])
        levels, guesses = self.globalnet(branches)
        aux = torch.stack([resize(x, size, self.resize_policy) for x in guesses]).mean(dim=0)
        return {"main": self.refinenet(levels), "aux": aux}

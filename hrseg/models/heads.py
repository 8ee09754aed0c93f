"""Heads turn branch maps into class logits at the finest branch's resolution (stride 4).

A head knows channels and classes, never images or labels. Names of parameters are the official ones. OCR has a
file of its own, as have the two heads that give no logits per pixel (`features`).
"""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hrseg.models.blocks import Bottleneck, resize
from hrseg.models.hrnet import HRNet
from hrseg.ops.fused_head import FORMS, choose


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


INNER = (32, 64, 128, 256)
"""Inner channels of the classification head's bottlenecks, finest branch first."""
EMBEDDING = 2048
PYRAMID_CHANNELS = 256
LEVELS = 5


class ClassificationHead(nn.Module):
    """HRNet-C: each branch widened, then added up from fine to coarse, pooled and classified.

    Args:
        branch_channels: Channels of each branch, finest first.
        num_classes: K, 1000 for ImageNet.
        resize_policy: Not used: stride-2 convolutions do the resizing.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → (N, K)

    Source: github.com/HRNet/HRNet-Image-Classification; timm has the same names and function.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        wide = [inner * Bottleneck.expansion for inner in INNER]
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(channels, inner))
            for channels, inner in zip(branch_channels, INNER, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(fine, coarse, 3, 2, padding=1),
                nn.BatchNorm2d(coarse),
                nn.ReLU(inplace=True),
            )
            for fine, coarse in itertools.pairwise(wide)
        )
        self.final_layer = nn.Sequential(
            nn.Conv2d(wide[-1], EMBEDDING, 1), nn.BatchNorm2d(EMBEDDING), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Linear(EMBEDDING, num_classes)

    def forward(self, branches: list[torch.Tensor]) -> torch.Tensor:
        """Return the logits of the whole image. Shape: as the class says."""
        wide = [widen(x) for widen, x in zip(self.incre_modules, branches, strict=True)]
        total = wide[0]
        for down, x in zip(self.downsamp_modules, wide[1:], strict=True):
            total = x + down(total)
        return self.classifier(self.final_layer(total).mean(dim=(2, 3)))


class HeadV2p(nn.Module):
    """HRNetV2p: the V2 map reduced to 256 channels and pooled to a pyramid, as detectors want it.

    Args:
        branch_channels: Channels of each branch, finest first; they add up to 15C.
        num_classes: Not used: a detector brings its classes.
        resize_policy: Interpolation before the concatenation, see `blocks.resize`.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → level i (N, 256, H / (4 * 2**i), …), five of them

    Source: arXiv:1908.07919; average pooling and five levels as in HRNet-Object-Detection.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        self.reduction_conv = nn.Conv2d(sum(branch_channels), PYRAMID_CHANNELS, 1)
        self.fpn_convs = nn.ModuleList(
            nn.Conv2d(PYRAMID_CHANNELS, PYRAMID_CHANNELS, 3, padding=1) for _ in range(LEVELS)
        )

    def forward(self, branches: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the pyramid, finest level first. Shape: as the class says."""
        maps = self.reduction_conv(concatenate(branches, self.resize_policy))
        pooled = [F.avg_pool2d(maps, 2**level, ceil_mode=True) for level in range(LEVELS)]
        return [conv(x) for conv, x in zip(self.fpn_convs, pooled, strict=True)]


class Reader(nn.Module):
    """An HRNet with a head that gives something else than logits per pixel.

    Args:
        backbone: Gives the branch maps.
        head: Takes them.
        spec: The `create_model` arguments that build this network again.

    Shape:
        image (N, bands, H, W) → what the head gives
    """

    def __init__(self, backbone: HRNet, head: nn.Module, spec: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.num_classes: int = spec["num_classes"]
        self.resize: str = spec["resize"]

    def forward(self, image: torch.Tensor) -> Any:
        """Return what the head gives. Shape: as the class says."""
        return self.head(self.backbone(image))

    def forward_branches(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the four branch maps, finest first. Shape: (N, bands, H, W) → [(N, C, H/4, W/4), …]."""
        branches: list[torch.Tensor] = self.backbone(image)
        return branches

"""HRNet's heads: branch maps to class logits at stride 4, to a pyramid, or to logits of the whole image.

All take the channels of each branch (finest first, together 15C), K, and the resize policy of the concatenation, see
`blocks.resize`. Parameter names are the official ones.
"""

import contextlib
import itertools

import torch
import torch.nn.functional as F
from torch import nn

from hrseg.models.blocks import Bottleneck, resize
from hrseg.ops.fused_head import FORMS, choose


def concatenate(branches: list[torch.Tensor], policy: str) -> torch.Tensor:
    """Resize all branches to the finest and concatenate them.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → (N, 15C, H/4, W/4)
    """
    size = (branches[0].shape[-2], branches[0].shape[-1])
    return torch.cat([resize(x, size, policy) for x in branches], dim=1)  # (N, 15C, H/4, W/4)


def classifier(wide: int, num_classes: int) -> nn.Sequential:
    """Build the official two-layer classifier: 1x1 convolution, norm, ReLU, 1x1 convolution, both with bias."""
    return nn.Sequential(
        nn.Conv2d(wide, wide, 1),
        nn.BatchNorm2d(wide),
        nn.ReLU(inplace=True),
        nn.Conv2d(wide, num_classes, 1),
    )


class HeadV1(nn.Module):
    """HRNetV1: the finest branch alone, and the classifier. Nothing is resized.

    Shape:
        branch 0 (N, C, H/4, W/4) → {"main": (N, K, H/4, W/4)}

    Source: arXiv:1908.07919, where V1 is pose estimation's form; the classifier is V2's. The last fusion then
        reaches branch 0 only.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.last_layer = classifier(branch_channels[0], num_classes)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main": logits at stride 4}. Shape: see the class."""
        return {"main": self.last_layer(branches[0])}


class HeadV2(nn.Module):
    """HRNetV2: all branches resized to the finest, concatenated, then 1x1 convolution and classifier.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → {"main": (N, K, H/4, W/4)}

    Source: arXiv:1908.07919; both convolutions carry a bias, as in the official code. The faster
        forms of the same sum are ours, see `ops.fused_head`.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        self.last_layer = classifier(sum(branch_channels), num_classes)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main": logits at stride 4}. Shape: see the class."""
        form = choose(branches, self.last_layer, self.resize_policy)
        if form != "plain":
            aligned = self.resize_policy == "bilinear_aligned"
            return {"main": FORMS[form](branches, self.last_layer, aligned)}
        maps = concatenate(branches, self.resize_policy)  # (N, 15C, H/4, W/4)
        return {"main": self.last_layer(maps)}  # (N, 15C, H/4, W/4) → (N, K, H/4, W/4)


class HeadC1(nn.Module):
    """The C1 decoder of CSAILVision's ADE20K networks: one 3x3 convolution to a quarter of the channels.

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
        """Return {"main": logits at stride 4}. Shape: see the class."""
        return {"main": self.conv_last(self.cbr(concatenate(branches, self.resize_policy)))}


OCR_CHANNELS = 512
KEY_CHANNELS = 256
DROPOUT = 0.05


class HeadOCR(nn.Module):
    """Object-contextual representations (OCR) on HRNetV2's concatenation.

    Auxiliary logits assign pixels softly to classes. The pixels of a class are averaged to one vector, each pixel
    attends to these vectors, and the result is classified again.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → {"main": (N, K, H/4, W/4), "aux": the same}

    Source: arXiv:1909.11065; seg_hrnet_ocr of the official code, branch HRNet-OCR, whose published losses weigh aux
        0.4 and main 1.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        wide = sum(branch_channels)
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(wide, OCR_CHANNELS, 3, padding=1),
            nn.BatchNorm2d(OCR_CHANNELS),
            nn.ReLU(inplace=True),
        )
        self.ocr_distri_head = Distribute(OCR_CHANNELS, KEY_CHANNELS)
        self.cls_head = nn.Conv2d(OCR_CHANNELS, num_classes, 1)
        self.aux_head = classifier(wide, num_classes)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main", "aux"}: logits at stride 4. Shape: see the class."""
        maps = concatenate(branches, self.resize_policy)  # (N, 15C, H/4, W/4)
        aux = self.aux_head(maps)  # (N, K, H/4, W/4)
        pixels = self.conv3x3_ocr(maps)  # (N, 512, H/4, W/4)
        objects = gather(pixels, aux)  # (N, 512, K, 1)
        return {"main": self.cls_head(self.ocr_distri_head(pixels, objects)), "aux": aux}


def gather(pixels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Average the pixels of each class, weighted by a softmax of its logits over the pixels.

    Shape:
        pixels (N, C, h, w), logits (N, K, h, w) → (N, C, K, 1)
    """
    with _float32(pixels.device):
        weights = logits.float().flatten(2).softmax(dim=2)  # (N, K, hw), each row adds up to 1
        objects = weights @ pixels.float().flatten(2).transpose(1, 2)  # (N, K, C)
    return objects.to(pixels.dtype).transpose(1, 2).unsqueeze(3)  # (N, C, K, 1)


class Attend(nn.Module):
    """Attention of pixels to class vectors.

    Args:
        channels: Of pixels and class vectors.
        key_channels: Of queries, keys and values.

    Shape:
        pixels (N, C, h, w), objects (N, C, K, 1) → (N, C, h, w)
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.f_pixel = _project_twice(channels, key_channels)
        self.f_object = _project_twice(channels, key_channels)
        self.f_down = nn.Sequential(*_project(channels, key_channels))
        self.f_up = nn.Sequential(*_project(key_channels, channels))

    def forward(self, pixels: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
        """Return the context of each pixel. Shape: see the class."""
        query = self.f_pixel(pixels).flatten(2).transpose(1, 2)  # (N, hw, D)
        key = self.f_object(objects).flatten(2)  # (N, D, K)
        value = self.f_down(objects).flatten(2).transpose(1, 2)  # (N, K, D)
        with _float32(pixels.device):
            similarity = (query.float() @ key.float()) * key.shape[1] ** -0.5  # (N, hw, K)
            context = similarity.softmax(dim=2) @ value.float()  # (N, hw, D)
        context = context.to(value.dtype).transpose(1, 2).unflatten(2, pixels.shape[-2:])
        return self.f_up(context)  # (N, D, h, w) → (N, C, h, w)


class Distribute(nn.Module):
    """Pixels concatenated with their context, mixed by a 1x1 convolution.

    Args:
        channels: Of pixels and class vectors.
        key_channels: See `Attend`.

    Shape:
        pixels (N, C, h, w), objects (N, C, K, 1) → (N, C, h, w)
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.object_context_block = Attend(channels, key_channels)
        self.conv_bn_dropout = nn.Sequential(*_project(2 * channels, channels), nn.Dropout2d(DROPOUT))

    def forward(self, pixels: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
        """Return pixels with context. Shape: see the class."""
        context = self.object_context_block(pixels, objects)  # (N, C, h, w)
        return self.conv_bn_dropout(torch.cat([context, pixels], dim=1))


def _project(inside: int, outside: int) -> list[nn.Module]:
    """Return a 1x1 convolution, and norm and ReLU nested in a pair, as in the official parameter names."""
    norm = nn.Sequential(nn.BatchNorm2d(outside), nn.ReLU(inplace=True))
    return [nn.Conv2d(inside, outside, 1, bias=False), norm]


def _project_twice(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(*_project(inside, outside), *_project(outside, outside))


def _float32(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Suspend autocast: one pixel's weight among 130,000 is around 1e-5, where float16 has few digits left."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


INNER = (32, 64, 128, 256)
"""Inner channels of the classification head's bottlenecks, finest branch first."""
EMBEDDING = 2048
PYRAMID_CHANNELS = 256
LEVELS = 5


class ClassificationHead(nn.Module):
    """HRNet-C: each branch widened, added up from fine to coarse, pooled and classified. Nothing is resized.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → (N, K)

    Source: github.com/HRNet/HRNet-Image-Classification; timm has the same names and function.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        wide = [inner * Bottleneck.expansion for inner in INNER]
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(channels, inner)) for channels, inner in zip(branch_channels, INNER, strict=True)
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
        """Return the logits of the whole image. Shape: see the class."""
        wide = [widen(x) for widen, x in zip(self.incre_modules, branches, strict=True)]
        total = wide[0]  # (N, 128, H/4, W/4)
        for down, x in zip(self.downsamp_modules, wide[1:], strict=True):
            total = x + down(total)  # at last (N, 1024, H/32, W/32)
        return self.classifier(self.final_layer(total).mean(dim=(2, 3)))  # (N, 2048) → (N, K)


class HeadV2p(nn.Module):
    """HRNetV2p: the V2 map reduced to 256 channels and pooled to a pyramid for detectors; classes are not used.

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
        """Return the pyramid, finest level first. Shape: see the class."""
        maps = self.reduction_conv(concatenate(branches, self.resize_policy))  # (N, 256, H/4, W/4)
        pooled = [F.avg_pool2d(maps, 2**level, ceil_mode=True) for level in range(LEVELS)]
        return [conv(x) for conv, x in zip(self.fpn_convs, pooled, strict=True)]  # (N, 256, …) each

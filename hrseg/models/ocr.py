"""Object-contextual representations: every pixel looks at one vector per class.

A first classifier (the auxiliary logits) says softly where each class is. The pixels of a class are averaged to
one vector, each pixel gathers the vectors by likeness, and the result is classified again.

Source: Yuan et al., "Object-Contextual Representations for Semantic Segmentation", arXiv:1909.11065, and the branch
HRNet-OCR of HRNet-Semantic-Segmentation, whose parameter names are kept.
"""

import contextlib

import torch
from torch import nn

from hrseg.models.heads import classifier, concatenate

PIXEL_CHANNELS = 512
KEY_CHANNELS = 256
DROPOUT = 0.05


class HeadOCR(nn.Module):
    """HRNetV2's concatenation under object-contextual representations.

    Args:
        branch_channels: Channels of each branch, finest first; they add up to 15C.
        num_classes: K.
        resize_policy: Interpolation before the concatenation, see `blocks.resize`.

    Shape:
        branch i (N, C * 2**i, H / (4 * 2**i), …) → {"main": (N, K, H/4, W/4), "aux": the same}

    Source: seg_hrnet_ocr of the official code; its published losses weigh aux 0.4 and main 1.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        wide = sum(branch_channels)
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(wide, PIXEL_CHANNELS, 3, padding=1),
            nn.BatchNorm2d(PIXEL_CHANNELS),
            nn.ReLU(inplace=True),
        )
        self.ocr_distri_head = Distribute(PIXEL_CHANNELS, KEY_CHANNELS)
        self.cls_head = nn.Conv2d(PIXEL_CHANNELS, num_classes, 1)
        self.aux_head = classifier(wide, num_classes)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main", "aux"}: logits at stride 4. Shape: as the class says."""
        maps = concatenate(branches, self.resize_policy)  # (N, 15C, H/4, W/4)
        aux = self.aux_head(maps)
        pixels = self.conv3x3_ocr(maps)  # (N, 512, H/4, W/4)
        objects = gather(pixels, aux)  # (N, 512, K, 1)
        return {"main": self.cls_head(self.ocr_distri_head(pixels, objects)), "aux": aux}


def gather(pixels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Average the pixels of each class, each weighted by how surely it belongs there.

    Shape:
        pixels (N, C, h, w), logits (N, K, h, w) → (N, C, K, 1)
    """
    with _float32(pixels.device):
        shares = logits.float().flatten(2).softmax(dim=2)  # (N, K, hw), each row adds up to 1
        objects = shares @ pixels.float().flatten(2).transpose(1, 2)  # (N, K, C)
    return objects.to(pixels.dtype).transpose(1, 2).unsqueeze(3)


class Attend(nn.Module):
    """Each pixel gathers the class vectors that are like it.

    Args:
        channels: Of pixels and class vectors.
        key_channels: Of the space where they are compared.

    Shape:
        pixels (N, C, h, w), objects (N, C, K, 1) → (N, C, h, w)
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.f_pixel = _twice(channels, key_channels)
        self.f_object = _twice(channels, key_channels)
        self.f_down = nn.Sequential(*_project(channels, key_channels))
        self.f_up = nn.Sequential(*_project(key_channels, channels))

    def forward(self, pixels: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
        """Return the context of each pixel. Shape: as the class says."""
        query = self.f_pixel(pixels).flatten(2).transpose(1, 2)  # (N, hw, D)
        key = self.f_object(objects).flatten(2)  # (N, D, K)
        value = self.f_down(objects).flatten(2).transpose(1, 2)  # (N, K, D)
        with _float32(pixels.device):
            likeness = (query.float() @ key.float()) * key.shape[1] ** -0.5
            context = likeness.softmax(dim=2) @ value.float()  # (N, hw, D)
        context = context.to(value.dtype).transpose(1, 2).unflatten(2, pixels.shape[-2:])
        return self.f_up(context)


class Distribute(nn.Module):
    """Context beside the pixels, mixed by a 1x1 convolution.

    Args:
        channels: Of pixels and class vectors.
        key_channels: Of the space where they are compared.

    Shape:
        pixels (N, C, h, w), objects (N, C, K, 1) → (N, C, h, w)
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.object_context_block = Attend(channels, key_channels)
        self.conv_bn_dropout = nn.Sequential(
            *_project(2 * channels, channels), nn.Dropout2d(DROPOUT)
        )

    def forward(self, pixels: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
        """Return pixels that know of their objects. Shape: as the class says."""
        context = self.object_context_block(pixels, objects)
        return self.conv_bn_dropout(torch.cat([context, pixels], dim=1))


def _project(inside: int, outside: int) -> list[nn.Module]:
    """1x1 convolution, then norm and ReLU in a pair of their own, as the official names have it."""
    norm = nn.Sequential(nn.BatchNorm2d(outside), nn.ReLU(inplace=True))
    return [nn.Conv2d(inside, outside, 1, bias=False), norm]


def _twice(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(*_project(inside, outside), *_project(outside, outside))


def _float32(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Suspend autocast: one pixel's share among 130,000 is around 1e-5, where float16 has few digits left."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()

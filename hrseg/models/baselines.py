"""Baselines that HRNet is compared with, behind the same contract.

Whole networks of segmentation_models_pytorch (smp) are wrapped; an smp encoder with SimpleBaseline's or the cascaded
pyramid's head is a Segmenter like an HRNet. Heads take the channels of each map (finest first), K, and the resize
policy, see `blocks.resize`.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn

from hrseg.errors import ConfigError, did_you_mean
from hrseg.models.blocks import Bottleneck, conv_bn, initialize, resize, resize_logits
from hrseg.models.segmenter import Segmenter

CHANNELS = 256


class GlobalNet(nn.Module):
    """A feature pyramid with logits at every level.

    Each map passes a lateral 1x1 convolution; the next coarser level is resized, passes another 1x1
    convolution and is added.

    Shape:
        maps (N, C_i, H_i, W_i) → levels (N, 256, H_i, W_i) and logits (N, K, H_i, W_i), finest first
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        self.laterals = nn.ModuleList(conv_bn(inside, CHANNELS, 1) for inside in branch_channels)
        self.downs = nn.ModuleList(conv_bn(CHANNELS, CHANNELS, 1, relu=False) for _ in branch_channels[1:])
        self.guesses = nn.ModuleList(
            nn.Sequential(conv_bn(CHANNELS, CHANNELS, 1), nn.Conv2d(CHANNELS, num_classes, 3, padding=1))
            for _ in branch_channels
        )

    def forward(self, maps: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return levels and logits. Shape: see the class."""
        sides = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]  # (N, 256, …)
        levels = [sides.pop()]  # the coarsest has nothing above it
        for side, down in zip(reversed(sides), reversed(self.downs), strict=True):
            size = (side.shape[-2], side.shape[-1])
            levels.insert(0, side + down(resize(levels[0], size, self.resize_policy)))
        return levels, [guess(x) for guess, x in zip(self.guesses, levels, strict=True)]


class RefineNet(nn.Module):
    """Bottlenecks on each level, none on the finest and three on the coarsest; then all are concatenated.

    Shape:
        levels (N, 256, H_i, W_i) → logits (N, K, H_0, W_0)
    """

    def __init__(self, levels: int, num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        inner = CHANNELS // Bottleneck.expansion
        self.cascade = nn.ModuleList(
            nn.Sequential(*(Bottleneck(CHANNELS, inner) for _ in range(blocks))) for blocks in range(levels)
        )
        self.join = Bottleneck(levels * CHANNELS, inner)
        self.classifier = nn.Conv2d(CHANNELS, num_classes, 3, padding=1)

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """Return logits at the finest level's size. Shape: see the class."""
        size = (levels[0].shape[-2], levels[0].shape[-1])
        refined = [blocks(x) for blocks, x in zip(self.cascade, levels, strict=True)]
        maps = torch.cat([resize(x, size, self.resize_policy) for x in refined], dim=1)
        logits: torch.Tensor = self.classifier(self.join(maps))  # (N, 1024, …) → (N, K, H_0, W_0)
        return logits


class HeadCascadedPyramid(nn.Module):
    """GlobalNet, which gives the auxiliary logits, and RefineNet, which gives the main ones.

    Shape:
        maps (N, C_i, H/4 ... H/32, …) → {"main": (N, K, H/4, W/4), "aux": the same shape}

    Source: arXiv:1711.07319. For classes in place of joints: logits for heat maps, and "aux" is the mean of
        the logits of all levels, which gets plain cross-entropy. The main loss is the recipe's; loss.terms={ohem: 1}
        mines hard pixels as the paper mines hard joints.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        self.resize_policy = resize_policy
        self.globalnet = GlobalNet(branch_channels, num_classes, resize_policy)
        self.refinenet = RefineNet(len(branch_channels), num_classes, resize_policy)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return main and auxiliary logits at stride 4. Shape: see the class."""
        size = (branches[0].shape[-2], branches[0].shape[-1])
        levels, guesses = self.globalnet(branches)  # (N, 256, …) and (N, K, …), four of each
        aux = torch.stack([resize(x, size, self.resize_policy) for x in guesses]).mean(dim=0)
        return {"main": self.refinenet(levels), "aux": aux}


STEPS = 3  # from stride 32 to stride 4


class HeadSimple(nn.Module):
    """Three 4x4 stride-2 transposed convolutions of 256 channels on the coarsest map, then a 1x1 classifier.

    Shape:
        maps (N, C_i, H/4 ... H/32, …) → {"main": (N, K, H/4, W/4)}

    Source: arXiv:1804.06208, with one logit map per class in place of one heat map per joint.
    """

    def __init__(self, branch_channels: list[int], num_classes: int, resize_policy: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = branch_channels[-1]
        for _ in range(STEPS):
            up = nn.ConvTranspose2d(inside, CHANNELS, 4, stride=2, padding=1, bias=False)
            layers += [up, nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)]
            inside = CHANNELS
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(CHANNELS, num_classes, 1)

    def forward(self, branches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {"main": logits at stride 4}. Shape: see the class."""
        height, width = branches[0].shape[-2:]
        maps = self.deconv_layers(branches[-1])  # (N, 256, 8 * ceil(H/32), 8 * ceil(W/32))
        return {"main": self.final_layer(maps[..., :height, :width])}


DECODERS: dict[str, type[nn.Module]] = {
    "unet": smp.Unet,
    "fpn": smp.FPN,
    "deeplabv3": smp.DeepLabV3,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "segformer": smp.Segformer,
    "upernet": smp.UPerNet,
}
"""Head name → a whole network of smp."""
PLAIN_HEADS: dict[str, type[nn.Module]] = {
    "simple": HeadSimple,
    "cascaded_pyramid": HeadCascadedPyramid,
}
"""Head name → our own head on the maps of an smp encoder."""


def create_baseline(encoder: str, head: str, spec: dict[str, Any], encoder_weights: str | None = None) -> nn.Module:
    """Build a baseline.

    Args:
        encoder: Name of an smp encoder.
        head: A row of DECODERS or PLAIN_HEADS.
        spec: The `create_model` arguments that build this network again.
        encoder_weights: None, or a name smp knows ("imagenet"), which downloads.

    Raises:
        ConfigError: The encoder is unknown, or does not fit the head.
    """
    check_encoder(encoder, head)
    if head in DECODERS:
        return Baseline(encoder, head, spec, encoder_weights)
    trunk = Encoder(encoder, spec["in_channels"], encoder_weights)
    top = PLAIN_HEADS[head](trunk.out_channels, spec["num_classes"], spec["resize"])
    initialize(top, "kaiming")
    return Segmenter(trunk, top, spec).to(memory_format=torch.channels_last)


class Baseline(nn.Module):
    """An smp encoder and decoder that take any image size and give logits at that size.

    Args:
        encoder: Name of an smp encoder.
        decoder: A row of DECODERS.
        spec: The `create_model` arguments that build this network again.
        encoder_weights: None, or a name smp knows ("imagenet"), which downloads.

    Shape:
        image (N, bands, H, W) → logits (N, K, H, W), float32
    """

    def __init__(self, encoder: str, decoder: str, spec: dict[str, Any], encoder_weights: str | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes: int = spec["num_classes"]
        self.resize: str = spec["resize"]
        with _smp_errors(encoder):
            self.network: Any = DECODERS[decoder](
                encoder_name=encoder,
                encoder_weights=encoder_weights,
                in_channels=spec["in_channels"],
                classes=spec["num_classes"],
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at input size. Shape: (N, bands, H, W) → (N, K, H, W)."""
        return self.forward_all(image)["main"]

    def forward_all(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return {"main": logits}; smp decoders already end at input size. Shape: see the class."""
        height, width = image.shape[-2:]
        logits = self.network(pad(image))[..., :height, :width]  # (N, K, H, W)
        return {"main": logits.float()}

    def forward_branches(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the encoder's four coarsest maps, finest first.

        Shape:
            image (N, bands, H, W) → maps at the encoder's strides: usually 4, 8, 16 and 32, for deeplabv3
            4, 8, 8 and 8
        """
        maps: list[torch.Tensor] = self.network.encoder(pad(image))
        return maps[-4:]  # without those at strides 1 and 2

    def upsample(self, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Bring logits to label size, in float32. Shape: (N, K, h, w) → (N, K, *size)."""
        return resize_logits(logits, size, self.resize)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the decoder and its classifier."""
        yield from self.network.decoder.parameters()
        yield from self.network.segmentation_head.parameters()


STRIDE = 32  # of the coarsest map; images are padded up to a multiple


class Encoder(nn.Module):
    """The four coarsest maps of an smp encoder, at the sizes an HRNet's branches have.

    Args:
        name: A name of `encoder_names()`, or tu-<timm name>.
        in_channels: Bands of the image.
        weights: None, or a name smp knows ("imagenet"), which downloads.

    Shape:
        image (N, bands, H, W) → maps (N, C_i, ceil(H / s), ceil(W / s)) for s = 4, 8, 16, 32

    Raises:
        ConfigError: The encoder cannot be built.
    """

    def __init__(self, name: str, in_channels: int, weights: str | None = None) -> None:
        super().__init__()
        with _smp_errors(name):
            self.encoder: nn.Module = smp.encoders.get_encoder(name, in_channels=in_channels, depth=5, weights=weights)
        channels: list[int] = list(self.encoder.out_channels)
        self.out_channels = channels[-4:]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return four maps, finest first. Shape: see the class."""
        padded = pad(image)  # (N, bands, 32 * ceil(H / 32), 32 * ceil(W / 32))
        maps: list[torch.Tensor] = self.encoder(padded)  # six, at strides 1 to 32
        return [_cut(x, image, padded.shape[-1] // x.shape[-1]) for x in maps[-4:]]


def pad(image: torch.Tensor) -> torch.Tensor:
    """Pad with zeros below and at the right up to a multiple of STRIDE."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE))


def _cut(maps: torch.Tensor, image: torch.Tensor, stride: int) -> torch.Tensor:
    height, width = image.shape[-2:]
    # Rounded up by an addition: ONNX divides negative numbers towards zero.
    return maps[..., : (height + stride - 1) // stride, : (width + stride - 1) // stride]


def encoder_names() -> list[str]:
    """Return the smp encoders that may be combined with a decoder."""
    return sorted(name for name in smp.encoders.get_encoder_names() if "hrnet" not in name)


def check_encoder(name: str, head: str) -> None:
    """Raise if an encoder does not fit the head of a baseline.

    Raises:
        ConfigError: The name is unknown, or is an HRNet.
    """
    names = encoder_names()
    # timm also takes hf-hub:ORG/NAME and local-dir:PATH, and an untrusted card names the encoder
    if name in names or (re.fullmatch(r"tu-[\w.]+", name) and "hrnet" not in name):
        return
    if "hrnet" in name:
        raise ConfigError(
            f"Head '{head}' takes an smp encoder, '{name}' is an HRNet. Use head 'v2' with it, or an "
            "encoder such as 'resnet18'."
        )
    raise ConfigError(
        f"Unknown encoder '{name}' for head '{head}'. smp offers {len(names)}, such as resnet18, "
        f"resnet50, efficientnet-b0, mit_b0, or tu-<timm name>.{did_you_mean(name, names)}"
    )


@contextlib.contextmanager
def _smp_errors(encoder: str) -> Iterator[None]:
    """Raise smp's and timm's refusals as ConfigError, and ignore their deprecation warnings."""
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            yield
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error.args[0] if error.args else error).strip().rstrip(".!")
        raise ConfigError(
            f"Encoder '{encoder}' cannot be built here: {reason}. It must give maps at strides 4 to 32 (deeplabv3: at "
            "stride 8 with dilation); resnet18, resnet50 and mobilenet_v2 fit every baseline."
        ) from error

"""The family HRNet is compared with, behind the same contract and on the same data.

Whole networks of segmentation_models_pytorch (symmetric with skips, dilated, ...) are wrapped; a strided encoder with
SimpleBaseline's or the cascaded pyramid's head is a Segmenter like an HRNet.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from hrseg.models.blocks import resize_logits
from hrseg.models.encoders import Encoder, cannot_build, check_encoder, pad
from hrseg.models.initialise import initialise
from hrseg.models.pyramid import HeadCascadedPyramid
from hrseg.models.segmenter import Segmenter
from hrseg.models.simple import HeadSimple

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


def create_baseline(
    encoder: str, head: str, spec: dict[str, Any], encoder_weights: str | None = None
) -> nn.Module:
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
    initialise(top, "kaiming")
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

    def __init__(
        self, encoder: str, decoder: str, spec: dict[str, Any], encoder_weights: str | None = None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes: int = spec["num_classes"]
        self.resize: str = spec["resize"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # smp's own, about TorchScript
            try:
                self.network: Any = DECODERS[decoder](
                    encoder_name=encoder,
                    encoder_weights=encoder_weights,
                    in_channels=spec["in_channels"],
                    classes=spec["num_classes"],
                )
            except (KeyError, ValueError, RuntimeError) as error:
                raise cannot_build(encoder, error) from error

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at input size. Shape: (N, bands, H, W) → (N, K, H, W)."""
        return self.forward_all(image)["main"]

    def forward_all(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return {"main": logits}; smp decoders already end at input size. Shape: as the class says."""
        height, width = image.shape[-2:]
        logits = self.network(pad(image))[..., :height, :width]
        return {"main": logits.float()}

    def forward_branches(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the encoder's four coarsest maps, finest first.

        Shape:
            image (N, bands, H, W) → maps at the encoder's strides: usually 4, 8, 16 and 32, for deeplabv3
            4, 8, 8 and 8
        """
        maps: list[torch.Tensor] = self.network.encoder(pad(image))
        return maps[-4:]

    def upsample(self, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Bring logits to label size, in float32. Shape: (N, K, h, w) → (N, K, *size)."""
        return resize_logits(logits, size, self.resize)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the decoder and its classifier."""
        yield from self.network.decoder.parameters()
        yield from self.network.segmentation_head.parameters()

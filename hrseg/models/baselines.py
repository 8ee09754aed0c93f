"""Networks of segmentation_models_pytorch behind the same contract, to compare HRNet with on the same data.

Nothing is downloaded unless weights are asked for by name. smp's `tu-hrnet_*` encoders are left out: they are
timm's classification features with nearest-neighbour fusion, another function than HRNetV2.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn

from hrseg.errors import ConfigError, did_you_mean
from hrseg.models.blocks import resize_logits

DECODERS: dict[str, type[nn.Module]] = {
    "unet": smp.Unet,
    "fpn": smp.FPN,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "segformer": smp.Segformer,
    "upernet": smp.UPerNet,
}
STRIDE = 32  # coarsest encoder stride; inputs are padded up to a multiple and the logits cut back


def encoder_names() -> list[str]:
    """Return the smp encoders that may be combined with a decoder."""
    return sorted(name for name in smp.encoders.get_encoder_names() if "hrnet" not in name)


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
        """Return {"main": logits}; smp decoders already end at input size. Shape: as the class says."""
        height, width = image.shape[-2:]
        logits = self.network(_pad(image))[..., :height, :width]
        return {"main": logits.float()}

    def forward_branches(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the encoder's four coarsest maps, finest first.

        Shape:
            image (N, bands, H, W) → maps at the encoder's strides, usually 4, 8, 16 and 32
        """
        maps: list[torch.Tensor] = self.network.encoder(_pad(image))
        return maps[-4:]

    def upsample(self, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Bring logits to label size, in float32. Shape: (N, K, h, w) → (N, K, *size)."""
        return resize_logits(logits, size, self.resize)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the decoder and its classifier."""
        yield from self.network.decoder.parameters()
        yield from self.network.segmentation_head.parameters()


def _pad(image: torch.Tensor) -> torch.Tensor:
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE))


def check_encoder(name: str, decoder: str) -> None:
    """Raise if an encoder cannot stand under an smp decoder.

    Raises:
        ConfigError: The name is unknown, or is an HRNet.
    """
    names = encoder_names()
    if name in names or (name.startswith("tu-") and "hrnet" not in name):
        return
    if "hrnet" in name:
        raise ConfigError(
            f"Head '{decoder}' takes an smp encoder, '{name}' is an HRNet. Use head 'v2' with it, or an "
            "encoder such as 'resnet18'."
        )
    raise ConfigError(
        f"Unknown encoder '{name}' for head '{decoder}'. smp offers {len(names)}, such as resnet18, "
        f"resnet50, efficientnet-b0, mit_b0, or tu-<timm name>.{did_you_mean(name, names)}"
    )

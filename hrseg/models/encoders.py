"""Encoders of segmentation_models_pytorch as a backbone: an image goes in, four maps come out, as from an HRNet.

Which names may be used is decided here. Nothing is downloaded unless weights are asked for by name. smp's
`tu-hrnet_*` encoders are left out: they are timm's classification features with nearest-neighbour fusion,
another function than HRNetV2.
"""

import warnings

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn

from hrseg.errors import ConfigError, did_you_mean

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # smp's own, about names
            try:
                self.encoder: nn.Module = smp.encoders.get_encoder(
                    name, in_channels=in_channels, depth=5, weights=weights
                )
            except (KeyError, ValueError, RuntimeError) as error:
                raise cannot_build(name, error) from error
        channels: list[int] = list(self.encoder.out_channels)
        self.out_channels = channels[-4:]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return four maps, finest first. Shape: as the class says."""
        padded = pad(image)
        maps: list[torch.Tensor] = self.encoder(padded)
        return [_cut(x, image, padded.shape[-1] // x.shape[-1]) for x in maps[-4:]]


def pad(image: torch.Tensor) -> torch.Tensor:
    """Add zeros below and at the right up to a multiple of STRIDE, as encoders and decoders want."""
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
    """Raise if an encoder cannot stand under the head of a baseline.

    Raises:
        ConfigError: The name is unknown, or is an HRNet.
    """
    names = encoder_names()
    if name in names or (name.startswith("tu-") and "hrnet" not in name):
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


def cannot_build(name: str, error: Exception) -> ConfigError:
    """Say in one paragraph why smp or timm refused an encoder."""
    reason = str(error.args[0] if error.args else error).strip().rstrip(".!")
    return ConfigError(
        f"Encoder '{name}' cannot be built here: {reason}. It must give maps at strides 4 to 32 (deeplabv3: at "
        "stride 8 with dilation); resnet18, resnet50 and mobilenet_v2 fit every baseline."
    )

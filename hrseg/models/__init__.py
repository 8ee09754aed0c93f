"""The tables of backbones and heads, and the one function that joins a row of each.

This folder knows tensors and class counts. It never sees a config, a label name or a trainer.
"""

from typing import Any, Literal

import torch

from hrseg.errors import ConfigError, unknown_choice
from hrseg.models.blocks import RESIZE_POLICIES, ResizePolicy
from hrseg.models.heads import HeadV2
from hrseg.models.hrnet import VARIANTS, HRNet
from hrseg.models.initialise import INITS, initialise
from hrseg.models.segmenter import Segmenter
from hrseg.models.summary import Summary, summary

BACKBONES = VARIANTS
PIXEL_HEADS = {"v2": HeadV2}
BASELINE_HEADS = ("deeplabv3plus", "fpn", "segformer", "unet", "upernet")
HEADS: dict[str, str] = {
    **dict.fromkeys(PIXEL_HEADS, "hrnet"),
    **dict.fromkeys(BASELINE_HEADS, "smp encoder"),
}
"""Head name → the family of backbones it stands on."""

__all__ = ["BACKBONES", "HEADS", "Summary", "create_model", "list_models", "summary"]


def create_model(
    backbone: str,
    head: str = "v2",
    num_classes: int = 19,
    resize: ResizePolicy = "bilinear",
    in_channels: int = 3,
    *,
    init: Literal["kaiming", "official"] = "kaiming",
    encoder_weights: str | None = None,
) -> Any:
    """Build a network: image (N, in_channels, H, W) in, logits (N, num_classes, H, W) out.

    Args:
        backbone: A name of `list_models()`, or an smp encoder for the heads unet, fpn, deeplabv3plus,
            segformer and upernet.
        head: "v2", or one of those smp heads.
        num_classes: K, the classes the network tells apart.
        resize: Interpolation in fusion and concatenation. "bilinear" for the plain official recipes,
            "bilinear_aligned" for ADE20K, "nearest" as ImageNet weights were trained.
        in_channels: Bands of the image.
        init: "kaiming" to train from scratch; "official" (std 0.001) where ImageNet weights follow.
        encoder_weights: For smp heads only: None, or a name smp knows ("imagenet"), which downloads.

    Returns:
        A module with `forward`, `forward_all` ({"main": logits at stride 4}) and `forward_branches`.

    Raises:
        ConfigError: A name or number that cannot be built.

    Example:
        >>> import torch
        >>> network = create_model("hrnet_w18_small_v1", num_classes=11)
        >>> network.eval()(torch.zeros(1, 3, 97, 101)).shape
        torch.Size([1, 11, 97, 101])
    """
    _check(head, num_classes, resize, in_channels, init)
    spec = {
        "backbone": backbone,
        "head": head,
        "num_classes": num_classes,
        "resize": resize,
        "in_channels": in_channels,
    }
    if HEADS[head] == "smp encoder":
        return _baseline(backbone, head, spec, encoder_weights)
    if backbone not in VARIANTS:
        raise ConfigError(unknown_choice("backbone", backbone, VARIANTS))
    if encoder_weights is not None:
        raise ConfigError(
            f"encoder_weights='{encoder_weights}' is for smp heads ({', '.join(BASELINE_HEADS)}). For "
            "an HRNet load a file with hrseg.load_weights(network, file)."
        )
    trunk = HRNet(VARIANTS[backbone], resize, in_channels)
    network = Segmenter(trunk, PIXEL_HEADS[head](trunk.out_channels, num_classes, resize), spec)
    initialise(network, init)
    return network.to(memory_format=torch.channels_last)


def list_models() -> list[str]:
    """Return the names of all HRNet backbones, smallest first.

    Example:
        >>> list_models()[:2]
        ['hrnet_w18_small_v1', 'hrnet_w18_small_v2']
    """
    return list(VARIANTS)


def _check(head: str, num_classes: int, resize: str, in_channels: int, init: str) -> None:
    for kind, value, table in (
        ("head", head, HEADS),
        ("resize policy", resize, RESIZE_POLICIES),
        ("init", init, INITS),
    ):
        if value not in table:
            raise ConfigError(unknown_choice(kind, value, table))
    for name, number in (("num_classes", num_classes), ("in_channels", in_channels)):
        if number < 1:
            raise ConfigError(f"{name} is {number}; a network needs at least 1.")


def _baseline(encoder: str, head: str, spec: dict[str, Any], weights: str | None) -> Any:
    # smp and timm cost four seconds to import; an HRNet needs neither.
    from hrseg.models.baselines import Baseline, check_encoder

    check_encoder(encoder, head)
    return Baseline(encoder, head, spec, weights)

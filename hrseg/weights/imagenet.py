"""ImageNet backbones by their timm tag, downloaded once through timm's own hub code and cache.

Source: timm publishes the official ImageNet files (and Paddle's distilled "ssld" ones) under stable names; their
parameter names are the official ones.
"""

import torch
from torch import nn

from hrseg.errors import WeightsError, unknown_choice

TIMM_NAMES = {"hrnet_w18_small": "hrnet_w18_small_v1"}
"""timm architecture → our backbone, where the two differ."""
TAGS = (
    "hrnet_w18_small.gluon_in1k",
    "hrnet_w18_small.ms_in1k",
    "hrnet_w18_small_v2.gluon_in1k",
    "hrnet_w18_small_v2.ms_in1k",
    "hrnet_w18.ms_aug_in1k",
    "hrnet_w18.ms_in1k",
    "hrnet_w18_ssld.paddle_in1k",
    "hrnet_w30.ms_in1k",
    "hrnet_w32.ms_in1k",
    "hrnet_w40.ms_in1k",
    "hrnet_w44.ms_in1k",
    "hrnet_w48.ms_in1k",
    "hrnet_w48_ssld.paddle_in1k",
    "hrnet_w64.ms_in1k",
)


def is_imagenet_tag(text: str) -> bool:
    """Tell a tag such as "hrnet_w48.ms_in1k" from a file name.

    Example:
        >>> is_imagenet_tag("hrnet_w48.ms_in1k"), is_imagenet_tag("hrnet_w48.ckpt")
        (True, False)
    """
    return text.startswith("hrnet_") and text.endswith("_in1k") and "/" not in text


def backbone_of(tag: str) -> str:
    """Return the backbone a tag belongs to.

    Raises:
        WeightsError: No such tag.

    Example:
        >>> backbone_of("hrnet_w18_small.ms_in1k")
        'hrnet_w18_small_v1'
    """
    if tag not in TAGS:
        raise WeightsError(unknown_choice("tag", tag, TAGS))
    architecture = tag.split(".")[0].removesuffix("_ssld")
    return TIMM_NAMES.get(architecture, architecture)


def pull_imagenet(tag: str, network: nn.Module) -> dict[str, torch.Tensor]:
    """Download (once) and return the state dict of an ImageNet backbone.

    Args:
        tag: A row of TAGS.
        network: The network it is for; its backbone must be the tag's.

    Raises:
        WeightsError: Unknown tag, another backbone, or the file cannot be had.
    """
    backbone = backbone_of(tag)
    mine = str(getattr(network, "spec", {}).get("backbone", backbone))
    if mine != backbone:
        raise WeightsError(
            f"Weights '{tag}' are for {backbone}; this network is {mine}. Set model.backbone={backbone}, or "
            f"choose weights made for {mine}."
        )
    # timm takes four seconds to import and only this function needs it.
    import timm

    try:
        return dict(timm.create_model(tag, pretrained=True).state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"Could not get '{tag}' from the Hugging Face hub ({type(error).__name__}). Try again with a connection; "
            "once fetched it stays in the cache. Without one, bring model.safetensors from "
            f"https://huggingface.co/timm/{tag} and set model.weights to its path, or set model.weights=null "
            "to train from scratch."
        ) from error

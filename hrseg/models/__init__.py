"""Networks: the tables of backbones and heads, and `create_model`, which joins one of each."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, get_args

import torch
from torch import nn

from hrseg.errors import ConfigError, unknown_choice
from hrseg.models.blocks import (
    INITS,
    RESIZE_POLICIES,
    Activation,
    Downsample,
    Padding,
    ResizePolicy,
    Style,
    initialize,
)
from hrseg.models.heads import (
    ClassificationHead,
    HeadC1,
    HeadOCR,
    HeadV1,
    HeadV2,
    HeadV2p,
)
from hrseg.models.hrnet import VARIANTS, Exchange, HRNet
from hrseg.models.segmenter import BackboneWithHead, Segmenter
from hrseg.models.summary import Summary, summary
from hrseg.models.tf_port import TFPort

BACKBONES = VARIANTS
PIXEL_HEADS: dict[str, type[nn.Module]] = {
    "v1": HeadV1,
    "v2": HeadV2,
    "ocr": HeadOCR,
    "c1": HeadC1,
}
OTHER_HEADS: dict[str, type[nn.Module]] = {"v2p": HeadV2p, "classification": ClassificationHead}
BASELINE_HEADS = (
    *("unet", "cascaded_pyramid", "simple", "deeplabv3"),  # HRNet's papers compare with these
    *("deeplabv3plus", "fpn", "segformer", "upernet"),
)


class Head(NamedTuple):
    """Properties of a head: its family of backbones, what it outputs, and how many branches it reads."""

    family: Literal["hrnet", "smp encoder"]
    gives: Literal["pixels", "pyramid", "image"]
    reads: int = 4


HEADS: dict[str, Head] = {
    **dict.fromkeys(PIXEL_HEADS, Head("hrnet", "pixels")),
    "v1": Head("hrnet", "pixels", reads=1),
    "v2p": Head("hrnet", "pyramid"),
    "classification": Head("hrnet", "image"),
    **dict.fromkeys(BASELINE_HEADS, Head("smp encoder", "pixels")),
}
"""Head name → properties. Only heads that give pixels can be trained for segmentation."""


class Form(TypedDict, total=False):
    """Options of an HRNet that change its function.

    Attributes:
        padding: Of stride-2 convolutions: "symmetric", or "same" as in PaddleSeg.
        exchange: Modules that end with a fusion: "full", "between_stages" or "final", see `HRNet`.
        branches_from_start: Four branches from stage 2 on.
        activation: "relu" or "leaky_relu".
        downsample: From a finer branch to a coarser in the fusions: "conv" or "max_pool".
        input_scale: The network sees the image enlarged by this factor, 1 to 4; logits keep the image's size.
        style: "hrnet", or "tf_port" for the network of `tf_port`, which takes no other option than `downsample`;
            `resize` is then the head's alone.
    """

    padding: Padding
    exchange: Exchange
    branches_from_start: bool
    activation: Activation
    downsample: Downsample
    input_scale: float
    style: Literal["hrnet", "tf_port"]


FORM: dict[str, Any] = {
    "padding": "symmetric",
    "exchange": "full",
    "branches_from_start": False,
    "activation": "relu",
    "downsample": "conv",
    "input_scale": 1.0,
    "style": "hrnet",
}
"""Options of an HRNet besides its width, with the published network's values, which a spec without them means."""
LARGEST_INPUT_SCALE = 4.0
_CHOICES = {
    "padding": get_args(Padding),
    "exchange": get_args(Exchange),
    "activation": get_args(Activation),
    "downsample": get_args(Downsample),
    "style": ("hrnet", "tf_port"),
}

__all__ = ["BACKBONES", "FORM", "HEADS", "Summary", "create_model", "list_models", "summary"]


def create_model(
    backbone: str,
    head: str = "v2",
    num_classes: int = 19,
    resize: ResizePolicy = "bilinear",
    in_channels: int = 3,
    *,
    init: Literal["kaiming", "official"] = "kaiming",
    encoder_weights: str | None = None,
    **form: Unpack[Form],
) -> Any:
    """Build a network: image (N, in_channels, H, W) in, logits (N, num_classes, H, W) out.

    Args:
        backbone: A name of `list_models()`, or an smp encoder for the baselines' heads: unet,
            cascaded_pyramid, simple, deeplabv3, deeplabv3plus, fpn, segformer and upernet.
        head: Of an HRNet: "v2", "v1", "ocr" or "c1" for pixels, "v2p" for a pyramid, "classification" for
            whole images. Or one of those baselines' heads.
        num_classes: K, the number of classes.
        resize: Interpolation in fusion and concatenation. "bilinear" for the plain official recipes,
            "bilinear_aligned" for ADE20K and OCR, "bilinear_scaled" for mmsegmentation's, "nearest" as
            ImageNet weights were trained.
        in_channels: Bands of the image.
        init: "kaiming" to train from scratch; "official" (std 0.001) where ImageNet weights follow.
        encoder_weights: For baselines only: None, or a name smp knows ("imagenet"), which downloads.
        form: Options of an HRNet that change its function, see `Form`; by default the published network's.

    Returns:
        A module with `forward`, `forward_all` ({"main": logits at stride 4}) and `forward_branches`. With a
        head that gives no pixels, `forward` gives the head's pyramid or logits of the image.

    Raises:
        ConfigError: A name or number that cannot be built.

    Example:
        >>> import torch
        >>> network = create_model("hrnet_w18_small_v1", num_classes=11)
        >>> network.eval()(torch.zeros(1, 3, 97, 101)).shape
        torch.Size([1, 11, 97, 101])
    """
    unknown = next((name for name in form if name not in FORM), None)
    if unknown is not None:
        raise ConfigError(unknown_choice("option of a network", unknown, FORM))
    values = {**FORM, **form}
    spec: dict[str, Any] = {
        "backbone": backbone,
        "head": head,
        "num_classes": num_classes,
        "resize": resize,
        "in_channels": in_channels,
    }
    _check(spec, init, values)
    if HEADS[head].family == "smp encoder":
        _check_no_form(f"head '{head}'", values)
        # smp and timm cost four seconds to import; an HRNet needs neither
        from hrseg.models.baselines import create_baseline

        return create_baseline(backbone, head, spec, encoder_weights)
    if backbone not in VARIANTS:
        raise ConfigError(unknown_choice("backbone", backbone, VARIANTS))
    if encoder_weights is not None:
        raise ConfigError(
            f"encoder_weights='{encoder_weights}' is for baselines ({', '.join(BASELINE_HEADS)}). For "
            "an HRNet load a file with hrseg.load_weights(network, file)."
        )
    trunk: Any
    if values["style"] == "tf_port":
        others = {name: value for name, value in values.items() if name not in _PORTED}
        _check_no_form("style tf_port", others)
        trunk = TFPort(VARIANTS[backbone], in_channels, values["downsample"] == "max_pool")
    else:
        trunk = HRNet(
            VARIANTS[backbone],
            resize,
            in_channels,
            style=Style(values["padding"], values["activation"], values["downsample"]),
            exchange=values["exchange"],
            branches_from_start=values["branches_from_start"],
            receivers=HEADS[head].reads,
            input_scale=values["input_scale"],
        )
    top = {**PIXEL_HEADS, **OTHER_HEADS}[head](trunk.out_channels, num_classes, resize)
    spec |= values
    network = (Segmenter if head in PIXEL_HEADS else BackboneWithHead)(trunk, top, spec)
    initialize(network, init)
    return network.to(memory_format=torch.channels_last)


def list_models() -> list[str]:
    """Return the names of all HRNet backbones, smallest first.

    Example:
        >>> list_models()[:2]
        ['hrnet_w18_small_v1', 'hrnet_w18_small_v2']
    """
    return list(VARIANTS)


def _check(spec: Mapping[str, Any], init: str, form: Mapping[str, Any]) -> None:
    for kind, value, table in (
        ("head", spec["head"], HEADS),
        ("resize policy", spec["resize"], RESIZE_POLICIES),
        ("init", init, INITS),
        *((name, form[name], choices) for name, choices in _CHOICES.items()),
    ):
        if value not in table:
            raise ConfigError(unknown_choice(kind, value, table))
    for name in ("num_classes", "in_channels"):
        if spec[name] < 1:
            raise ConfigError(f"{name} is {spec[name]}; a network needs at least 1.")
    if not 1.0 <= form["input_scale"] <= LARGEST_INPUT_SCALE:
        raise ConfigError(
            f"input_scale is {form['input_scale']}. It must be between 1, the original size, and "
            f"{LARGEST_INPUT_SCALE:g}; to reduce an image, use evaluation.scales or data.base_size."
        )


_PORTED = ("style", "downsample")


def _check_no_form(what: str, form: Mapping[str, Any]) -> None:
    for name, value in form.items():
        if value != FORM[name]:
            raise ConfigError(
                f"{name} is {value}, but {what} stands on no HRNet of that kind. Leave {name} at {FORM[name]}, or "
                f"choose model.style=hrnet and a head of HRNet: {', '.join(PIXEL_HEADS)}."
            )

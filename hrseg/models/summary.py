"""Parameters and multiply-adds of a network, counted on torch's meta device."""

import copy
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Summary:
    """Cost of one network for one image.

    Attributes:
        parameters: Trainable and frozen weights together, without buffers.
        multiply_adds: Multiply-accumulate operations of convolutions and matrix products for one image.
        size: The image's (height, width).
    """

    parameters: int
    multiply_adds: int
    size: tuple[int, int]


def summary(network: nn.Module, size: tuple[int, int]) -> Summary:
    """Count parameters and multiply-adds of a network for one image of a size.

    The official "GFLOPs" are these multiply-adds divided by 1024**3; W48 at 1024x2048 is 747.5e9
    multiply-adds and was published as 696.2.

    Args:
        network: Follows the network contract.
        size: (height, width) in pixels.

    Example:
        >>> from hrseg.models import create_model
        >>> summary(create_model("hrnet_w18_small_v1"), (1024, 2048)).parameters
        1540819
    """
    copied = copy.deepcopy(network).to("meta").eval()
    bands = getattr(network, "spec", {}).get("in_channels", 3)
    from torch.utils.flop_counter import FlopCounterMode  # brings Triton, which no prediction needs

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copied(torch.empty(1, bands, *size, device="meta"))
    return Summary(
        parameters=sum(p.numel() for p in network.parameters()),
        multiply_adds=counter.get_total_flops() // 2,  # torch counts additions too
        size=size,
    )

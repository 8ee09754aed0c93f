"""First values of the weights: one rule for networks that start from ImageNet, another from scratch.

Source: the official code draws every convolution from a normal with standard deviation 0.001. That is harmless
where ImageNet weights replace it, but a network trained from scratch hardly moves, so there Kaiming's rule
(as in the official ImageNet classifier) is used. The OCR head, which no ImageNet weights replace, keeps torch's
own values under the official rule, as it does there.
"""

from typing import Literal, get_args

from torch import nn

Init = Literal["kaiming", "official"]
INITS: tuple[str, ...] = get_args(Init)
_LEFT = ("cls", "aux", "ocr")
"""Parts of names that the official rule passes over."""


def initialise(network: nn.Module, init: str) -> None:
    """Set convolutions by the named rule, norms to weight 1 and bias 0, in place.

    Args:
        network: Any module.
        init: "kaiming" (normal, fan out) for training from scratch, or "official" (normal, std 0.001).
    """
    for name, module in network.named_modules():
        if init == "official" and any(part in name for part in _LEFT):
            continue
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if init == "official":
                nn.init.normal_(module.weight, std=0.001)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

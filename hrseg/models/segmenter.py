"""Segmentation network of a backbone and a head: image to logits at input size.

The output type is the same in training and evaluation. `forward_all` gives auxiliary logits too, at stride 4, for the
loss; `forward_branches` the branch maps.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from hrseg.models.blocks import resize_logits
from hrseg.models.folded import rewrite


class BackboneWithHead(nn.Module):
    """A backbone with a head of any kind.

    Args:
        backbone: Gives the branch maps.
        head: Takes them.
        spec: The `create_model` arguments that build this network again.

    Shape:
        image (N, bands, H, W) → output of the head
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, spec: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.num_classes: int = spec["num_classes"]
        self.resize: str = spec["resize"]

    def forward(self, image: torch.Tensor) -> Any:
        """Return the head's output. Shape: see the class."""
        return self.head(self.forward_branches(image))

    def forward_branches(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the four branch maps at strides 4, 8, 16 and 32, finest first.

        Shape:
            image (N, bands, H, W) → [(N, C, H/4, W/4), (N, 2C, H/8, W/8), …]
        """
        branches: list[torch.Tensor] = self.backbone(image)  # (N, C * 2**i, H / (4 * 2**i), …)
        return branches


class Segmenter(BackboneWithHead):
    """A backbone with a pixel head: an HRNet, or for baselines an encoder.

    The head gives {"main": logits} (and "aux" where it has one) at stride 4.

    Shape:
        image (N, bands, H, W) → logits (N, K, H, W), float32
    """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at input size. Shape: (N, bands, H, W) → (N, K, H, W)."""
        return self.upsample(self.forward_coarse(image), (image.shape[-2], image.shape[-1]))

    def forward_coarse(self, image: torch.Tensor) -> torch.Tensor:
        """Return the main logits at the head's own resolution. Shape: (N, bands, H, W) → (N, K, H/4, W/4)."""
        return self.forward_all(image)["main"]

    def forward_all(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return every output of the head at stride 4, exactly the maps the official code returns.

        Shape:
            image (N, bands, H, W) → {"main": (N, K, ceil(H/4), ceil(W/4))}, and "aux" likewise for OCR
        """
        outputs: dict[str, torch.Tensor] = self.head(self.forward_branches(image))
        return outputs

    def upsample(self, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Bring logits to label size by this network's policy, in float32.

        Shape:
            logits (N, K, h, w) → (N, K, H, W) of `size`
        """
        return resize_logits(logits, size, self.resize)

    def rewrite(self, dtype: torch.dtype = torch.float32, pack: bool = True) -> bool:
        """Fold norms for inference in place, see `folded.rewrite`; return whether it was possible.

        Args:
            dtype: Of the convolutions.
            pack: Whether weights are reordered for this processor.
        """
        return rewrite(self, dtype, pack)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that belong to the head, for a learning rate of their own."""
        return self.head.parameters()

"""SimpleBaseline's head: nothing but transposed convolutions between the coarsest map and the classes.

The opposite of an HRNet: resolution is given up, then won back by learning, without a single skip.
"""

import torch
from torch import nn

STEPS = 3  # from stride 32 to stride 4
CHANNELS = 256


class HeadSimple(nn.Module):
    """Three 4x4 stride-2 transposed convolutions of 256 channels, then a 1x1 classifier.

    Args:
        branch_channels: Channels of each map, finest first; only the last one is read.
        num_classes: K.
        resize_policy: Unused, there is no fixed interpolation inside.

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
        """Return {"main": logits at stride 4}. Shape: as the class says."""
        height, width = branches[0].shape[-2:]
        maps = self.deconv_layers(branches[-1])  # (N, 256, 8 * ceil(H/32), 8 * ceil(W/32))
        return {"main": self.final_layer(maps[..., :height, :width])}

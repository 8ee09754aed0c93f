"""CSAILVision/semantic-segmentation-pytorch: HRNetV2-W48 encoder and the C1 decoder, two files per network."""

import importlib
import sys
from pathlib import Path

import torch
from torch import nn

from tools.references.cases import Case
from tools.references.original import TorchOriginal, commit_of


class Pair(TorchOriginal):
    """Encoder and decoder; the logits are taken before the decoder's log-softmax."""

    def run(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the decoder's last convolution."""
        decoder = self.network.decoder
        maps = self.network.encoder(image, return_feature_maps=True)
        return {"main": decoder.conv_last(decoder.cbr(maps[-1]))}

    def save(self, folder: Path, name: str) -> list[str]:
        """Write the pair as its training does."""
        files = [f"encoder_{name}_epoch_30.pth", f"decoder_{name}_epoch_30.pth"]
        torch.save(self.network.encoder.state_dict(), folder / files[0])
        torch.save(self.network.decoder.state_dict(), folder / files[1])
        return ["+".join(files)]


def build(case: Case, num_classes: int, checkout: Path) -> Pair:
    """Build one case; the encoder's width is fixed in the code."""
    sys.path.insert(0, str(checkout))
    hrnet = importlib.import_module("mit_semseg.models.hrnet")
    models = importlib.import_module("mit_semseg.models.models")
    network = nn.Module()
    network.encoder = hrnet.HRNetV2(n_class=num_classes)
    network.decoder = models.C1(num_class=num_classes, fc_dim=720)
    return Pair(network)


def version(checkout: Path) -> str:
    """Say what ran."""
    return f"commit {commit_of(checkout)}"

"""timm's HRNets: the ImageNet classifiers, saved as its hub keeps them (safetensors) and as a plain state dict."""

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from tools.references.cases import Case
from tools.references.classification import Classifier

NAMES = {
    "hrnet_w18_small_v1": "hrnet_w18_small",
    "hrnet_w18_small_v2": "hrnet_w18_small_v2",
    "hrnet_w48": "hrnet_w48",
}


class Timm(Classifier):
    """A classifier of timm."""

    def save(self, folder: Path, name: str) -> list[str]:
        """Write both kinds of file."""
        save_file(self.network.state_dict(), folder / f"{name}.safetensors", {"format": "pt"})
        return [f"{name}.safetensors", *super().save(folder, name)]


def build(case: Case, num_classes: int, checkout: Path | None) -> Timm:
    """Build one case, with the 1,000 classes of the published files."""
    return Timm(timm.create_model(NAMES[case.backbone], pretrained=False))


def version(checkout: Path | None) -> str:
    """Say what ran."""
    return f"{timm.__version__}, torch {torch.__version__.split('+')[0]}"

"""PaddleSeg, in an environment with paddlepaddle and paddleseg: its FCN and OCRNet on its HRNet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddleseg
from paddleseg.models import FCN, OCRNet
from paddleseg.models.backbones import hrnet

from tests.reference.one_network import as_paddle
from tools.references.cases import Case

NAMES = {
    "hrnet_w18_small_v1": "HRNet_W18_Small_V1",
    "hrnet_w18_small_v2": "HRNet_W18_Small_V2",
    "hrnet_w48": "HRNet_W48",
}


class Paddle:
    """A network of PaddleSeg; its OCR head answers [main, aux]."""

    negative_gammas = False

    def __init__(self, network: Any) -> None:
        self.network = network
        network.eval()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name → shape, in the source's spelling and order."""
        return {name: tuple(value.shape) for name, value in self.network.state_dict().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Fill the network; every name must be there."""
        missing, unexpected = self.network.set_state_dict(dict(state))
        if missing or unexpected:
            raise ValueError(f"missing {missing[:3]}, unexpected {unexpected[:3]}")

    def logits(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Give the head's outputs at stride 4 by our names."""
        with paddle.no_grad():
            outputs = self.network.head(self.network.backbone(paddle.to_tensor(image)))
        return {name: x.numpy() for name, x in zip(("main", "aux"), outputs, strict=False)}

    def save(self, folder: Path, name: str) -> list[str]:
        """Write the parameters as Paddle does."""
        paddle.save(self.network.state_dict(), str(folder / f"{name}.pdparams"))
        return [f"{name}.pdparams"]


def build(case: Case, num_classes: int, checkout: Path | None, padding_same: bool = True) -> Paddle:
    """Build one case, with PaddleSeg's default padding unless told."""
    aligned = case.policy == "bilinear_aligned"
    maker = getattr(hrnet, NAMES[case.backbone])
    backbone = maker(align_corners=aligned, padding_same=padding_same)
    if case.head == "ocr":
        return Paddle(OCRNet(num_classes, backbone, (0,), align_corners=aligned))
    return Paddle(FCN(num_classes, backbone, align_corners=aligned))


def adopt(case: Case, official: dict[str, np.ndarray], checkout: Path | None) -> tuple[Paddle, dict[str, np.ndarray]]:
    """Build a network that pads as the official one does, and tell an official state dict in its names."""
    original = build(case, official["last_layer.3.bias"].size, checkout, padding_same=False)
    return original, as_paddle(official, original.shapes())


def version(checkout: Path | None) -> str:
    """Say what ran."""
    return f"{paddleseg.__version__}, Paddle {paddle.__version__}"

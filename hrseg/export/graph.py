"""Inference from image to label map or probabilities as one graph: normalization, network, resize, argmax."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from hrseg.errors import ExportError
from hrseg.inference.model_card import INPUT, quiet


class Pipeline(nn.Module):
    """Module from images to the outputs of an exported file.

    Args:
        network: Follows the network contract; it is copied.
        mean: Per-band mean of its images, in 0 … 1.
        std: Per-band standard deviation.
        outputs: Any of "labels", "logits", "probability" and "probabilities".
        dtype: Of the convolutions.
        profile: "pixels" for images of bytes, "plain" for channels first in 0 … 1.

    Shape:
        uint8 (N, H, W, 3) or float32 (N, 3, H, W) → labels uint8 (N, H, W), logits (N, K, H, W),
        probability (N, H, W), probabilities (N, K, H, W)
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        outputs: Sequence[str],
        dtype: torch.dtype = torch.float32,
        profile: str = "pixels",
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.network.to(memory_format=torch.contiguous_format)
        self.outputs = tuple(outputs)
        self.dtype = dtype
        self.profile = profile
        fold = getattr(self.network, "rewrite", None)  # fewer nodes to translate
        if fold is None or not fold(dtype, pack=False):
            for module in self.network.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(dtype)
        m, s = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        white = 255.0 if profile == "pixels" else 1.0
        # Rounded once, as in imaging.to_tensor.
        self.register_buffer("scale", (1.0 / (white * s)).float()[:, None, None])  # (3, 1, 1)
        self.register_buffer("shift", (m / s).float()[:, None, None])  # (3, 1, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs in order. Shape: as of the class."""
        if self.profile == "pixels":
            image = image.permute(0, 3, 1, 2).float()
        x = image * self.scale - self.shift  # (N, 3, H, W)
        logits = self.network(x.to(self.dtype)).float()  # (N, K, H, W)
        found = {"logits": logits}
        if "labels" in self.outputs:
            found["labels"] = logits.argmax(dim=1).to(torch.uint8)  # (N, H, W)
        if "probability" in self.outputs:
            found["probability"] = logits.softmax(dim=1).amax(dim=1)  # (N, H, W)
        if "probabilities" in self.outputs:
            found["probabilities"] = logits.softmax(dim=1)  # (N, K, H, W)
        return tuple(found[name] for name in self.outputs)


def trace(pipeline: Pipeline, size: tuple[int, int] | None = None) -> Any:
    """Trace a pipeline as a torch.export program.

    Args:
        pipeline: To trace, for any batch.
        size: The only (height, width) that the program takes; None for any.

    Raises:
        ExportError: torch.export cannot trace the network.
    """
    dynamic = torch.export.Dim.DYNAMIC
    pixels = pipeline.profile == "pixels"
    # Sizes that no stride divides, so that no dimension looks constant by chance.
    image = torch.zeros(2, *(size or (97, 134)), 3, dtype=torch.uint8 if pixels else torch.float32)
    image = image if pixels else image.permute(0, 3, 1, 2).contiguous()
    sides = () if size else (1, 2) if pixels else (2, 3)
    shapes = {INPUT: dict.fromkeys((0, *sides), dynamic)}
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(pipeline, (image,), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch raises many kinds here
        raise ExportError(
            f"This {type(pipeline.network).__name__} cannot be exported: {_first_line(error)}. HRNets with pixel heads "
            "can; for a baseline choose another encoder."
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # else paths of this machine get into every file
    return program


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")

"""From logits to the maps that are kept of them: one band of rows at a time, so that logits never have to be whole."""

import math

import numpy as np
import torch

from hrseg.kernels.labels import reduce_logits


class Reduction:
    """Maps of some images of one size, filled band by band.

    Args:
        count: Images, N.
        size: (height, width).
        keep: Maps beside mask and confidence: "probabilities", "entropy", "margin".
        kept: trainIds of the classes whose probabilities are kept.

    Example:
        >>> maps = Reduction(1, (1, 2), keep=("margin",))
        >>> maps.add(0, torch.tensor([[[[0.0, 9.0]], [[0.0, 0.0]]]]))
        >>> maps.of(0)["mask"].tolist(), maps.of(0)["margin"].round(2).tolist()
        ([[0, 0]], [[0.0, 1.0]])
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        keep: tuple[str, ...] = (),
        kept: tuple[int, ...] = (),
    ) -> None:
        self.kept = list(kept)
        self.maps: dict[str, np.ndarray] = {
            "mask": np.empty((count, *size), np.uint8),
            "confidence": np.empty((count, *size), np.float32),
        }
        for name in keep:
            if name == "probabilities":
                self.maps[name] = np.empty((count, len(kept), *size), np.float16)
            else:
                self.maps[name] = np.empty((count, *size), np.float32)

    def add(self, top: int, logits: torch.Tensor) -> None:
        """Reduce one band. Shape: logits (N, K, rows, W)."""
        scores = [name for name in ("confidence", "entropy", "margin") if name in self.maps]
        band = reduce_logits(top, logits, scores)
        self._put("mask", top, band.labels)
        for name in scores:
            values = getattr(band, name)
            if name == "entropy":  # in parts of its maximum: 0 is certain, 1 is undecided
                values = (values / math.log(max(2, logits.shape[1]))).clamp(0, 1)
            self._put(name, top, values)
        if "probabilities" in self.maps:
            total = torch.logsumexp(logits, dim=1, keepdim=True)
            self._put("probabilities", top, torch.exp(logits[:, self.kept] - total).half())

    def of(self, index: int) -> dict[str, np.ndarray]:
        """Return the maps of one image, which other images' do not keep in memory."""
        alone = len(self.maps["mask"]) == 1
        return {name: m[index] if alone else m[index].copy() for name, m in self.maps.items()}

    def _put(self, name: str, top: int, values: torch.Tensor) -> None:
        self.maps[name][..., top : top + values.shape[-2], :] = values.cpu().numpy()

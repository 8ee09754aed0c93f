"""From logits to the maps that are kept of them: one band of rows at a time, so that logits never have to be whole."""

import math

import numpy as np
import torch


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
        best, winner = logits.max(dim=1)
        total = torch.logsumexp(logits, dim=1)
        # The winner's softmax, without a second tensor of K probabilities for each pixel.
        confidence = torch.exp(best - total)
        self._put("confidence", top, confidence)
        self._put("mask", top, winner.to(torch.uint8))
        if "margin" in self.maps:
            self._put("margin", top, confidence - _second(logits, total))
        if "entropy" in self.maps or "probabilities" in self.maps:
            probabilities = torch.exp(logits.float() - total.float()[:, None])
            if "entropy" in self.maps:
                self._put("entropy", top, normalised_entropy(probabilities))
            if "probabilities" in self.maps:
                self._put("probabilities", top, probabilities[:, self.kept].half())

    def of(self, index: int) -> dict[str, np.ndarray]:
        """Return the maps of one image, which other images' do not keep in memory."""
        alone = len(self.maps["mask"]) == 1
        return {name: m[index] if alone else m[index].copy() for name, m in self.maps.items()}

    def _put(self, name: str, top: int, values: torch.Tensor) -> None:
        self.maps[name][..., top : top + values.shape[-2], :] = values.cpu().numpy()


def normalised_entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the entropy over the classes in parts of its maximum, ln K: 0 is certain, 1 is undecided.

    Shape:
        (N, K, H, W) → (N, H, W)

    Example:
        >>> normalised_entropy(torch.tensor([[[[0.5, 1.0]], [[0.5, 0.0]]]])).tolist()
        [[[1.0, 0.0]]]
    """
    most = math.log(max(2, probabilities.shape[1]))
    return (torch.special.entr(probabilities).sum(dim=1) / most).clamp(0, 1)


def _second(logits: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Return the second largest probability, 0 where there is one class only."""
    if logits.shape[1] < 2:
        return torch.zeros_like(total)
    return torch.exp(logits.topk(2, dim=1).values[:, 1] - total)

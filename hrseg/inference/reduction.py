"""From logits to the maps that are kept of them: one block at a time, so that logits never have to be whole."""

import math
from typing import Any

import numpy as np
import torch

from hrseg.kernels.labels import LabelBand, reduce_slices

_DTYPES = {"probabilities": np.float16}


class Reduction:
    """Maps of some images of one size, filled block by block, and how sure the network was on average.

    Args:
        count: Images, N.
        size: (height, width).
        keep: Maps beside the mask: "confidence", "probabilities", "entropy", "margin".
        kept: trainIds of the classes whose probabilities are kept.

    Example:
        >>> maps = Reduction(1, (1, 2), keep=("margin",))
        >>> maps.add(0, 0, torch.tensor([[[[0.0, 9.0]], [[0.0, 0.0]]]]))
        >>> maps.of(0)["mask"].tolist(), maps.of(0)["margin"].round(2).tolist()
        ([[0, 0]], [[0.0, 1.0]])
        >>> maps.of(0)["mean_confidence"]
        0.5
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        keep: tuple[str, ...] = (),
        kept: tuple[int, ...] = (),
    ) -> None:
        self.kept = list(kept)
        self.maps: dict[str, np.ndarray] = {"mask": np.empty((count, *size), np.uint8)}
        for name in keep:
            shape = (count, len(kept), *size) if name == "probabilities" else (count, *size)
            self.maps[name] = np.empty(shape, _DTYPES.get(name, np.float32))
        self.scores = tuple(name for name in keep if name != "probabilities")
        self.sure, self.samples = np.zeros(count), 0

    def add(self, top: int, left: int, logits: torch.Tensor) -> None:
        """Reduce one block. Shape: logits (N, K, rows, columns)."""
        want = (*self.scores, "samples")
        for band, rows in reduce_slices(top, left, logits, want):
            self.put(band, left, logits.shape[1])
            if "probabilities" in self.maps:
                total = torch.logsumexp(rows, dim=1, keepdim=True)
                probabilities = torch.exp(rows[:, self.kept] - total).half()
                self._put("probabilities", band.top, left, probabilities)

    def put(self, band: LabelBand, left: int = 0, classes: int = 2) -> None:
        """Keep one band that is reduced already.

        Args:
            band: With "samples" and the scores that are kept.
            left: Its first column.
            classes: K, which the entropy is measured by.
        """
        self._put("mask", band.top, left, band.labels)
        for name in self.scores:
            values = getattr(band, name)
            if name == "entropy":  # in parts of its maximum: 0 is certain, 1 is undecided
                values = (values / math.log(max(2, classes))).clamp(0, 1)
            self._put(name, band.top, left, values)
        if band.samples is not None:
            self.sure += band.samples.double().sum(dim=(1, 2)).cpu().numpy()
            self.samples += band.samples[0].numel()

    def of(self, index: int) -> dict[str, Any]:
        """Return the maps of one image, which other images' do not keep in memory, and "mean_confidence"."""
        alone = len(self.maps["mask"]) == 1
        maps = {name: m[index] if alone else m[index].copy() for name, m in self.maps.items()}
        mean = float(self.sure[index]) / self.samples if self.samples else math.nan
        return {"confidence": None, **maps, "mean_confidence": mean}

    def _put(self, name: str, top: int, left: int, values: torch.Tensor) -> None:
        rows, columns = (slice(a, a + n) for a, n in zip((top, left), values.shape[-2:], strict=True))
        self.maps[name][..., rows, columns] = values.cpu().numpy()

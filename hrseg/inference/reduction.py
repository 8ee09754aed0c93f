"""From logits to the maps that are kept of them: one block at a time, so that logits never have to be whole."""

import math
from typing import Any

import numpy as np
import torch

from hrseg.data.labels import IGNORE_INDEX
from hrseg.kernels.labels import STEP, LabelBand, reduce_slices

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
        height, width = size
        sampled = (count, -(-height // STEP), -(-width // STEP))
        self.samples = np.full(sampled, np.nan, np.float32)  # the confidence of some pixels

    def add(self, top: int, left: int, logits: torch.Tensor) -> None:
        """Reduce one block. Shape: logits (N, K, rows, columns)."""
        want = (*self.scores, "samples")
        for band, rows in reduce_slices(top, left, logits, want):
            self.put(band, left, logits.shape[1])
            if "probabilities" in self.maps:
                total = torch.logsumexp(rows, dim=1, keepdim=True)
                probabilities = torch.exp(rows[:, self.kept] - total).half()
                _put(self.maps["probabilities"], band.top, left, probabilities)

    def put(self, band: LabelBand, left: int = 0, classes: int = 2) -> None:
        """Keep one band that is reduced already.

        Args:
            band: With "samples" and the scores that are kept.
            left: Its first column.
            classes: K, which the entropy is measured by.
        """
        _put(self.maps["mask"], band.top, left, band.labels)
        for name in self.scores:
            values = getattr(band, name)
            if name == "entropy":  # in parts of its maximum: 0 is certain, 1 is undecided
                values = (values / math.log(max(2, classes))).clamp(0, 1)
            _put(self.maps[name], band.top, left, values)
        if band.samples is not None:
            _put(self.samples, -(-band.top // STEP), -(-left // STEP), band.samples)

    def of(self, index: int, valid: np.ndarray | None = None) -> dict[str, Any]:
        """Return the maps of one image, which other images' do not keep in memory, and "mean_confidence".

        Args:
            index: Of the image.
            valid: Which pixels have data, bool (H, W); the others are 255 in the mask and NaN elsewhere.
        """
        alone = len(self.maps["mask"]) == 1
        maps = {name: m[index] if alone else m[index].copy() for name, m in self.maps.items()}
        sure = self.samples[index]
        if valid is not None:
            sure = sure[valid[::STEP, ::STEP]]
            for name, values in maps.items():
                values[..., ~valid] = IGNORE_INDEX if name == "mask" else np.nan
        sure = sure[~np.isnan(sure)]
        mean = float(sure.mean(dtype=np.float64)) if sure.size else math.nan
        return {"confidence": None, **maps, "mean_confidence": mean}


def _put(whole: np.ndarray, top: int, left: int, values: torch.Tensor) -> None:
    rows, columns = (slice(a, a + n) for a, n in zip((top, left), values.shape[-2:], strict=True))
    whole[..., rows, columns] = values.cpu().numpy()

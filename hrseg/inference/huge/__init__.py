"""Images larger than memory: read, segmented and written in bands of rows.

`is_huge` says which files are; `segment_huge` does one of them.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hrseg.errors import ConfigError, HrsegError
from hrseg.imaging import image_size
from hrseg.inference.huge.result import HugeResult
from hrseg.inference.predictor import Predictor
from hrseg.inference.windows import WHOLE_PIXELS, Blend

__all__ = ["DEFAULT_MAX_MEMORY", "KINDS", "HugeResult", "is_huge", "segment_huge"]

DEFAULT_MAX_MEMORY = 2 * 1024**3
KINDS = ("mask", "overlay", "confidence")
"""What can be written of a huge image; masks and confidence as tiled TIFF."""
Progress = Callable[[int, int], None]
"""Is told after each band: rows that are done, rows of the image."""
_BYTES = 40
_BASE = 2**30


def is_huge(path: str | Path, max_memory: int | None = None) -> bool:
    """Tell from a file's head whether it is to be segmented by `segment_huge`.

    Args:
        path: An image file. One that cannot be opened is not huge; whoever reads it says why.
        max_memory: Bytes that the process may use; None means half of what the machine has free.
    """
    try:
        height, width = image_size(path)
    except HrsegError:
        return False
    limit = DEFAULT_MAX_MEMORY if max_memory is None else max_memory
    return height * width > WHOLE_PIXELS and _BYTES * height * width + _BASE > limit


def segment_huge(
    predictor: Predictor,
    path: str | Path,
    target: str | Path,
    *,
    max_memory: int | None = None,
    blend: Blend | None = None,
    overlap: float | None = None,
    kinds: Sequence[str] = ("mask", "overlay"),
    progress: Progress | None = None,
) -> HugeResult:
    """Segment one image in bounded memory.

    Args:
        predictor: Its protocol must look at an image at its own size.
        path: The image.
        target: What the results' names begin with, a path without suffix: `out/a` gives out/a_mask.tif.
        max_memory: Bytes that the process may use; None means DEFAULT_MAX_MEMORY.
        blend: How windows are blended; None takes the protocol's.
        overlap: Shared fraction of neighbouring windows; None takes the protocol's.
        kinds: Of KINDS.
        progress: Called after each band.

    Raises:
        ConfigError: A kind that a huge image does not have, or a protocol that cannot go by bands.
        DataError: The image cannot be read, or a result cannot be written.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"'{kind}' is not made of huge images. Kinds: {', '.join(KINDS)}.")
    start = time.perf_counter()
    prediction = predictor(path)
    target = Path(target)
    mask, overlay = prediction.save(target.parent, target.name)
    height, width = prediction.mask.shape
    if progress:
        progress(height, height)
    files = {"mask": mask, "overlay": overlay}
    seconds = time.perf_counter() - start
    confidence = float(prediction.confidence.mean())
    return HugeResult(files, (height, width), prediction.shares(), confidence, seconds)

"""Images larger than memory: read, segmented and written in bands of rows.

`is_huge` says which files are; `segment_huge` does one of them. A run that is killed goes on after its last
finished band when the same is asked for again, and ends with the same files.
"""

from pathlib import Path

from hrseg.errors import HrsegError
from hrseg.inference.huge.memory import free_memory, parse_size
from hrseg.inference.huge.readers import size_of
from hrseg.inference.huge.result import HugeResult
from hrseg.inference.huge.work import KINDS, huge_paths, segment_huge
from hrseg.inference.windows import WHOLE_PIXELS

__all__ = ["KINDS", "HugeResult", "huge_paths", "is_huge", "parse_size", "segment_huge"]

_BYTES = 40  # of a pixel: picture, normalised tensor, mask, confidence, overlay
_BASE = 2**30  # torch, and one row of windows with its logits


def is_huge(path: str | Path, max_memory: int | None = None) -> bool:
    """Tell from a file's head whether it is to be segmented by `segment_huge`.

    Up to windows.WHOLE_PIXELS no image is huge, however little memory is allowed.

    Args:
        path: An image file. One that cannot be opened is not huge; whoever reads it says why.
        max_memory: Bytes that the process may use; None means half of what the machine has free.
    """
    try:
        height, width = size_of(Path(path))
    except HrsegError:
        return False
    limit = free_memory() // 2 if max_memory is None else max_memory
    return height * width > WHOLE_PIXELS and _BYTES * height * width + _BASE > limit

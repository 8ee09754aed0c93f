"""Images larger than memory: read, segmented and written in bands of rows.

`is_large` says which files are; `segment_huge` does one of them. A run that is killed goes on after its last
finished band when the same is asked for again, and ends with the same files.
"""

from hrseg.inference.large.plan import parse_size
from hrseg.inference.large.segment import KINDS, HugeResult, huge_paths, is_large, segment_huge

__all__ = ["KINDS", "HugeResult", "huge_paths", "is_large", "parse_size", "segment_huge"]

"""Images larger than memory: read, segmented and written in strips of rows.

A run that is killed resumes after its last finished strip when the same command is run again, and ends with the same
files.
"""

from hrseg.inference.large.memory import parse_size
from hrseg.inference.large.segment import (
    KINDS,
    LARGE_PIXELS,
    is_large,
    large_paths,
    segment_large,
)

__all__ = ["KINDS", "LARGE_PIXELS", "is_large", "large_paths", "parse_size", "segment_large"]

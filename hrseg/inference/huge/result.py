"""What became of an image that was read band by band."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class HugeResult:
    """What was written about a huge image, and what it says.

    Attributes:
        files: Kind of result → file.
        size: (height, width) of the image.
        classes: Class name → share of the pixels that have one, largest first.
        confidence: Mean probability of the chosen classes; None where no pixel has one.
        seconds: This run took, from opening the image to the last file on disk.
        resumed: Rows that an earlier run had finished.
        notes: What the file had to be told about, in sentences.
    """

    files: dict[str, Path]
    size: tuple[int, int]
    classes: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    seconds: float = 0.0
    resumed: int = 0
    notes: tuple[str, ...] = ()

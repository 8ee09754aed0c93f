"""A class table as it comes together: its rows, and what is to be said about each guess."""

from collections.abc import Sequence

from hrseg.data.check.result import Finding, Level, Seen
from hrseg.data.labels import IGNORE_INDEX, Color, Label

STRAY = 1e-5
"""Share of the pixels below which a value that stands in a hundredth of the masks is a slip."""


class Draft:
    """Rows and findings as they come together."""

    def __init__(self) -> None:
        self.rows: list[Label] = []
        self.findings: list[Finding] = []
        self.learned = 0

    def say(self, level: Level, kind: str, text: str, files: Sequence[str] = ()) -> None:
        """Tell something."""
        self.findings.append(Finding(level, kind, text, tuple(files)))

    def learn(self, value: int, name: str, color: Color) -> None:
        """Add a class."""
        self.rows.append(Label(value, self.learned, name, color))
        self.learned += 1

    def ignore(self, value: int, name: str, color: Color) -> None:
        """Add a value without class."""
        self.rows.append(Label(value, IGNORE_INDEX, name, color))


def unpacked(value: int) -> Color:
    """Return the colour of 0xRRGGBB."""
    return value >> 16, value >> 8 & 255, value & 255


def is_stray(one: Seen, total: int, masks: int) -> bool:
    """Say whether a value is likely a slip: a few pixels in a few masks."""
    return masks >= 5 and one.images <= max(1, masks // 100) and one.pixels / total < STRAY

"""placeholder"""

from pathlib import Path
from hrseg.data.check.result import Result


def write_page(result: Result, path: Path) -> None:
    """Write the page."""

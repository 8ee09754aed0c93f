"""What a killed process was about to write, found by its name and removed."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_NAME = re.compile(r"\.(.{1,40})-[0-9a-f]{12}(\.\w+)")
"""Name of a file that `imaging.write_atomic` has not renamed yet."""


class Unfinished:
    """The files in a folder that nobody finished, as they were at one moment.

    Args:
        out: Folder of the results.
    """

    def __init__(self, out: Path) -> None:
        self._found: dict[tuple[Path, str, str], list[Path]] = defaultdict(list)
        for path in out.rglob(".*"):
            match = _NAME.fullmatch(path.name)
            if match:
                self._found[path.parent, match[1], match[2]].append(path)

    def remove(self, targets: Iterable[Path]) -> None:
        """Remove what was to become these files; nobody else may be writing them."""
        for target in targets if self._found else ():
            for path in self._found.pop((target.parent, target.stem[:40], target.suffix), []):
                with contextlib.suppress(OSError):
                    path.unlink()

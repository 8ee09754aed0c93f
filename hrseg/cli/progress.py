"""The progress of downloads and counts: a bar on a terminal, always on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hrseg.weights.watch import LogWatcher, Watcher

if TYPE_CHECKING:
    from rich.progress import TaskID


class Bar(Watcher):
    """A bar with bytes, speed and time to go."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._make = lambda: Progress(*columns, console=self._console, transient=True)
        self._progress = self._make()
        self._task: TaskID | None = None

    def start(self, name: str, done: int, total: int | None) -> None:
        """Show the bar."""
        self._progress = self._make()
        self._task = self._progress.add_task(name.split()[0], completed=done, total=total)
        self._progress.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, count)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def watcher() -> Watcher:
    """Return what suits stderr."""
    return Bar() if sys.stderr.isatty() else LogWatcher()


@contextmanager
def counting(title: str) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """Show how many of some things are done: a bar on a terminal, nothing elsewhere.

    Yields:
        A function that takes the total and gives one that is told how many more are done.
    """
    if not sys.stderr.isatty():
        yield lambda total: lambda count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def start(total: int) -> Callable[[int], None]:
            task = bar.add_task(title, total=total)
            return lambda count: bar.advance(task, count)

        yield start

"""The progress of downloads and counts: a bar on a terminal, always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hrseg.errors import printable
from hrseg.weights.download import LogWatcher, Watcher

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


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
            TextColumn("{task.description}", markup=False),
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
        self._task = self._progress.add_task(
            printable(name.split()[0]), completed=done, total=total
        )
        self._progress.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, count)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(printable(text, lines=True), markup=False, highlight=False)

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def download_progress() -> Watcher:
    """Return what suits stderr."""
    return Bar() if sys.stderr.isatty() else LogWatcher()


def _counter() -> "Progress":
    """Make a bar that counts things and says how long the rest takes."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def counting(title: str) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """Show how many of some things are done: a bar on a terminal, nothing elsewhere.

    Yields:
        A function that takes the total and gives one that is told how many more are done.
    """
    if not sys.stderr.isatty():
        yield lambda total: lambda count: None
        return
    with _counter() as bar:

        def start(total: int) -> Callable[[int], None]:
            task = bar.add_task(title, total=total)
            return lambda count: bar.advance(task, count)

        yield start


def row_progress() -> Callable[[int, int], None]:
    """Return what shows how far a very large image is: a bar with the time left, or a line each half minute."""
    return _RowProgress(sys.stderr.isatty()).tell


class _RowProgress:
    """Rows that are done, of one image after the other."""

    EVERY = 30.0

    def __init__(self, bar: bool) -> None:
        self._with_bar = bar
        self._bar: Any = None
        self._start = self._last = 0.0
        self._first = 0

    def tell(self, done: int, total: int) -> None:
        """Hear of another band; an image begins with what an earlier run did."""
        now = time.monotonic()
        if not self._start:
            self._start = self._last = now
            self._first = done
            self._begin(done, total)
        elif self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
        elif now - self._last > self.EVERY and done < total:
            self._last = now
            left = (now - self._start) * (total - done) / max(1, done - self._first)
            print(
                f"{done:,} of {total:,} rows, about {_minutes(left)} left",
                file=sys.stderr,
                flush=True,
            )
        if done >= total:
            self._end()

    def _begin(self, done: int, total: int) -> None:
        if not self._with_bar:
            return
        self._bar = _counter()
        self._bar.add_task("rows", completed=done, total=total)
        self._bar.start()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._start = None, 0.0


def _minutes(seconds: float) -> str:
    """Say a time.

    Example:
        >>> _minutes(50), _minutes(100), _minutes(8000)
        ('50 s', '2 min', '2 h 13 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"

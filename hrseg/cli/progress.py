"""Progress bars on stderr for downloads, counts and very large images."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hrseg.errors import format_duration, printable
from hrseg.weights.download import LogWatcher, Watcher

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID


class Bar(Watcher):
    """A bar with bytes, speed and time to go."""

    def __init__(self) -> None:
        from rich.progress import DownloadColumn, TransferSpeedColumn

        self._make = lambda: _progress(DownloadColumn(), TransferSpeedColumn())
        self._progress = self._make()
        self._task: TaskID | None = None

    def start(self, name: str, done: int, total: int | None) -> None:
        """Start a bar for one file."""
        self._progress = self._make()
        self._task = self._progress.add_task(printable(name.split()[0]), completed=done, total=total)
        self._progress.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, count)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(printable(text, lines=True), markup=False, highlight=False)

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def download_progress() -> Watcher:
    """Return a bar on a terminal, a logger otherwise."""
    return Bar() if sys.stderr.isatty() else LogWatcher()


def _progress(*columns: "ProgressColumn") -> "Progress":
    """Return a transient bar on stderr with the columns given (done/total by default) and the remaining time."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *(columns or (MofNCompleteColumn(),)),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def counting(title: str) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """Show a counter: a bar on a terminal, nothing elsewhere.

    Yields:
        A function that takes the total and returns the function to advance the bar by a count.
    """
    if not sys.stderr.isatty():
        yield lambda total: lambda count: None
        return
    with _progress() as bar:

        def start(total: int) -> Callable[[int], None]:
            task = bar.add_task(title, total=total)
            return lambda count: bar.advance(task, count)

        yield start


def row_progress() -> Callable[[int, int], None]:
    """Return the progress callback of very large images: a bar on a terminal, or a line every 30 seconds."""
    return _RowProgress(sys.stderr.isatty()).update


class _RowProgress:
    """Progress in rows, of one image after the other."""

    EVERY = 30.0

    def __init__(self, bar: bool) -> None:
        self._with_bar = bar
        self._bar: Any = None
        self._start = self._last = 0.0
        self._first = 0

    def update(self, done: int, total: int) -> None:
        """Show the rows done; the first call of an image may have rows of an earlier run."""
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
                f"{done:,} of {total:,} rows, about {format_duration(left)} left",
                file=sys.stderr,
                flush=True,
            )
        if done >= total:
            self._end()

    def _begin(self, done: int, total: int) -> None:
        if not self._with_bar:
            return
        self._bar = _progress()
        self._bar.add_task("rows", completed=done, total=total)
        self._bar.start()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._start = None, 0.0

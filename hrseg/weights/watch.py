"""What is told while a file is fetched: to nobody, to the log, or, by the command line, to a bar on the terminal."""

import logging
import time

log = logging.getLogger(__name__)


class Watcher:
    """Sees a fetch and says nothing; the parent of those that speak."""

    def start(self, name: str, done: int, total: int | None) -> None:
        """A transfer begins.

        Args:
            name: Tag and file.
            done: Bytes that are here already.
            total: Bytes in all, where the server says so.
        """

    def advance(self, count: int) -> None:
        """More bytes have come.

        Args:
            count: How many.
        """

    def note(self, text: str) -> None:
        """Something happened that a person wants to know: a wait, another try.

        Args:
            text: A sentence.
        """

    def stop(self) -> None:
        """The transfer ended, well or not."""


class LogWatcher(Watcher):
    """Plain lines in the log: the start, each tenth or half minute, the end."""

    def __init__(self) -> None:
        self._name, self._done, self._total = "", 0, 0
        self._tenth, self._spoken = 0, 0.0

    def start(self, name: str, done: int, total: int | None) -> None:
        """Say what is fetched and how much it is."""
        self._name, self._done, self._total = name, done, total or 0
        self._tenth = 10 * done // self._total if self._total else 0
        self._spoken = time.monotonic()
        of = f" of {megabytes(self._total)}" if self._total else ""
        what = f"going on after {megabytes(done)}{of}" if done else f"fetching{of[3:]}"
        log.info("%s: %s", name, what)

    def advance(self, count: int) -> None:
        """Say it when another tenth is here, or after half a minute."""
        self._done += count
        tenth = 10 * self._done // self._total if self._total else self._tenth
        now = time.monotonic()
        if tenth > self._tenth or now - self._spoken > 30:
            self._tenth, self._spoken = tenth, now
            part = f" ({100 * self._done // self._total} %)" if self._total else ""
            log.info("%s: %s%s", self._name, megabytes(self._done), part)

    def note(self, text: str) -> None:
        """Pass the sentence on."""
        log.info("%s", text)


def megabytes(count: int) -> str:
    """Write bytes as people read them.

    Example:
        >>> megabytes(264_000_000), megabytes(3_200_000_000), megabytes(900)
        ('264.0 MB', '3.2 GB', '900 bytes')
    """
    if count < 100_000:
        return f"{count:,} bytes"
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"

"""Fetching a file once: locked, resumed, checked, and in its place whole or not at all.

A download grows as NAME.part beside its place in the cache, with a note of which version it is; a broken connection,
a full disk or Ctrl-C leaves it there and the next try goes on from it. Only a file that was checked is renamed.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import filelock

from hrseg.errors import WeightsError
from hrseg.weights.cache import Receipt, Remote, cached, check, keep, offline, receipt_of
from hrseg.weights.http import Answer, TransferError, looks_like_page, request

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


WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between tries that brought nothing; a try that brought bytes starts the row anew."""
SPARE = 64 << 20
"""Bytes that must stay free beside the file."""
_LOOK_AGAIN = 15.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fetch(remote: Remote, watcher: Watcher | None = None) -> Receipt:
    """Return the receipt of a file, after fetching it where it is not in the cache yet.

    A file that was put into its place by hand is checked and accepted.

    Args:
        remote: The file and its place.
        watcher: Sees the progress; None writes it to the log.

    Raises:
        WeightsError: The file cannot be had, or is another one than was published.
    """
    found = cached(remote)
    if found is not None:
        return found
    watcher = watcher or LogWatcher()
    try:
        remote.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(remote, watcher):
            return cached(remote) or _adopt(remote, watcher) or _download(remote, watcher)
    except OSError as error:
        raise _disk_error(remote, error) from error


@contextlib.contextmanager
def _alone(remote: Remote, watcher: Watcher) -> Iterator[None]:
    """Let one process fetch; the others wait and then find the file."""
    lock = filelock.FileLock(f"{remote.path}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        watcher.note(f"{remote.name}: another process is fetching it; waiting for that one")
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_LOOK_AGAIN)
            except filelock.Timeout:
                here = _size(_part(remote))
                watcher.note(
                    f"{remote.name}: still waiting; the other process has {megabytes(here)}"
                )
    try:
        yield
    finally:
        lock.release()


def _adopt(remote: Remote, watcher: Watcher) -> Receipt | None:
    if not remote.path.is_file():
        return None
    before = receipt_of(remote.path)
    try:
        receipt = check(remote, remote.path, before.sha256 if before else "")
    except WeightsError as error:
        raise WeightsError(
            f"{error}. It lies in {remote.path.parent}. Remove it to have it fetched again from {remote.url}"
        ) from error
    receipt = replace(receipt, checked=before.checked if before else receipt.checked)
    watcher.note(f"{remote.name}: {remote.path.name} was here already; {receipt.says()}")
    keep(receipt)
    return receipt


def _download(remote: Remote, watcher: Watcher) -> Receipt:
    forbidden = offline()
    if forbidden:
        raise WeightsError(
            f"{remote.name} is not in the cache, and {forbidden} is set. {_by_hand(remote)}"
        )
    tries = 0
    while True:
        before = _size(_part(remote))
        try:
            named = _exchange(remote, watcher)
            break
        except TransferError as error:
            tries = 1 if _size(_part(remote)) > before else tries + 1
            if not error.passing or tries > len(WAITS):
                raise _gave_up(remote, error) from error
            if error.stale:
                _forget(remote)
            wait = WAITS[tries - 1] if error.wait is None else error.wait
            watcher.note(f"{remote.name}: {error}; trying again in {wait:g} s")
            time.sleep(wait)
        except KeyboardInterrupt:
            here = megabytes(_size(_part(remote)))
            watcher.note(f"{remote.name}: {here} are kept; the next try goes on from there")
            raise
        finally:
            watcher.stop()
    return _settle(remote, named)


def _settle(remote: Remote, named: str) -> Receipt:
    """Check a whole download and put it in its place; a wrong one goes."""
    part = _part(remote)
    try:
        receipt = check(remote, part, named)
    except WeightsError as error:
        _forget(remote)
        raise WeightsError(
            f"{error}. The download was removed. Try once more; if it comes out the same, something on the way changes "
            f"files, or {remote.url} holds another file now: please report that"
        ) from error
    os.replace(part, remote.path)
    _forget(remote)
    keep(receipt)
    return receipt


def _exchange(remote: Remote, watcher: Watcher) -> str:
    """Make one request and append what it brings; return the digest that the server names."""
    part, kept = _part(remote), _kept(remote)
    here = _size(part)
    answer = request(remote.url, here if kept is not None else 0, kept or "")
    with contextlib.closing(answer.stream):
        if answer.start < here:
            if kept is not None:
                watcher.note(
                    f"{remote.name}: the server does not go on with a part; from the start"
                )
            here = 0
        _refuse_other_sizes(remote, answer)
        _refuse_full_disk(remote, (answer.total or remote.size or 0) - here)
        if not here:
            _note(remote).write_text(json.dumps([remote.url, answer.validator]), encoding="utf-8")
        watcher.start(f"{remote.name} {remote.path.name}", here, answer.total)
        with part.open("r+b" if here else "wb", buffering=0) as file:
            file.seek(here)
            for chunk in answer.chunks():
                if not here and looks_like_page(chunk[:200]):
                    raise TransferError("it answers with a web page or a message instead of a file")
                _write(file.fileno(), chunk)
                here += len(chunk)
                watcher.advance(len(chunk))
            os.fsync(file.fileno())
    if answer.total is not None and here < answer.total:
        short = f"the connection broke after {megabytes(here)} of {megabytes(answer.total)}"
        raise TransferError(short, passing=True)
    return answer.sha256


def _write(number: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(number, view) :]


def _refuse_other_sizes(remote: Remote, answer: Answer) -> None:
    if remote.size is not None and answer.total is not None and answer.total != remote.size:
        raise TransferError(
            f"it offers {answer.total:,} bytes where {remote.size:,} were published, so it is another file"
        )


def _refuse_full_disk(remote: Remote, needed: int) -> None:
    free = shutil.disk_usage(remote.path.parent).free
    if needed and free < needed + SPARE:
        raise WeightsError(
            f"{remote.name} needs {megabytes(needed + SPARE)}, and {remote.path.parent} has {megabytes(free)} free. "
            "Free some space, or set HRSEG_CACHE to a folder on a larger disk."
        )


def _disk_error(remote: Remote, error: OSError) -> WeightsError:
    part = _part(remote)
    if error.errno in _FULL:
        return WeightsError(
            f"{remote.name}: the disk is full ({error.strerror}) after {megabytes(_size(part))}. What came is kept "
            f"in {part} and the next try goes on from there. Free some space, or set HRSEG_CACHE to a folder on a "
            "larger disk."
        )
    return WeightsError(
        f"{remote.name} cannot be kept in {remote.path.parent}: {error.strerror or error}. Set "
        "HRSEG_CACHE to a folder that you may write to."
    )


def _gave_up(remote: Remote, error: TransferError) -> WeightsError:
    host = remote.url.split("/")[2] if "//" in remote.url else remote.url
    said = str(error) if not error.reached else f"{host} does not give the file: {error}"
    here = _size(_part(remote))
    if not here:
        _forget(remote)
    rest = f" {megabytes(here)} are kept, and the next try goes on from there." if here else ""
    return WeightsError(f"Could not fetch {remote.name}: {said}.{rest} {_by_hand(remote)}")


def _by_hand(remote: Remote) -> str:
    return (
        f"To do without a connection here, fetch {remote.url} elsewhere and put it, under its own name, at "
        f"{remote.path}"
    )


def _part(remote: Remote) -> Path:
    return remote.path.with_name(f"{remote.path.name}.part")


def _note(remote: Remote) -> Path:
    return remote.path.with_name(f"{remote.path.name}.part.json")


def _kept(remote: Remote) -> str | None:
    """Return the validator of a part that can be gone on with, or None.

    Without ETag and date nothing tells versions apart; then only a published digest makes going on safe.
    """
    try:
        url, validator = json.loads(_note(remote).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fits = url == remote.url and _size(_part(remote)) and (validator or remote.sha256)
    return str(validator) if fits else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _forget(remote: Remote) -> None:
    for path in (_part(remote), _note(remote)):
        path.unlink(missing_ok=True)

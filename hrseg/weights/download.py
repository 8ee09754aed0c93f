"""Download of weight files into the cache: locked, resumed, checked, and complete or absent.

Each tag has a folder, and a file has the name it has at its source, so that a file fetched by hand can be put in
its place; NAME.receipt.json beside it holds what its check found. A download grows as NAME.part with a note of its
version; a broken connection, a full disk or Ctrl-C leaves it there, and the next try resumes it.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import filelock

from hrseg.errors import WeightsError, parse_json
from hrseg.imaging import write_text
from hrseg.weights.checkpoint_io import file_digest
from hrseg.weights.http import TransferError, looks_like_page, request

log = logging.getLogger(__name__)

FULL = 64
"""Digits of a complete sha256."""
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between tries that received nothing; after one that received bytes the first entry is used again."""
HEADROOM = 64 << 20
"""Bytes that must stay free beside the file."""
_NOTE_INTERVAL = 15.0
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TRUE = {"1", "on", "yes", "true"}


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched.

    Attributes:
        name: The tag it belongs to, for messages.
        url: Its address.
        path: Its place in the cache.
        sha256: Published digest, all 64 digits or the first few; may be empty.
        size: Published size in bytes, where there is one.
    """

    name: str
    url: str
    path: Path
    sha256: str = ""
    size: int | None = None

    @property
    def part(self) -> Path:
        """The unfinished download."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def note(self) -> Path:
        """Address and version that the unfinished download belongs to."""
        return self.path.with_name(f"{self.path.name}.part.json")


@dataclass(frozen=True)
class Receipt:
    """Result of checking a file.

    Attributes:
        path: The file.
        url: Its source.
        size: Bytes.
        sha256: Digest of the file.
        checked: "sha256" (against the published digest), "prefix" (against its first digits), "server"
            (against the digest the server named), or "size" (nothing to check it against was published).
    """

    path: Path
    url: str
    size: int
    sha256: str
    checked: str

    def describe(self) -> str:
        """Describe how far the file can be trusted.

        Example:
            >>> Receipt(Path("a"), "", 1, "", "size").describe()
            'unverified: no sha256 is published'
        """
        return {
            "sha256": "verified: its sha256 is the published one",
            "prefix": "verified: its sha256 begins as published",
            "server": "verified: its sha256 is the one its server names",
        }.get(self.checked, "unverified: no sha256 is published")


def cache_dir(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """Return hrseg's cache folder: HRSEG_CACHE, or the cache folder of the platform.

    Args:
        environment: Variables; None takes the process's own.
        platform: A value of sys.platform.

    Example:
        >>> cache_dir({"HRSEG_CACHE": "/data/hrseg"}).as_posix()
        '/data/hrseg'
        >>> cache_dir({"XDG_CACHE_HOME": "/scratch"}, "linux").as_posix()
        '/scratch/hrseg'
    """
    env = os.environ if environment is None else environment
    if env.get("HRSEG_CACHE"):
        return Path(env["HRSEG_CACHE"]).expanduser()
    if platform == "win32":
        local = env.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "hrseg" / "Cache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hrseg"
    xdg = env.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else Path.home() / ".cache") / "hrseg"


def offline() -> str:
    """Return the variable that forbids fetching, HRSEG_OFFLINE or HF_HUB_OFFLINE, or an empty string."""
    names = ("HRSEG_OFFLINE", "HF_HUB_OFFLINE")
    return next((n for n in names if os.environ.get(n, "").strip().lower() in _TRUE), "")


def cached(remote: Remote) -> Receipt | None:
    """Return the receipt of a file that is here and was checked, without reading the file again."""
    receipt = receipt_of(remote.path)
    try:
        fits = receipt is not None and remote.path.stat().st_size == receipt.size
    except OSError:
        return None
    return receipt if receipt and fits and receipt.sha256.startswith(remote.sha256) else None


def receipt_of(path: Path) -> Receipt | None:
    """Return the result of a file's last check, whatever became of the file since."""
    try:
        found = parse_json(_receipt_path(path).read_text(encoding="utf-8"))
        url, sha256, checked = (str(found[key]) for key in ("url", "sha256", "checked"))
        return Receipt(path, url, int(found["size"]), sha256, checked)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check(remote: Remote, path: Path, named: str = "", named_by: str = "server") -> Receipt:
    """Hash a file and compare it with what is published.

    Args:
        remote: The published file.
        path: The file on disk.
        named: Digest from the place `named_by`, used where nothing is published.
        named_by: For the receipt.

    Raises:
        WeightsError: The file is another one.
    """
    size, digest = path.stat().st_size, file_digest(path)
    wanted = remote.sha256 or named
    if not digest.startswith(wanted):
        raise WeightsError(
            f"{remote.name}: the sha256 of {remote.path.name} begins with {digest[:16]}, and should begin with "
            f"{wanted[:16]}"
        )
    if remote.size is not None and size != remote.size:
        raise WeightsError(f"{remote.name}: {remote.path.name} has {size:,} bytes, and should have {remote.size:,}")
    full = "sha256" if len(remote.sha256) == FULL else "prefix"
    checked = full if remote.sha256 else named_by if named else "size"
    return Receipt(remote.path, remote.url, size, digest, checked)


def write_receipt(receipt: Receipt) -> None:
    """Write a receipt beside its file."""
    content = {key: value for key, value in asdict(receipt).items() if key != "path"}
    write_text(_receipt_path(receipt.path), json.dumps(content, indent=1) + "\n")


def _receipt_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.receipt.json")


class Watcher:
    """Observer of a fetch that does nothing; base class of those that show progress."""

    def start(self, name: str, done: int, total: int | None) -> None:
        """A transfer of `name` begins with `done` of `total` bytes (None if unknown) in the cache."""

    def advance(self, count: int) -> None:
        """Another `count` bytes have come."""

    def note(self, text: str) -> None:
        """A sentence for the user: a wait, another try."""

    def stop(self) -> None:
        """The transfer ended, well or not."""


class LogWatcher(Watcher):
    """Observer that writes lines to the log: the start, each tenth or half minute, notes."""

    def __init__(self) -> None:
        self._name, self._done, self._total = "", 0, 0
        self._tenth, self._logged = 0, 0.0

    def start(self, name: str, done: int, total: int | None) -> None:
        """Log what is fetched and how much it is."""
        self._name, self._done, self._total = name, done, total or 0
        self._tenth = 10 * done // self._total if self._total else 0
        self._logged = time.monotonic()
        of = f" of {megabytes(self._total)}" if self._total else ""
        what = f"going on after {megabytes(done)}{of}" if done else f"fetching{of[3:]}"
        log.info("%s: %s", name, what)

    def advance(self, count: int) -> None:
        """Log another tenth, or the state after half a minute."""
        self._done += count
        tenth = 10 * self._done // self._total if self._total else self._tenth
        now = time.monotonic()
        if tenth > self._tenth or now - self._logged > 30:
            self._tenth, self._logged = tenth, now
            part = f" ({100 * self._done // self._total} %)" if self._total else ""
            log.info("%s: %s%s", self._name, megabytes(self._done), part)

    def note(self, text: str) -> None:
        """Log a sentence."""
        log.info("%s", text)


def megabytes(count: int) -> str:
    """Format a number of bytes.

    Example:
        >>> megabytes(264_000_000), megabytes(3_200_000_000), megabytes(900)
        ('264.0 MB', '3.2 GB', '900 bytes')
    """
    if count < 100_000:
        return f"{count:,} bytes"
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def fetch(remote: Remote, watcher: Watcher | None = None) -> Receipt:
    """Return the receipt of a file, after fetching it where it is not in the cache yet.

    A file that was put into its place by hand is checked and accepted.

    Args:
        remote: The file and its place.
        watcher: Observer of the progress; None logs it.

    Raises:
        WeightsError: The file cannot be had, or is another one than was published.
    """
    found = cached(remote)
    if found is not None:
        return found
    watcher = watcher or LogWatcher()
    try:
        remote.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(remote, watcher):
            return cached(remote) or _accept(remote, watcher) or _download(remote, watcher)
    except OSError as error:
        raise _disk_error(remote, error) from error


@contextlib.contextmanager
def _locked(remote: Remote, watcher: Watcher) -> Iterator[None]:
    """Hold the lock of a file; other processes wait and then find the file."""
    lock = filelock.FileLock(f"{remote.path}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        watcher.note(f"{remote.name}: another process is fetching it; waiting for that one")
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_NOTE_INTERVAL)
            except filelock.Timeout:
                here = _size(remote.part)
                watcher.note(f"{remote.name}: still waiting; the other process has {megabytes(here)}")
    try:
        yield
    finally:
        lock.release()


def _accept(remote: Remote, watcher: Watcher) -> Receipt | None:
    if not remote.path.is_file():
        return None
    before = receipt_of(remote.path)
    try:
        receipt = check(remote, remote.path, before.sha256 if before else "")
    except WeightsError as error:
        raise WeightsError(
            f"{error}. It is in {remote.path.parent}. Remove it to have it fetched again from {remote.url}"
        ) from error
    receipt = replace(receipt, checked=before.checked if before else receipt.checked)
    watcher.note(f"{remote.name}: {remote.path.name} was here already; {receipt.describe()}")
    write_receipt(receipt)
    return receipt


def _download(remote: Remote, watcher: Watcher) -> Receipt:
    forbidden = offline()
    if forbidden:
        raise WeightsError(f"{remote.name} is not in the cache, and {forbidden} is set. {_manual_step(remote)}")
    tries = 0
    while True:
        before = _size(remote.part)
        try:
            named = _exchange(remote, watcher)
            break
        except TransferError as error:
            tries = 1 if _size(remote.part) > before else tries + 1  # progress: begin to count anew
            if not error.passing or tries > len(WAITS):
                raise _download_failed(remote, error) from error
            if error.stale:
                _remove_part(remote)
            wait = WAITS[tries - 1] if error.wait is None else error.wait
            watcher.note(f"{remote.name}: {error}; trying again in {wait:g} s")
            time.sleep(wait)
        except KeyboardInterrupt:
            here = megabytes(_size(remote.part))
            watcher.note(f"{remote.name}: {here} are saved; the next try resumes there")
            raise
        finally:
            watcher.stop()
    return _verify_download(remote, named)


def _verify_download(remote: Remote, named: str) -> Receipt:
    """Check a complete download and rename it to its place; remove a wrong one."""
    part = remote.part
    try:
        receipt = check(remote, part, named)
    except WeightsError as error:
        _remove_part(remote)
        raise WeightsError(
            f"{error}. The download was removed. Try once more; if it fails again, something on the way changes "
            f"files, or {remote.url} holds another file now: please report that"
        ) from error
    os.replace(part, remote.path)
    _remove_part(remote)
    write_receipt(receipt)
    return receipt


def _exchange(remote: Remote, watcher: Watcher) -> str:
    """Make one request and append its body to the part; return the digest that the server names."""
    part, validator = remote.part, _validator(remote)
    here = _size(part)
    answer = request(remote.url, here if validator is not None else 0, validator or "")
    with contextlib.closing(answer.stream):
        if answer.start < here:
            if validator is not None:
                watcher.note(f"{remote.name}: the server cannot resume; downloading from the start")
            here = 0
        if remote.size is not None and answer.total not in (None, remote.size):
            raise TransferError(
                f"it offers {answer.total:,} bytes where {remote.size:,} were published, so it is another file"
            )
        _refuse_full_disk(remote, (answer.total or remote.size or 0) - here)
        if not here:
            remote.note.write_text(json.dumps([remote.url, answer.validator]), encoding="utf-8")
        watcher.start(f"{remote.name} {remote.path.name}", here, answer.total)
        with part.open("r+b" if here else "wb", buffering=0) as file:
            file.seek(here)
            for chunk in answer.chunks():
                if not here and looks_like_page(chunk[:200]):
                    raise TransferError("it answers with a web page or a message instead of a file")
                _write(file.fileno(), chunk)
                here += len(chunk)
                watcher.advance(len(chunk))
            os.fsync(file.fileno())  # before it gets its name
    if answer.total is not None and here < answer.total:
        short = f"the connection broke after {megabytes(here)} of {megabytes(answer.total)}"
        raise TransferError(short, passing=True)
    return answer.sha256


def _write(number: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:  # a full disk takes a part of it before it fails
        view = view[os.write(number, view) :]


def _refuse_full_disk(remote: Remote, needed: int) -> None:
    free = shutil.disk_usage(remote.path.parent).free
    if needed and free < needed + HEADROOM:
        raise WeightsError(
            f"{remote.name} needs {megabytes(needed + HEADROOM)}, and {remote.path.parent} has {megabytes(free)} free. "
            "Free some space, or set HRSEG_CACHE to a folder on a larger disk."
        )


def _disk_error(remote: Remote, error: OSError) -> WeightsError:
    part = remote.part
    if error.errno in _FULL_DISK:
        return WeightsError(
            f"{remote.name}: the disk is full ({error.strerror}) after {megabytes(_size(part))}. The part is saved in "
            f"{part}, and the next try resumes there. Free space, or set HRSEG_CACHE to a folder on a larger disk."
        )
    return WeightsError(
        f"{remote.name} cannot be saved in {remote.path.parent}: {error.strerror or error}. Set "
        "HRSEG_CACHE to a folder that you may write to."
    )


def _download_failed(remote: Remote, error: TransferError) -> WeightsError:
    host = remote.url.split("/")[2] if "//" in remote.url else remote.url
    reason = str(error) if not error.reached else f"{host} does not give the file: {error}"
    here = _size(remote.part)
    if not here:
        _remove_part(remote)
    rest = f" {megabytes(here)} are saved, and the next try resumes there." if here else ""
    return WeightsError(f"Could not fetch {remote.name}: {reason}.{rest} {_manual_step(remote)}")


def _manual_step(remote: Remote) -> str:
    return f"Without a connection, fetch {remote.url} elsewhere and put it, under its own name, at {remote.path}"


def _validator(remote: Remote) -> str | None:
    """Return the validator of a part that can be resumed, or None.

    Without ETag and date nothing distinguishes versions; then only a published digest makes resuming safe.
    """
    try:
        url, validator = parse_json(remote.note.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    fits = url == remote.url and _size(remote.part) and (validator or remote.sha256)
    return str(validator) if fits else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _remove_part(remote: Remote) -> None:
    for path in (remote.part, remote.note):
        path.unlink(missing_ok=True)

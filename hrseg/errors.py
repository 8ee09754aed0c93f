"""Exceptions that users can cause, and the formatting of their messages.

A message names what is wrong with the value, what would be right, and the next step. The command line
prints it as one paragraph and exits with 2; any other exception is a bug of hrseg and keeps its traceback.
"""

import contextlib
import difflib
import errno
import json
import math
import os
import re
import shlex
import signal
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

EXIT_USAGE = 2
"""Exit code of an error that the user can correct."""


class HrsegError(Exception):
    """Base class of the errors that a user can correct; the middle of a very long message is left out."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= 3000 else f"{text[:1500]} … {text[-1000:]}"


class ConfigError(HrsegError, ValueError):
    """A wrong option or recipe, or options that exclude each other."""


class DataError(HrsegError, ValueError):
    """A wrong or unreadable image, mask or dataset folder."""


class WeightsError(HrsegError, RuntimeError):
    """A checkpoint or weight file that cannot be opened or does not fit the network."""


class TrainingError(HrsegError, RuntimeError):
    """A run that cannot continue, such as after a loss that is not finite."""


class ExportError(HrsegError, RuntimeError):
    """A network that cannot be exported, or an exported file whose outputs differ from the network's."""


class MissingExtraError(HrsegError, ImportError):
    """A missing optional package."""


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest choice, or an empty string.

    Example:
        >>> did_you_mean("ocrr", ["v1", "ocr"])
        " Did you mean 'ocr'?"
        >>> did_you_mean("zzz", ["v1", "ocr"])
        ''
    """
    close = difflib.get_close_matches(str(value), list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown_choice(kind: str, value: str, choices: Iterable[str]) -> str:
    """Return the message for a name that a table lacks, with the names of the table and a suggestion.

    Example:
        >>> unknown_choice("head", "ocrr", ["v2", "ocr"])
        "Unknown head 'ocrr'. Heads: ocr, v2. Did you mean 'ocr'?"
    """
    names = sorted(choices)
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return f"Unknown {kind} '{value}'. {plural.capitalize()}: {', '.join(names)}.{did_you_mean(value, names)}"


def format_duration(seconds: float) -> str:
    """Return a duration as short text.

    Example:
        >>> format_duration(42), format_duration(754), format_duration(7300)
        ('42 s', '12 min 34 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def write_hint(error: OSError) -> str:
    """Return the next step after a file could not be written.

    Example:
        >>> write_hint(OSError(errno.ENOSPC, "No space left on device"))
        'Free some space, or choose another folder.'
        >>> write_hint(PermissionError(errno.EACCES, "Permission denied"))
        'Choose a folder that can be written to.'
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or choose another folder."
    return "Choose a folder that can be written to."


def parse_json(text: str | bytes) -> Any:
    """Parse JSON as `json.loads` does, but whole numbers of more than 64 bits and lists without end.

    Python hashes numbers modulo 2**61 - 1, so a file could choose longer ones that all collide as keys.

    Raises:
        ValueError: The text is no such JSON.
    """
    try:
        return json.loads(text, parse_int=whole_number)
    except RecursionError as error:
        raise ValueError("its lists nest without end") from error


def whole_number(text: str | int) -> int:
    """Return a whole number that an untrusted file uses as an id.

    Raises:
        ValueError: It has more than 64 bits, or is none.

    Example:
        >>> whole_number("-17")
        -17
    """
    if len(str(text)) > 20:
        raise ValueError(f"the number {str(text)[:20]}… has more than 64 bits")
    return int(text)


def exit_text(code: int) -> str:
    """Return how a process ended, as the end of a sentence about it.

    Example:
        >>> exit_text(-9), exit_text(2)
        ('was ended by signal SIGKILL; unless a user did that, memory ran out', 'ended with exit code 2')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; unless a user did that, memory ran out" if name == "SIGKILL" else ""
    return f"was ended by signal {name}{hint}"


def os_error_text(error: OSError) -> str:
    """Return file, reason and next step of an error of the operating system, as one paragraph.

    Example:
        >>> os_error_text(FileNotFoundError(errno.ENOENT, "No such file or directory", "runs/a"))
        'runs/a: No such file or directory. It was removed or renamed meanwhile; put it back, or begin anew.'
        >>> os_error_text(OSError(errno.EROFS, "Read-only file system", "runs"))
        'runs: Read-only file system. Choose a folder that can be written to.'
    """
    reason = error.strerror or str(error).strip().rpartition("\n")[2] or type(error).__name__
    where = "" if error.filename is None else f"{path_text(str(error.filename))}: "
    step = write_hint(error)
    if isinstance(error, (ConnectionError, TimeoutError)):
        step = "Look at the connection, and try again."
    elif isinstance(error, (FileNotFoundError, NotADirectoryError)) or error.errno == errno.ESTALE:
        step = "It was removed or renamed meanwhile; put it back, or begin anew."
    return f"{where}{reason.rstrip('.')}. {step}"


def install_command(extra: str) -> str:
    """Return the command that adds an extra to the installation at hand: a clone, a wheel, or an index's package.

    Args:
        extra: A name of pyproject.toml's optional dependencies.
    """
    clone = Path(__file__).parents[1]
    source: Path | None = clone
    if not (clone / "pyproject.toml").is_file():
        try:
            text = metadata.distribution("hrseg").read_text("direct_url.json")  # pip writes where it came from
        except metadata.PackageNotFoundError:
            text = None
        url = urlsplit(str(parse_json(text or "{}").get("url", "")))
        source = Path(url2pathname(url.path)) if url.scheme == "file" else None
    if source is None or not source.exists():
        return f"pip install 'hrseg[{extra}]'"
    place = "." if source == Path.cwd() else source
    return f"pip install {shlex.quote(f'{place}[{extra}]')}"


def first_process() -> bool:
    """Return whether this is the first of a run's processes, by the variables of torchrun, SLURM and Lightning."""
    names = ("RANK",) if "RANK" in os.environ else _RANKS  # torchrun numbers nodes in its own order
    return all(os.environ.get(name, "0") == "0" for name in names)


_RANKS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")

_LIBRARIES = {
    *("PIL", "rasterio", "cv2", "av", "imagecodecs"),
    *("fsspec", "s3fs", "gcsfs", "botocore", "aiobotocore", "aiohttp"),
}
"""Packages that read and write images: their exceptions concern one image."""


@contextlib.contextmanager
def guarded(name: object) -> Iterator[None]:
    """Convert exceptions of image libraries to errors of one image; bugs of hrseg keep their traceback.

    Args:
        name: Of the image, for the message.

    Raises:
        DataError: For an exception of a library, other than `HrsegError` and `MemoryError`.
    """
    try:
        yield
    except (HrsegError, MemoryError):
        raise
    except Exception as error:
        if not _of_library(error):
            raise
        text = f"{type(error).__name__}: {error}".rstrip(": .")
        raise DataError(
            f"{name} failed in the library that reads and writes images ({text}). Open it in an image program and "
            "save it again, or leave it out."
        ) from error


def _of_library(error: BaseException) -> bool:
    """Return whether an error is of an image library: its type or the innermost frame is."""
    trace, module = error.__traceback__, type(error).__module__
    while trace is not None:
        where, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return not _LIBRARIES.isdisjoint({module.partition(".")[0], where.partition(".")[0]})


_UNWRITABLE = re.compile("[\ud800-\udfff]")  # bytes of a file name that are not UTF-8
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def path_text(path: str | os.PathLike[str]) -> str:
    r"""Return a path as valid Unicode text; bytes that are not UTF-8 are escaped.

    Example:
        >>> path_text("a/ü.png"), path_text("a/\udcff.png")
        ('a/ü.png', 'a/\\xff.png')
    """
    return _UNWRITABLE.sub(_escape, os.fspath(path))


def name_text(name: str) -> str:
    """Return a name with "_" for each byte that is not UTF-8 and each control character."""
    return re.sub(r"[\n\t]", "_", _CONTROL.sub("_", name))


def cell_text(text: str) -> str:
    """Return a text for a cell of CSV that no spreadsheet takes for a formula, by a ' before its first sign.

    Example:
        >>> cell_text("=cmd|' /C calc'!A0"), cell_text("sky")
        ("'=cmd|' /C calc'!A0", 'sky')
    """
    return f"'{text}" if text.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def printable(text: object, lines: bool = False) -> str:
    r"""Escape control characters that would move the cursor, color, reorder or end a terminal's line.

    Args:
        text: May hold names from foreign archives, tables or files.
        lines: Whether line breaks stay.

    Example:
        >>> printable("a\x1b[31m\nb"), printable("x\ny", lines=True)
        ('a\\u001b[31m\\u000ab', 'x\ny')
    """
    escaped = _CONTROL.sub(_escape, str(text))
    return escaped if lines else escaped.replace("\n", "\\u000a").replace("\t", " ")


def columns(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), indent: str = "") -> list[str]:
    """Format cells as lines of aligned columns: those in `left` to the left, the others to the right.

    Example:
        >>> columns([["class", "IoU"], ["sky", "80.0"]])
        ['class   IoU', 'sky    80.0']
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        pairs = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in pairs]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def percent(share: float) -> str:
    """Format a share in per cent; small shares do not become zero.

    Example:
        >>> percent(0.4567), percent(0.00012), percent(1e-7), percent(0)
        ('45.7 %', '0.012 %', '< 0.001 %', '0 %')
    """
    if 0 < share < 1e-5:
        return "< 0.001 %"
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2g} %"


def score(fraction: float, digits: int = 2) -> str:
    """Format a score in per cent without the sign; "-" for NaN.

    Example:
        >>> score(0.80912), score(float("nan")), score(0.5, 1)
        ('80.91', '-', '50.0')
    """
    return "-" if math.isnan(fraction) else f"{100 * fraction:.{digits}f}"


def seconds_text(seconds: float) -> str:
    """Format a duration with three digits.

    Example:
        >>> seconds_text(0.0234), seconds_text(0.2), seconds_text(1.6), seconds_text(75)
        ('23.4 ms', '200 ms', '1.60 s', '75.0 s')
    """
    return f"{three_digits(seconds)} s" if seconds >= 1 else f"{three_digits(1000 * seconds)} ms"


def three_digits(value: float) -> str:
    """Format a number with three digits and no exponent.

    Example:
        >>> [three_digits(value) for value in (0.01234, 1.2345, 12.345, 123.45, 1234.5)]
        ['0.0123', '1.23', '12.3', '123', '1,234']
    """
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def first_few(values: Sequence[object], count: int = 5) -> str:
    """Join the first values with commas, and "…" for the others.

    Example:
        >>> first_few([3, 1, 2], 2)
        '3, 1, …'
    """
    return ", ".join(map(str, values[:count])) + ", …" * (len(values) > count)


def list_unreadable(broken: Sequence[str]) -> list[str]:
    """Return lines for the report of files that could not be read."""
    if not broken:
        return []
    head = f"{len(broken):,} file{'s' * (len(broken) != 1)} could not be read:"
    more = [f"  and {len(broken) - 9:,} more (--json lists them all)"] * (len(broken) > 9)
    return ["", head, *(f"  {text}" for text in broken[:9]), *more]

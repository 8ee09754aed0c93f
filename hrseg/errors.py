"""Every error a user can cause, and the sentence that explains it.

A message says what is wrong with the value, what would be right, and the next step. The command line
prints it as one paragraph and exits with 2; any other exception is a bug of ours and keeps its traceback.
"""

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator


class HrsegError(Exception):
    """Something the user can mend. Parent of all errors raised on purpose."""


class ConfigError(HrsegError, ValueError):
    """An option, a recipe or a combination of them that cannot work."""


class DataError(HrsegError, ValueError):
    """An image, a mask or a dataset folder that is not what it should be."""


class WeightsError(HrsegError, RuntimeError):
    """A checkpoint or weight file that cannot be opened, or does not fit the network."""


class TrainingError(HrsegError, RuntimeError):
    """A run that cannot go on, such as a loss that is no longer a number."""


class ExportError(HrsegError, RuntimeError):
    """A network that cannot become a file, or a file that does not answer as its network does."""


class MissingExtraError(HrsegError, ImportError):
    """An optional package is needed for what was asked."""


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
    """Say that a name is not in a table, what the table holds, and the likely intention.

    Example:
        >>> unknown_choice("head", "ocrr", ["v2", "ocr"])
        "Unknown head 'ocrr'. Heads: ocr, v2. Did you mean 'ocr'?"
    """
    names = sorted(choices)
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return (
        f"Unknown {kind} '{value}'. {plural.capitalize()}: {', '.join(names)}."
        f"{did_you_mean(value, names)}"
    )


def elsewhere(error: OSError) -> str:
    """Advise what to do after a file could not be written.

    Example:
        >>> elsewhere(OSError(errno.ENOSPC, "No space left on device"))
        'Free some space, or choose another folder.'
        >>> elsewhere(PermissionError(errno.EACCES, "Permission denied"))
        'Choose a folder that can be written to.'
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or choose another folder."
    return "Choose a folder that can be written to."


_LIBRARIES = {
    *("PIL", "rasterio", "cv2", "av", "imagecodecs"),
    *("fsspec", "s3fs", "gcsfs", "botocore", "aiobotocore", "aiohttp"),
}
"""Packages that read and write images: what they raise is about one image."""


@contextlib.contextmanager
def guarded(name: object) -> Iterator[None]:
    """Raise whatever an image library raises as an error of one image; our own bugs keep their traceback.

    Args:
        name: Of the image, for the message.

    Raises:
        DataError: A library raised something that is no `HrsegError` and not for want of memory.
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
    """Tell whether an image library raised an error: its type is of one, or the innermost frame."""
    trace, module = error.__traceback__, type(error).__module__
    while trace is not None:
        where, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return not _LIBRARIES.isdisjoint({module.partition(".")[0], where.partition(".")[0]})

"""Images behind http and https addresses: fetched when their turn comes, with limits of size and time."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from hrseg.errors import DataError
from hrseg.inference.sources.names import safe_name
from hrseg.inference.sources.picture import Limits, Picture, Source, Wishes
from hrseg.weights.transfer import TransferError, request


def is_address(word: str) -> bool:
    """Tell whether a word is an http or https address."""
    return word.lower().startswith(("http://", "https://"))


def open_address(word: str, wishes: Wishes) -> Source:
    """Open one image behind an address; its results are named as the last part of the address.

    Raises:
        DataError: The address names no host.
    """
    parts = urlsplit(word)
    if not parts.hostname:
        raise DataError(f"{word} names no host. An address is like https://example.org/street.jpg.")
    last = PurePosixPath(unquote(parts.path)).name
    name = safe_name(last or parts.hostname, stem=bool(last))

    def pictures() -> Iterator[Picture]:
        yield Picture(word, name, fetch=partial(fetch_address, word, wishes.limits))

    return Source(pictures)


def fetch_address(address: str, limits: Limits) -> bytes:
    """Fetch what is behind an address. Redirects are followed, but never from https to less.

    Raises:
        DataError: There is no answer, it is an error or a web page, or it is too large or too slow.
    """
    until = time.monotonic() + limits.seconds
    taken = bytearray()
    try:
        answer = request(_quoted(address), timeout=min(limits.seconds, 30.0))
        with answer.stream:
            if (answer.total or 0) > limits.size:
                raise _too_large(address, answer.total or 0, limits)
            for chunk in answer.chunks():
                taken += chunk
                if len(taken) > limits.size:
                    raise _too_large(address, len(taken), limits)
                if time.monotonic() > until:
                    raise DataError(
                        f"{address} gave {len(taken):,} bytes in {limits.seconds:g} seconds and was not done. Try "
                        "again, or fetch it by other means."
                    )
    except TransferError as error:
        raise DataError(
            f"{address} cannot be fetched: {error}. Check the address in a browser."
        ) from error
    if answer.total is not None and len(taken) != answer.total:
        raise DataError(
            f"{address} ended after {len(taken):,} of {answer.total:,} bytes. Try again."
        )
    return bytes(taken)


def _quoted(address: str) -> str:
    """Write letters that no address may hold as their codes; what is coded already stays."""
    parts = urlsplit(address)
    path, query = quote(parts.path, "/%:=&~+!$,;'@()*"), quote(parts.query, "/%:=&~+!$,;'@()*?")
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _too_large(address: str, size: int, limits: Limits) -> DataError:
    return DataError(
        f"{address} is at least {size:,} bytes, more than the {limits.size:,} that are fetched of one picture. Fetch "
        "it by other means and name the file."
    )

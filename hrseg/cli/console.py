"""Output to the terminal: text on stdout, errors on stderr, styles on a terminal."""

import logging
import os
import re
import sys
import textwrap
from collections.abc import Sequence

from hrseg import errors
from hrseg.errors import first_process, printable

EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, errors.EXIT_USAGE, 130
BOLD, DIM = "1", "2"


def print_out(text: str) -> int:
    """Print to stdout in the process of rank 0, and return OK."""
    if first_process():
        print_line(text.rstrip("\n"))
    return EXIT_OK


def print_line(text: str) -> None:
    """Print to stdout and flush; control sequences other than our styles are escaped."""
    parts = _STYLE.split(text) if sys.stdout.isatty() else [text]
    parts[::2] = [printable(part, lines=True) for part in parts[::2]]  # between the styles
    print("".join(parts), flush=True)


_STYLE = re.compile(r"(\x1b\[[012]m)")


def print_error(text: str) -> None:
    """Print to stderr as one wrapped paragraph, colored on a terminal."""
    text = printable(text, lines=True)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble(("hrseg: ", "bold red"), text))
        return
    for line in f"hrseg: {text}".splitlines():
        print(
            textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False),
            file=sys.stderr,
        )


class LogFormatter(logging.Formatter):
    """Log messages with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, escaped."""
        return printable(super().format(record), lines=True)


def styled(text: str, code: str) -> str:
    """Add a terminal style, unless the output is a file or NO_COLOR is set."""
    plain = "NO_COLOR" in os.environ or not sys.stdout.isatty()
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def paragraph(title: str, names: Sequence[str]) -> str:
    """Return names as a paragraph under a bold title."""
    text = textwrap.fill(", ".join(names) or "none", 96, initial_indent="  ", subsequent_indent="  ")
    return f"{styled(title, BOLD)}\n{text}"

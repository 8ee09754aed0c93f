"""Output to the terminal: text on stdout, errors on stderr, styles on a terminal."""

import argparse
import dataclasses
import json
import logging
import math
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrseg import errors
from hrseg.errors import first_process, path_text, printable

EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, errors.EXIT_USAGE, 130
BOLD, DIM = "1", "2"


def print_out(text: str) -> int:
    """Print to stdout in the process of rank 0, and return OK."""
    if first_process():
        print_line(text.rstrip("\n"))
    return EXIT_OK


def print_result(arguments: argparse.Namespace, result: Any, text: str) -> int:
    """Print a result as text, or with --json as JSON; docs/json.md names the keys of each verb.

    Args:
        arguments: With `json`.
        result: May hold paths, dataclasses, arrays and tensors; NaN becomes null.
        text: For people.
    """
    return print_out(json.dumps(plain(result), ensure_ascii=False, indent=1) if arguments.json else text)


def print_row(arguments: argparse.Namespace, result: Mapping[str, Any], text: str) -> int:
    """Do the same for one of several results: JSON on one line."""
    return print_out(json.dumps(plain(result), ensure_ascii=False) if arguments.json else text)


def plain(value: Any) -> Any:
    """Return a value as JSON has it.

    Example:
        >>> plain({"a": Path("b/c"), "score": float("nan"), "size": (1, 2)})
        {'a': 'b/c', 'score': None, 'size': [1, 2]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return path_text(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return [plain(one) for one in value]


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

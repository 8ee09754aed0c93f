"""The command line: `main.py` reads the words, one page per noun holds its verbs, `terminal.py` prints."""

from hrseg.cli.console import INTERRUPTED, OK, OURS, YOURS
from hrseg.cli.main import main

__all__ = ["INTERRUPTED", "OK", "OURS", "YOURS", "main"]

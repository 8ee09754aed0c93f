"""The command line: `main.py` reads the words, one page per noun holds its verbs, `terminal.py` prints."""

from hrseg.cli.main import main
from hrseg.cli.terminal import INTERRUPTED, OK, OURS, YOURS

__all__ = ["INTERRUPTED", "OK", "OURS", "YOURS", "main"]

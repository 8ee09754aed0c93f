"""Command line: the entry point `main` and its exit codes."""

from hrseg.cli.console import INTERRUPTED, OK, OURS, YOURS
from hrseg.cli.main import main

__all__ = ["INTERRUPTED", "OK", "OURS", "YOURS", "main"]

"""What the console prints: names of strangers cannot steer it, whichever function prints them."""

import logging
import sys

import pytest

from hrseg.cli import console, main
from hrseg.cli.console import BOLD, LogFormatter, print_error, print_line, print_out, styled

NAME = "road\x1b]0;title\x07\x1b[31m\x9b1m\u202e\udcff"


def log(text: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter("%(message)s"))
    handler.handle(logging.LogRecord("hrseg", logging.WARNING, "", 0, "%s", (text,), None))


@pytest.mark.parametrize("printed", [print_out, print_line, print_error, log])
@pytest.mark.parametrize("terminal_", [False, True])
def test_names_are_escaped_wherever_they_are_printed(printed, terminal_, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal_)
    printed(f"class {NAME}")
    done = capsys.readouterr()
    text = done.out + done.err
    assert r"road\u001b]0;title\u0007\u001b[31m" in text
    assert r"\xff" in text
    assert not set(text) & set("\x1b\x07\x9b\u202e\udcff")


def test_our_own_styles_reach_a_terminal_and_no_file(capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    title = styled("title", BOLD)
    print_out(title)
    assert capsys.readouterr().out == "\x1b[1mtitle\x1b[0m\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    print_out(title)
    assert "\x1b" not in capsys.readouterr().out


def test_a_refusal_that_names_a_file_is_escaped(tmp_path, capsys):
    assert main(["predict", str(tmp_path / "a\x1b[31m.png")]) == console.EXIT_USAGE
    assert "\x1b" not in capsys.readouterr().err

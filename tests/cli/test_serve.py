from pathlib import Path

import pytest

from hrseg.cli import EXIT_USAGE, main


def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words, message in (
        (["--timeout", "0"], "--timeout 0.0 lets nothing through"),
        (["--token-file", str(tmp_path / "none")], "cannot be read"),
        (["--model", "nothing"], "No model 'nothing'"),
    ):
        assert main(["serve", *words]) == EXIT_USAGE
        assert message in " ".join(capsys.readouterr().err.split())

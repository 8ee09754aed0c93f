import subprocess
from pathlib import Path

import pytest

from hrseg.cli import EXIT_OK, main
from hrseg.config import load_config


def test_printed_configs_are_recipes_again(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["fit", "--config", "demo", "--print-config", "run.seed=3"],
        ["config", "show", "demo", "run.seed=3"],
        ["config", "show", "demo", "run.seed=3", "--origin"],
    ):
        assert main(words) == EXIT_OK
        Path("demo.yaml").write_text(capsys.readouterr().out)
        assert load_config("demo.yaml") == load_config("demo", ["run.seed=3"])
        Path("demo.yaml").unlink()


def test_origin_names_file_line_and_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "demo", "--origin", "optim.lr=0.5"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  lr: 0.5 ") and line.endswith("# command line") for line in lines)
    assert any("# packaged configs/demo.yaml:" in line for line in lines)


def test_completion_knows_verbs_recipes_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == EXIT_OK
        script = capsys.readouterr().out
        for word in ("validate", "cityscapes_w48_ohem", "data.batch_size=", "resume"):
            assert word in script, f"{shell} lacks {word}"


def test_bash_completes_a_recipe_and_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == EXIT_OK
    script = (
        capsys.readouterr().out
        + """
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hrseg_complete; echo "${COMPREPLY[*]}"; }
    try hrseg va
    try hrseg fit --config fold
    try hrseg fit --config demo data.bat
    try hrseg config explain optim.lr
    try hrseg predict --precision ""
    """
    )
    Path("complete.sh").write_text(script)
    result = subprocess.run(["bash", "complete.sh"], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines() == [
        "validate",
        "folder_w18",
        "data.batch_size=",
        "optim.lr",
        "auto fp32 bf16",
    ]

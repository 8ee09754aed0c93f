"""What the README tells people to type is understood."""

import re
import shlex
from pathlib import Path

import pytest

from hrseg.cli.main import _parse
from hrseg.config import load_config

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [
    part.split("#")[0].strip()
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    for part in line.split("&&")
    if part.strip().startswith("hrseg ")
]


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command):
    words = _parse(shlex.split(command)[1:])
    assert callable(words.run)
    config = getattr(words, "config", None)
    made = any(f"--write {config}" in earlier for earlier in COMMANDS)
    if isinstance(config, str) and not made:
        load_config(config, words.overrides)


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_python_compiles_and_uses_promised_names(code):
    import hrseg

    compile(code, "README.md", "exec")
    for name in re.findall(r"hrseg\.(\w+)", code):
        assert name in hrseg.__all__


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text()))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()

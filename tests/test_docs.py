"""Commands and scripts in docs/ are well formed."""

import re
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in sorted(DOCS.rglob("*.md"))
    for number, block in enumerate(re.findall(r"```(?:bash|sh)\n(.*?)```", path.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_shell_blocks_are_valid_bash(block):
    done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    generated = {DOCS / name for name in (DOCS / ".gitignore").read_text().split()}  # by docs/conf.py
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists() or path.parent / target in generated, target


@pytest.mark.parametrize("name", ["architecture.md", "contributing.md"])
def test_paths_named_for_contributors_exist(name):
    text = (DOCS / name).read_text()
    paths = set(re.findall(r"`((?:hrseg|tests|tools|configs|docs)/[\w/.]*)`", text))
    assert len(paths) > 3
    gone = [path for path in sorted(paths) if not (DOCS.parent / path).exists()]
    assert not gone
    for table, path in re.findall(r"row of `([A-Z]+)` (?:in `([\w/.]+)`|there)", text):
        assert not path or re.search(rf"^{table}\b", (DOCS.parent / path).read_text(), re.MULTILINE), table


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_tests_named_on_a_page_exist(path):
    named = re.findall(r"`(tests/[\w/.]*)`", path.read_text())
    assert not [name for name in named if not (DOCS.parent / name).exists()]


def test_the_picture_of_packages_shows_all_of_them():
    picture = (DOCS / "architecture.md").read_text().split("```")[1]
    folders = {path.parent.name for path in (DOCS.parent / "hrseg").glob("*/__init__.py")}
    assert folders == set(re.findall(r"\b(\w+)/", picture))
